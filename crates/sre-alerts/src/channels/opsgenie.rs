use async_trait::async_trait;
use http::header::AUTHORIZATION;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sre_core::{Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification, Secret, Severity};

use super::post::{Post, shortened, truncated};

/// Opsgenie, by its [Alert API](https://docs.opsgenie.com/docs/alert-api): an alert is created with its key as alias,
/// acknowledged and closed by that alias.
///
/// Atlassian ended new sales of Opsgenie on June 4, 2025, and ends its support, with the API, on April 5, 2027; it moves
/// customers to Jira Service Management or Compass
/// ([announcement](https://support.atlassian.com/opsgenie/docs/what-happens-when-opsgenie-is-turned-off/)).
#[derive(Debug)]
pub struct OpsgenieChannel {
    name: String,
    url: String,
    api_key: Secret,
}

const ENDPOINT: &str = "https://api.opsgenie.com";
const MESSAGE: usize = 130;
const ALIAS: usize = 512;
const DESCRIPTION: usize = 15_000;
const ENTITY: usize = 512;
const SOURCE: usize = 100;
const TAG: usize = 50;
const TAGS: usize = 20;
/// All details together, names and values.
const DETAILS: usize = 8_000;

impl OpsgenieChannel {
    /// Creates a channel to the integration with this API key.
    pub fn new(name: impl Into<String>, api_key: Secret) -> Self {
        Self { name: name.into(), url: ENDPOINT.to_owned(), api_key }
    }

    /// Sets another host, such as `https://api.eu.opsgenie.com`.
    #[must_use]
    pub fn with_url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    async fn post(
        &self,
        path: &str,
        body: &Value,
        notification: Notification<'_>,
        http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        let url = Secret::new(format!("{}/v2/alerts{path}", self.url.trim_end_matches('/')));
        let headers = vec![(AUTHORIZATION, format!("GenieKey {}", self.api_key.expose()))];
        let post = Post { headers, secrets: &[&self.api_key], ..Post::json(&url, body) };
        post.send(notification.at, http).await
    }
}

fn body(alert: &Alert) -> Value {
    let priority = match alert.severity {
        Severity::Critical => "P1",
        Severity::Warning => "P3",
        Severity::Info | Severity::Resolved => "P5",
    };
    let title = if alert.title.is_empty() { &alert.dedup_key } else { &alert.title };
    let tags: Vec<String> =
        alert.labels.iter().take(TAGS).map(|(name, value)| truncated(&format!("{name}:{value}"), TAG)).collect();
    let mut left = DETAILS;
    let mut details = serde_json::Map::new();
    for (name, value) in alert.metadata.iter().chain(&alert.links).chain(&alert.labels) {
        let room = left.saturating_sub(name.chars().count());
        if room < 2 {
            break;
        }
        let value = truncated(value, room);
        left = room.saturating_sub(value.chars().count());
        details.insert(name.clone(), value.into());
    }
    json!({
        "message": truncated(title, MESSAGE),
        "alias": shortened(&alert.dedup_key, ALIAS),
        "description": truncated(&alert.message, DESCRIPTION),
        "entity": truncated(&alert.agent_id, ENTITY),
        "source": truncated(&alert.source, SOURCE),
        "priority": priority,
        "tags": tags,
        "details": details,
    })
}

/// Returns the path of an action on the alert whose alias is the key.
fn by_alias(alert: &Alert, action: &str) -> String {
    let alias = shortened(&alert.dedup_key, ALIAS);
    let alias = utf8_percent_encode(&alias, NON_ALPHANUMERIC);
    format!("/{alias}/{action}?identifierType=alias")
}

#[async_trait]
impl AlertChannel for OpsgenieChannel {
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
        let alert = notification.alert;
        if alert.severity == Severity::Resolved {
            let note =
                json!({"source": truncated(&alert.source, SOURCE), "note": truncated(&alert.message, DESCRIPTION)});
            return self.post(&by_alias(alert, "close"), &note, notification, http).await;
        }
        self.post("", &body(alert), notification, http).await
    }

    async fn acknowledge(
        &self,
        notification: Notification<'_>,
        by: &str,
        http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        let note = json!({"user": truncated(by, SOURCE), "source": truncated(&notification.alert.source, SOURCE)});
        self.post(&by_alias(notification.alert, "acknowledge"), &note, notification, http).await.map(|_| ())
    }
}
