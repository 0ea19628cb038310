use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sre_core::{
    Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification, Secret, Severity, Timestamp,
};

use super::post::{Post, limited, truncated};

/// Prometheus Alertmanager, by its [API v2](https://prometheus.io/docs/alerting/latest/alerts_api/).
///
/// Alertmanager identifies alerts by their labels, and routes are commonly by the label `severity`. Each incident therefore is
/// one alert per severity, of which at most one fires: every message ends the others by their `endsAt`. Since alerts are not
/// posted repeatedly, a firing one ends in a year unless it is resolved before.
#[derive(Debug)]
pub struct AlertmanagerChannel {
    name: String,
    url: Secret,
}

/// How far in the future the `endsAt` of a firing alert is.
const FIRING: Duration = Duration::from_secs(365 * 86_400);
/// Alertmanager has no limits of its own for texts; these keep them readable.
const TEXT: usize = 4_096;
const LABEL: usize = 1_024;

impl AlertmanagerChannel {
    /// Creates a channel to the Alertmanager at a URL such as `http://127.0.0.1:9093`.
    pub fn new(name: impl Into<String>, url: Secret) -> Self {
        let endpoint = format!("{}/api/v2/alerts", url.expose().trim_end_matches('/'));
        Self { name: name.into(), url: Secret::new(endpoint) }
    }
}

fn body(alert: &Alert, at: Timestamp) -> Value {
    let severities = [Severity::Critical, Severity::Warning, Severity::Info];
    severities.into_iter().map(|severity| alert_of(alert, severity, at)).collect()
}

fn alert_of(alert: &Alert, severity: Severity, at: Timestamp) -> Value {
    let ends_at = if severity == alert.severity {
        at.saturating_add(FIRING)
    } else {
        alert.ends_at.unwrap_or(at).min(at).max(alert.starts_at)
    };
    let mut annotations = limited(alert.links.iter().chain(&alert.metadata), label_name, TEXT);
    annotations.insert("summary".to_owned(), truncated(&alert.title, TEXT));
    annotations.insert("description".to_owned(), truncated(&alert.message, TEXT));
    annotations.retain(|_, text| !text.is_empty());
    let mut body = json!({
        "labels": labels(alert, severity),
        "annotations": annotations,
        "startsAt": alert.starts_at.to_string(),
        "endsAt": ends_at.to_string(),
    });
    if let Some(url) = alert.links.values().find(|url| url.starts_with("http")) {
        body["generatorURL"] = url.as_str().into();
    }
    body
}

fn labels(alert: &Alert, severity: Severity) -> BTreeMap<String, String> {
    let own = [
        ("alertname", if alert.slo_name.is_empty() { "AgentAlert" } else { "SloBurn" }),
        ("agent", &alert.agent_id),
        ("slo", &alert.slo_name),
        ("source", &alert.source),
        ("key", &alert.dedup_key),
        ("severity", severity.as_str()),
    ];
    let others = limited(&alert.labels, label_name, LABEL);
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), truncated(value, LABEL)));
    others.into_iter().chain(own).filter(|(_, value)| !value.is_empty()).collect()
}

/// Returns a valid Prometheus label name: letters, digits and underscores, not beginning with a digit.
fn label_name(text: &str) -> String {
    let mut name: String = text.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        name.insert(0, '_');
    }
    name
}

#[async_trait]
impl AlertChannel for AlertmanagerChannel {
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
        Post::json(&self.url, &body(notification.alert, notification.at)).send(notification.at, http).await
    }
}
