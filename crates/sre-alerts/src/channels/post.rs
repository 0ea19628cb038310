use bytes::Bytes;
use http::{HeaderName, Request};
use serde_json::Value;
use sre_core::{ChannelError, DeliveryReceipt, HttpClient, HttpError, Secret, Timestamp, retry_after};

/// So much of what a vendor says goes into errors.
const MESSAGE_CHARS: usize = 200;

const LONG_ENOUGH_FOR_A_SECRET: usize = 8;

/// A request to a vendor, whose URL or headers may hold a secret.
pub(super) struct Post<'a> {
    pub(super) url: &'a Secret,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Vec<u8>,
    /// What must not be in an error, besides the URL.
    pub(super) secrets: &'a [&'a Secret],
}

impl<'a> Post<'a> {
    pub(super) fn json(url: &'a Secret, body: &Value) -> Self {
        Self { url, headers: Vec::new(), body: body.to_string().into_bytes(), secrets: &[] }
    }

    pub(super) async fn send(self, at: Timestamp, http: &dyn HttpClient) -> Result<DeliveryReceipt, ChannelError> {
        let mut request = Request::post(self.url.expose()).header(http::header::CONTENT_TYPE, "application/json");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let invalid = |_| HttpError::Invalid { what: "a URL or header that cannot be used".to_owned() };
        let request = request.body(Bytes::from(self.body)).map_err(invalid)?;
        let answer = match http.send(request).await {
            // The vendor took it, whatever else it had to say.
            Err(HttpError::TooLarge { status, .. }) if (200..300).contains(&status) => {
                return Ok(DeliveryReceipt { status: Some(status) });
            }
            answer => answer?,
        };
        let status = answer.status().as_u16();
        if answer.status().is_success() {
            return Ok(DeliveryReceipt { status: Some(status) });
        }
        let mut message = String::from_utf8_lossy(answer.body()).split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in self.secrets.iter().map(|secret| secret.expose()).chain(parts(self.url.expose())) {
            message = message.replace(secret, "***");
        }
        let message = truncated(&message, MESSAGE_CHARS);
        Err(ChannelError::Rejected { status, message, retry_after: retry_after(answer.headers(), at) })
    }
}

/// The parts of a URL that may be a secret: whatever is long and not the host.
fn parts(url: &str) -> impl Iterator<Item = &str> {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let parts = url.split(['/', '?', '&', '=', '@', ':', '#']);
    parts.filter(move |part| part.len() >= LONG_ENOUGH_FOR_A_SECRET && *part != host)
}

/// Names and texts of an alert, as many and as much as a vendor should be sent.
#[cfg(any(feature = "alertmanager", feature = "webhook"))]
pub(super) fn limited<'a>(
    texts: impl IntoIterator<Item = (&'a String, &'a String)>,
    name: impl Fn(&str) -> String,
    most: usize,
) -> std::collections::BTreeMap<String, String> {
    const TEXTS: usize = 64;
    const NAME: usize = 128;
    texts.into_iter().take(TEXTS).map(|(key, text)| (truncated(&name(key), NAME), truncated(text, most))).collect()
}

/// What a message to people shows beside its text: name and value, the values that are there.
#[cfg(any(feature = "slack", feature = "teams"))]
pub(super) fn facts(alert: &sre_core::Alert) -> impl Iterator<Item = (&str, &str)> {
    let own = [
        ("Severity", alert.severity.as_str()),
        ("Agent", alert.agent_id.as_str()),
        ("Objective", alert.slo_name.as_str()),
    ];
    let labels = alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    own.into_iter().chain(labels).filter(|(_, value)| !value.is_empty())
}

/// The text, or as much of it as fits into so many characters with a mark at its end.
pub(super) fn truncated(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let end = text.char_indices().nth(most.saturating_sub(1)).map_or(0, |(at, _)| at);
            format!("{}…", &text[..end])
        }
    }
}

/// A key as it is, or, where it is too long, its beginning with a digest of the whole: what was apart stays apart.
#[cfg(any(feature = "opsgenie", feature = "pagerduty", feature = "webhook"))]
pub(super) fn shortened(key: &str, most: usize) -> String {
    use std::hash::Hasher;

    use siphasher::sip::SipHasher13;

    if key.chars().count() <= most {
        return key.to_owned();
    }
    let mut digest = SipHasher13::new();
    digest.write(key.as_bytes());
    format!("{}{:016x}", truncated(key, most - 16), digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_ends_with_a_mark() {
        assert_eq!(truncated("naïve", 5), "naïve");
        assert_eq!(truncated("naïvely", 5), "naïv…");
        assert_eq!(truncated("ab", 1), "…");
        assert_eq!(truncated("", 0), "");
    }

    #[test]
    #[cfg(any(feature = "opsgenie", feature = "pagerduty", feature = "webhook"))]
    fn keys_that_are_too_long_stay_apart() {
        let (one, other) = (format!("{}1", "x".repeat(300)), format!("{}2", "x".repeat(300)));
        assert_eq!(shortened(&one, 255).chars().count(), 255);
        assert_ne!(shortened(&one, 255), shortened(&other, 255));
        assert_eq!(shortened("short", 255), "short");
    }
}
