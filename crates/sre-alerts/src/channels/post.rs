use bytes::Bytes;
use http::{HeaderName, Request};
use serde_json::Value;
use sre_core::{ChannelError, DeliveryReceipt, HttpClient, HttpError, Secret, Timestamp, retry_after};

/// How many characters of a vendor's answer an error shows.
const MESSAGE_CHARS: usize = 200;

/// Shorter parts of a URL are not considered secret.
const MIN_SECRET_LEN: usize = 8;

/// A POST request to a vendor, whose URL or headers may hold a secret.
pub(super) struct Post<'a> {
    pub(super) url: &'a Secret,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Vec<u8>,
    /// What errors must not show, besides the parts of the URL.
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
        let invalid = |_| HttpError::Invalid { what: "a URL or header that is not valid".to_owned() };
        let request = request.body(Bytes::from(self.body)).map_err(invalid)?;
        let answer = match http.send(request).await {
            // Accepted; the answer that is too large does not matter.
            Err(HttpError::TooLarge { status, .. }) if (200..300).contains(&status) => {
                return Ok(DeliveryReceipt::with_status(status));
            }
            answer => answer?,
        };
        let status = answer.status().as_u16();
        if answer.status().is_success() {
            return Ok(DeliveryReceipt::with_status(status));
        }
        let mut message = String::from_utf8_lossy(answer.body()).split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in self.secrets.iter().map(|secret| secret.expose()).chain(parts(self.url.expose())) {
            message = message.replace(secret, "***");
        }
        let message = truncated(&message, MESSAGE_CHARS);
        Err(ChannelError::Rejected { status, message, retry_after: retry_after(answer.headers(), at) })
    }
}

/// Returns the parts of a URL that may be a secret: all that are long and not the host.
fn parts(url: &str) -> impl Iterator<Item = &str> {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let parts = url.split(['/', '?', '&', '=', '@', ':', '#']);
    parts.filter(move |part| part.len() >= MIN_SECRET_LEN && *part != host)
}

/// Returns names and texts of an alert, limited in number and length.
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

/// Returns the name and value of each non-empty field and label that a message shows beside its text.
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

/// Returns the text, shortened to at most `most` characters; a shortened text ends in `…`.
pub(super) fn truncated(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let end = text.char_indices().nth(most.saturating_sub(1)).map_or(0, |(at, _)| at);
            format!("{}…", &text[..end])
        }
    }
}

/// Returns the key; one that is too long is shortened and ends in a digest, so that different keys stay different.
#[cfg(any(feature = "opsgenie", feature = "pagerduty", feature = "webhook"))]
pub(super) fn shortened(key: &str, most: usize) -> String {
    if key.chars().count() <= most {
        return key.to_owned();
    }
    let digest = u128::from_be_bytes(sre_core::private::stable_hash(&[key]));
    format!("{}{digest:032x}", truncated(key, most - 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_text_ends_in_an_ellipsis() {
        assert_eq!(truncated("naïve", 5), "naïve");
        assert_eq!(truncated("naïvely", 5), "naïv…");
        assert_eq!(truncated("ab", 1), "…");
        assert_eq!(truncated("", 0), "");
    }

    #[test]
    #[cfg(any(feature = "opsgenie", feature = "pagerduty", feature = "webhook"))]
    fn shortened_keys_stay_different() {
        let (one, other) = (format!("{}1", "x".repeat(300)), format!("{}2", "x".repeat(300)));
        assert_eq!(shortened(&one, 255).chars().count(), 255);
        assert_ne!(shortened(&one, 255), shortened(&other, 255));
        // An incident is resolved by the key of its alert, perhaps by a later version.
        let digest = "5b9d109396590459b7e6218bbb2c75d5";
        assert_eq!(shortened(&one, 64), format!("{}…{digest}", "x".repeat(31)));
        assert_eq!(shortened("short", 255), "short");
    }
}
