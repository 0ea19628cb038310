use async_trait::async_trait;
use serde_json::{Value, json};
use sre_core::{Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification, Secret, Severity};

use super::post::{Post, shortened, truncated};

/// PagerDuty, by its [Events API v2](https://developer.pagerduty.com/docs/events-api-v2-overview): an alert triggers the
/// incident of its key, which is acknowledged and resolved by that key.
#[derive(Debug)]
pub struct PagerDutyChannel {
    name: String,
    url: Secret,
    routing_key: Secret,
}

const ENDPOINT: &str = "https://events.pagerduty.com/v2/enqueue";
/// PagerDuty's limits for the summary and the key.
const SUMMARY: usize = 1_024;
const KEY: usize = 255;
/// Limits of ours, which keep an event far below PagerDuty's 512 KiB.
const DETAIL: usize = 8_192;
const DETAILS: usize = 40;
const LINKS: usize = 20;

impl PagerDutyChannel {
    /// Creates a channel to the integration with this routing key.
    pub fn new(name: impl Into<String>, routing_key: Secret) -> Self {
        Self { name: name.into(), url: Secret::new(ENDPOINT), routing_key }
    }

    /// Sets another endpoint, such as `https://events.eu.pagerduty.com/v2/enqueue`.
    #[must_use]
    pub fn with_url(mut self, url: Secret) -> Self {
        self.url = url;
        self
    }

    fn body(&self, alert: &Alert, action: &str) -> Value {
        let mut body = json!({
            "routing_key": self.routing_key.expose(),
            "event_action": action,
            "dedup_key": shortened(&alert.dedup_key, KEY),
        });
        if action == "trigger" {
            body["payload"] = payload(alert);
            body["client"] = json!("agent-sre");
            let links: Vec<Value> =
                alert.links.iter().take(LINKS).map(|(name, url)| json!({"href": url, "text": name})).collect();
            body["links"] = links.into();
        }
        body
    }

    async fn post(
        &self,
        notification: Notification<'_>,
        action: &str,
        http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        let body = self.body(notification.alert, action);
        let post = Post { secrets: &[&self.routing_key], ..Post::json(&self.url, &body) };
        post.send(notification.at, http).await
    }
}

fn payload(alert: &Alert) -> Value {
    let severity = match alert.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info | Severity::Resolved => "info",
    };
    let summary = if alert.title.is_empty() { &alert.dedup_key } else { &alert.title };
    let source = if alert.agent_id.is_empty() { &alert.source } else { &alert.agent_id };
    let own = [("message", &alert.message), ("slo", &alert.slo_name)];
    let details = own.into_iter().filter(|(_, value)| !value.is_empty());
    let others = alert.labels.iter().chain(&alert.metadata).map(|(name, value)| (name.as_str(), value));
    let details: serde_json::Map<String, Value> = details
        .chain(others)
        .take(DETAILS)
        .map(|(name, value)| (truncated(name, KEY), truncated(value, DETAIL).into()))
        .collect();
    json!({
        "summary": truncated(summary, SUMMARY),
        "severity": severity,
        "source": truncated(source, SUMMARY),
        "timestamp": alert.starts_at.to_string(),
        "component": truncated(&alert.slo_name, SUMMARY),
        "class": "slo",
        "custom_details": details,
    })
}

#[async_trait]
impl AlertChannel for PagerDutyChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs_http(&self) -> bool {
        true
    }

    async fn deliver(
        &self,
        notification: Notification<'_>,
        http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        let action = if notification.alert.severity == Severity::Resolved { "resolve" } else { "trigger" };
        self.post(notification, action, http).await
    }

    async fn acknowledge(
        &self,
        notification: Notification<'_>,
        _by: &str,
        http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        self.post(notification, "acknowledge", http).await.map(|_| ())
    }
}
