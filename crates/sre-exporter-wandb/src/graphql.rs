use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sre_core::{ExportError, HttpClient, Timestamp};

use crate::settings::{NAME, Project};

/// A response: data, errors or both. The status is 200 in any case.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

#[derive(Deserialize)]
struct GraphqlError {
    #[serde(default)]
    message: String,
}

/// Maximum length of an error's message, in characters.
const MESSAGE_CHARS: usize = 200;

/// Sends an operation. Returns its data; `None` if the response has none that can be read.
pub(crate) async fn send<T: DeserializeOwned>(
    project: &Project,
    operation: &str,
    query: &str,
    variables: Value,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<Option<T>, ExportError> {
    let body = json!({"query": query, "variables": variables, "operationName": operation});
    let answer = project.api.post_json("/graphql", &body, at, http).await?;
    let Ok(answer) = serde_json::from_slice::<Answer<T>>(answer.body()) else { return Ok(None) };
    match answer.errors.first() {
        None => Ok(answer.data),
        Some(error) => {
            let message = format!("{operation}: {}", project.api.redact(&error.message, MESSAGE_CHARS));
            Err(rejected(status_of(&error.message), message))
        }
    }
}

/// Returns the HTTP status that an error without one stands for.
fn status_of(message: &str) -> u16 {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["permission", "unauthorized", "not logged in", "invalid api key"]) {
        403
    } else if has(&["rate limit"]) {
        429
    } else if has(&["internal", "timeout", "timed out", "deadlock"]) {
        500
    } else {
        422
    }
}

/// Returns the error of a response with that status.
pub(crate) fn rejected(status: u16, message: String) -> ExportError {
    ExportError::Rejected { exporter: NAME.to_owned(), status, message, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_status_they_stand_for() {
        for (message, status) in [
            ("permission denied", 403),
            ("Rate limit exceeded", 429),
            ("Internal error", 500),
            ("project team/agents not found", 422),
        ] {
            assert_eq!(status_of(message), status, "{message}");
        }
    }
}
