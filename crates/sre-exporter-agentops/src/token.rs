use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;
use sre_core::{BackendApi, ExportError, HttpClient, HttpError, Secret, Timestamp};

use crate::settings::Project;

/// A token, and what it gives access to.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The API for spans, with the token.
    pub(crate) otlp: BackendApi,
    pub(crate) project_id: Option<String>,
    /// When it expires, if it has that claim.
    expires: Option<Timestamp>,
}

/// How long before its end a token is replaced, so that it does not expire on the way.
const MARGIN: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Answer {
    token: String,
    project_id: Option<String>,
}

/// The part of a JSON Web Token that is read.
#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

impl Token {
    /// Gets a token for the project's API key.
    pub(crate) async fn fetch(project: &Project, at: Timestamp, http: &dyn HttpClient) -> Result<Self, ExportError> {
        let body = json!({"api_key": project.api_key.expose()});
        let answer = project.api.post_json("/v3/auth/token", &body, at, http).await?;
        // Something else answered, such as a gateway: the same request may succeed later.
        let unreadable = || HttpError::Unreachable {
            host: project.api.host().to_owned(),
            reason: "found no token in the response of /v3/auth/token".to_owned(),
        };
        let Answer { token, project_id } = serde_json::from_slice(answer.body()).map_err(|_| unreadable())?;
        let expires = expiry(&token);
        let otlp = project.otlp.clone().with_secret_header("authorization", "Bearer ", &Secret::new(token));
        Ok(Self { otlp: otlp.map_err(|_| unreadable())?, project_id, expires })
    }

    pub(crate) fn is_valid(&self, at: Timestamp) -> bool {
        self.expires.is_none_or(|expires| at.saturating_add(MARGIN) < expires)
    }
}

/// Returns when a JSON Web Token expires. The signature is the server's to verify.
fn expiry(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    Some(Timestamp::from_secs(exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_expires() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expiry(&token(r#"{"exp":1790000000,"project_id":"p"}"#)), Some(Timestamp::from_secs(1_790_000_000)));
        for token in [token("{}"), token("[]"), "opaque".to_owned(), "a.b.c".to_owned(), String::new()] {
            assert_eq!(expiry(&token), None, "{token}");
        }
    }
}
