use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::ExportError;
use crate::{HttpClient, HttpError, Secret, Timestamp, retry_after};

/// Maximum length of a backend's message in errors, in characters.
const MESSAGE_CHARS: usize = 200;

/// Makes one request for an exporter. Any status other than success is an error with the backend's message, without
/// secrets.
///
/// `secrets` are removed from the message, in case the backend repeats them. A successful response whose body exceeds
/// the size limit is returned without its body, because the backend has accepted the request. Redirects are not
/// followed, and are errors.
pub(super) async fn send_export(
    exporter: &str,
    request: http::Request<Bytes>,
    secrets: &[&Secret],
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<http::Response<Bytes>, ExportError> {
    let rejected = |status, message, retry_after| ExportError::Rejected {
        exporter: exporter.to_owned(),
        status,
        message,
        retry_after,
    };
    let answer = match http.send(request).await {
        Err(HttpError::TooLarge { status, limit, .. }) => {
            let mut answer = http::Response::new(Bytes::new());
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            if !answer.status().is_success() {
                return Err(rejected(status, format!("response larger than {limit} bytes"), None));
            }
            answer
        }
        answer => answer?,
    };
    if answer.status().is_success() {
        let status = answer.status().as_u16();
        return if is_page(&answer) {
            Err(ExportError::Page { exporter: exporter.to_owned(), status })
        } else {
            Ok(answer)
        };
    }
    let message = message(answer.body(), secrets);
    Err(rejected(answer.status().as_u16(), message, retry_after(answer.headers(), at)))
}

/// Returns whether a response is an HTML page. Some APIs send JSON with that content type.
fn is_page(answer: &http::Response<Bytes>) -> bool {
    let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.starts_with("text/html") && answer.body().trim_ascii_start().starts_with(b"<")
}

/// Returns the backend's message on one line, shortened. Of a page, it is the text.
fn message(body: &[u8], secrets: &[&Secret]) -> String {
    let body = String::from_utf8_lossy(body);
    let text = if body.trim_start().starts_with('<') { without_tags(&body) } else { body.into_owned() };
    let mut message = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for secret in secrets.iter().map(|secret| secret.expose()).filter(|secret| !secret.is_empty()) {
        message = message.replace(secret, "***");
    }
    match message.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None if message.is_empty() => "no message".to_owned(),
        None => message,
    }
}

fn without_tags(page: &str) -> String {
    page.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_short_and_has_no_secret() {
        let secret = Secret::new("s3cr3t");
        assert_eq!(message(b"key\n  s3cr3t is wrong", &[&secret, &Secret::new("")]), "key *** is wrong");
        assert_eq!(message(&[b'x'; 500], &[]).chars().count(), MESSAGE_CHARS + 1);
        assert_eq!(message(b"", &[]), "no message");
        assert_eq!(message(b"\n<!doctype html>\n<title>404</title><p>Not <b>found</b>.", &[]), "404 Not found .");
    }
}
