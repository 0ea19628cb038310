use async_trait::async_trait;
use serde_json::{Value, json};
use sre_core::{Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification, Secret, Severity};

use super::post::{Post, facts, truncated};

/// Microsoft Teams, by the webhook of a Workflows flow ("When a Teams webhook request is received") and an
/// [Adaptive Card](https://adaptivecards.microsoft.com/). Office 365 connectors and their MessageCard format are retired.
///
/// Teams has no incidents, so a resolution is a separate message.
#[derive(Debug)]
pub struct TeamsChannel {
    name: String,
    url: Secret,
}

/// Teams' limit for a message, in bytes; the other limits are ours, in characters.
const PAYLOAD: usize = 28_000;
const TITLE: usize = 500;
const MESSAGE: usize = 12_000;
const FACT: usize = 500;
const FACTS: usize = 12;
const LINKS: usize = 5;
const URL: usize = 1_000;

impl TeamsChannel {
    /// Creates a channel to the flow with this URL, which is a secret.
    pub fn new(name: impl Into<String>, url: Secret) -> Self {
        Self { name: name.into(), url }
    }
}

/// Returns the message, with its texts shortened until it fits into the payload: characters may take several bytes.
fn body(alert: &Alert) -> Value {
    let mut most = MESSAGE;
    loop {
        let body = card(alert, most);
        if body.to_string().len() <= PAYLOAD || most < 2 {
            return body;
        }
        most /= 2;
    }
}

fn card(alert: &Alert, most: usize) -> Value {
    let (style, color) = match alert.severity {
        Severity::Critical => ("attention", "Attention"),
        Severity::Warning => ("warning", "Warning"),
        Severity::Info => ("accent", "Accent"),
        Severity::Resolved => ("good", "Good"),
    };
    let facts: Vec<Value> = facts(alert)
        .take(FACTS)
        .map(|(name, value)| {
            json!({"title": truncated(name, FACT.min(most)), "value": truncated(value, FACT.min(most))})
        })
        .collect();
    let actions: Vec<Value> = alert
        .links
        .iter()
        .filter(|(_, url)| url.starts_with("http") && url.chars().count() <= URL.min(most))
        .take(LINKS)
        .map(|(name, url)| json!({"type": "Action.OpenUrl", "title": truncated(name, FACT.min(most)), "url": url}))
        .collect();
    let title = if alert.title.is_empty() { "Alert" } else { &alert.title };
    let heading = json!({
        "type": "TextBlock", "size": "Large", "weight": "Bolder", "wrap": true, "color": color,
        "text": truncated(title, TITLE.min(most)),
    });
    let message = json!({"type": "TextBlock", "wrap": true, "text": truncated(&alert.message, most)});
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": {"width": "Full"},
                "body": [
                    {"type": "Container", "style": style, "bleed": true, "items": [heading]},
                    message,
                    {"type": "FactSet", "facts": facts},
                ],
                "actions": actions,
            },
        }],
    })
}

#[async_trait]
impl AlertChannel for TeamsChannel {
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
