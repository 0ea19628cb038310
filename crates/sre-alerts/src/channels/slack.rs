use async_trait::async_trait;
use serde_json::{Value, json};
use sre_core::{Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification, Secret, Severity};

use super::post::{Post, facts, truncated};

/// Slack, by an [incoming webhook](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
///
/// The message is in [Block Kit](https://docs.slack.dev/reference/block-kit/blocks): a header, the message, fields, and a
/// button per link. Slack has no incidents, so a resolution is a separate message.
#[derive(Debug)]
pub struct SlackChannel {
    name: String,
    url: Secret,
}

/// Slack's limits, in characters: a header's text.
const HEADER: usize = 150;
/// A section's text.
const SECTION: usize = 3_000;
/// A field of a section, and how many it may have.
const FIELD: usize = 2_000;
const FIELDS: usize = 10;
/// The fallback text, for notifications.
const TEXT: usize = 4_000;
/// A button's label and URL; how many buttons to show is our choice.
const BUTTON: usize = 75;
const BUTTON_URL: usize = 3_000;
const BUTTONS: usize = 5;

impl SlackChannel {
    /// Creates a channel to the webhook with this URL, which is a secret.
    pub fn new(name: impl Into<String>, url: Secret) -> Self {
        Self { name: name.into(), url }
    }
}

fn body(alert: &Alert) -> Value {
    let mark = match alert.severity {
        Severity::Critical => "🔴",
        Severity::Warning => "🟠",
        Severity::Info => "🔵",
        Severity::Resolved => "🟢",
    };
    let title = format!("{mark} {}", if alert.title.is_empty() { "Alert" } else { &alert.title });
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": truncated(&title, HEADER), "emoji": true},
    })];
    if !alert.message.is_empty() {
        blocks.push(json!({"type": "section", "text": markdown(&escaped(&alert.message), SECTION)}));
    }
    let fields: Vec<Value> = facts(alert)
        .take(FIELDS)
        .map(|(name, value)| markdown(&format!("*{}*\n{}", escaped(name), escaped(value)), FIELD))
        .collect();
    blocks.push(json!({"type": "section", "fields": fields}));
    let buttons: Vec<Value> = alert
        .links
        .iter()
        .filter(|(name, url)| !name.is_empty() && url.starts_with("http") && url.chars().count() <= BUTTON_URL)
        .take(BUTTONS)
        .map(|(name, url)| {
            json!({"type": "button", "url": url, "text": {"type": "plain_text", "text": truncated(name, BUTTON)}})
        })
        .collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    let context = format!("{} · {}", escaped(&alert.source), escaped(&alert.dedup_key));
    blocks.push(json!({"type": "context", "elements": [markdown(&context, SECTION)]}));
    json!({"text": truncated(&escaped(&title), TEXT), "blocks": blocks})
}

fn markdown(text: &str, most: usize) -> Value {
    json!({"type": "mrkdwn", "text": truncated(text, most)})
}

/// Escapes the three characters that are special in Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[async_trait]
impl AlertChannel for SlackChannel {
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
        Post::json(&self.url, &body(notification.alert)).send(notification.at, http).await
    }
}
