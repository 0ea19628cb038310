use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use serde_json::{Value, json};
use sha2::Sha256;
use sre_core::{
    Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification, Secret, Severity, Timestamp,
};

use super::post::{Post, limited, shortened, truncated};

/// JSON to any URL, in the format and with the signature of
/// [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
///
/// The body is `{"type": "alert.triggered" | "alert.resolved", "timestamp": …, "data": …}`, where `data` is the alert as
/// JSON. `webhook-id` is the same at every attempt, so that a receiver can recognise repetitions.
#[derive(Debug)]
pub struct WebhookChannel {
    name: String,
    url: Secret,
    key: Option<SigningKey>,
}

struct SigningKey(Vec<u8>);

/// A secret that is not in the format of Standard Webhooks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected `whsec_` and 24 to 64 bytes in base64")]
pub struct InvalidSecret {
    found: &'static str,
}

/// The specification recommends bodies below 20 KB; these limits keep usual alerts below that.
const TEXT: usize = 8_192;
const DETAIL: usize = 1_024;

impl WebhookChannel {
    /// Creates a channel to a URL, which may be a secret; not signed.
    pub fn new(name: impl Into<String>, url: Secret) -> Self {
        Self { name: name.into(), url, key: None }
    }

    /// Signs messages with a secret of the form `whsec_…`.
    pub fn with_secret(mut self, secret: &Secret) -> Result<Self, InvalidSecret> {
        let found = |found| InvalidSecret { found };
        let encoded = secret.expose().strip_prefix("whsec_").ok_or_else(|| found("a text without `whsec_`"))?;
        let bytes = STANDARD.decode(encoded).map_err(|_| found("invalid base64"))?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(found("a secret of another length"));
        }
        self.key = Some(SigningKey(bytes));
        Ok(self)
    }

    async fn post(
        &self,
        event: &str,
        notification: Notification<'_>,
        http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        let id = format!("msg_{:032x}", notification.id);
        let mut post = Post::json(&self.url, &body(notification.alert, event, notification.at));
        let seconds = notification.at.as_secs().to_string();
        if let Some(key) = &self.key {
            let signature = key.sign(&id, &seconds, &post.body);
            post.headers.push((HeaderName::from_static("webhook-signature"), signature));
        }
        post.headers.push((HeaderName::from_static("webhook-id"), id));
        post.headers.push((HeaderName::from_static("webhook-timestamp"), seconds));
        post.send(notification.at, http).await
    }
}

impl SigningKey {
    fn sign(&self, id: &str, seconds: &str, body: &[u8]) -> String {
        // HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("any length"));
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

fn body(alert: &Alert, event: &str, at: Timestamp) -> Value {
    let texts = |texts| limited(texts, str::to_owned, DETAIL);
    let alert = Alert {
        title: truncated(&alert.title, DETAIL),
        message: truncated(&alert.message, TEXT),
        severity: alert.severity,
        source: truncated(&alert.source, DETAIL),
        agent_id: truncated(&alert.agent_id, DETAIL),
        slo_name: truncated(&alert.slo_name, DETAIL),
        metadata: texts(&alert.metadata),
        dedup_key: shortened(&alert.dedup_key, DETAIL),
        starts_at: alert.starts_at,
        ends_at: alert.ends_at,
        one_off: alert.one_off,
        labels: texts(&alert.labels),
        links: texts(&alert.links),
    };
    json!({"type": event, "timestamp": at.to_string(), "data": alert})
}

#[async_trait]
impl AlertChannel for WebhookChannel {
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
        let resolved = notification.alert.severity == Severity::Resolved;
        self.post(if resolved { "alert.resolved" } else { "alert.triggered" }, notification, http).await
    }

    async fn acknowledge(
        &self,
        notification: Notification<'_>,
        _by: &str,
        http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        self.post("alert.acknowledged", notification, http).await.map(|_| ())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
