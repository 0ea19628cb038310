use std::sync::{Mutex, OnceLock};

use bytes::Bytes;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use sre_core::private::lock;
use sre_core::{ExportError, HttpClient, Timestamp};

use crate::settings::Project;

/// What is asked of the server once.
#[derive(Debug, Default)]
pub(crate) struct Server {
    takes_gzip: OnceLock<bool>,
    session_id: Mutex<Option<SessionId>>,
}

/// The id of the project, if the server returns it.
type SessionId = Option<String>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    instance_flags: Flags,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Flags {
    gzip_body_enabled: bool,
}

/// A project, which the API calls a session.
#[derive(Deserialize)]
struct Session {
    id: String,
}

impl Server {
    /// Returns whether `GET /info` allows compressed bodies. A server without such an answer takes them as they
    /// are.
    pub(crate) async fn takes_gzip(
        &self,
        project: &Project,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<bool, ExportError> {
        if let Some(known) = self.takes_gzip.get() {
            return Ok(*known);
        }
        let body = get(project, "/info", at, http).await?.unwrap_or_default();
        let info: Info = serde_json::from_slice(&body).unwrap_or_default();
        Ok(*self.takes_gzip.get_or_init(|| info.instance_flags.gzip_body_enabled))
    }

    /// Returns the id of the project, which is created if it is missing. A server that does not return it finds the run of a
    /// feedback by itself. The id is requested again after [`Server::forget_session`].
    pub(crate) async fn session_id(
        &self,
        project: &Project,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<SessionId, ExportError> {
        let known = lock(&self.session_id).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let name = utf8_percent_encode(&project.name, NON_ALPHANUMERIC);
        let found = get(project, &format!("/sessions?limit=1&name={name}"), at, http).await?;
        let found = found.and_then(|body| serde_json::from_slice::<Vec<Session>>(&body).ok());
        let session = match found {
            Some(sessions) if sessions.is_empty() => {
                let created = project.api.post_json("/sessions", &json!({"name": project.name}), at, http).await;
                if_answered(created.map(http::Response::into_body))?
                    .and_then(|body| serde_json::from_slice::<Session>(&body).ok())
            }
            found => found.and_then(|sessions| sessions.into_iter().next()),
        };
        let id = session.map(|session| session.id);
        *lock(&self.session_id) = Some(id.clone());
        Ok(id)
    }

    /// Forgets the id of the project, which may have been deleted.
    pub(crate) fn forget_session(&self) {
        *lock(&self.session_id) = None;
    }
}

async fn get(
    project: &Project,
    path: &str,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<Option<Bytes>, ExportError> {
    let answer = project.api.send(project.api.request(Method::GET, path), Bytes::new(), at, http).await;
    if_answered(answer.map(http::Response::into_body))
}

/// Returns `None` for an answer that will be the same next time, such as 404.
fn if_answered(answer: Result<Bytes, ExportError>) -> Result<Option<Bytes>, ExportError> {
    match answer {
        Ok(body) => Ok(Some(body)),
        Err(error) if error.is_retryable() || error.is_unauthorized() => Err(error),
        Err(_) => Ok(None),
    }
}
