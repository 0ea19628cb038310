use std::sync::Mutex;

use serde::Deserialize;
use serde_json::{Value, json};
use sre_core::private::lock;
use sre_core::{ExportError, HttpClient, Timestamp};

use crate::settings::{NAME, Project};

/// The ids of the project and the experiment. Each is registered by its name, once.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    project: Mutex<Option<String>>,
    /// That of the settings.
    pub(crate) experiment: Mutex<Option<String>>,
}

/// The response to a registration. Braintrust returns an existing project or experiment of the name unmodified.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Registered {
    id: String,
}

impl Registry {
    /// Returns the id of the project.
    pub(crate) async fn project(
        &self,
        project: &Project,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<String, ExportError> {
        let body = json!({"name": project.name});
        register(&self.project, project, "/v1/project", &body, at, http).await
    }

    /// Returns the id of the experiment with this name, which is kept in `known`.
    pub(crate) async fn experiment(
        &self,
        known: &Mutex<Option<String>>,
        project: &Project,
        name: &str,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<String, ExportError> {
        let project_id = self.project(project, at, http).await?;
        let body = json!({"project_id": project_id, "name": name, "ensure_new": false, "public": false});
        register(known, project, "/v1/experiment", &body, at, http).await
    }

    /// Forgets the ids, because they no longer exist in Braintrust.
    pub(crate) fn forget(&self) {
        *lock(&self.project) = None;
        *lock(&self.experiment) = None;
    }
}

async fn register(
    known: &Mutex<Option<String>>,
    project: &Project,
    path: &str,
    body: &Value,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<String, ExportError> {
    if let Some(id) = lock(known).clone() {
        return Ok(id);
    }
    let answer = project.api.post_json(path, body, at, http).await?;
    let Registered { id } = serde_json::from_slice(answer.body()).unwrap_or_default();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        let message = format!("the response to {path} has no id");
        // As from a proxy without its server: a later response may have one.
        return Err(ExportError::Rejected { exporter: NAME.to_owned(), status: 502, message, retry_after: None });
    }
    *lock(known) = Some(id.clone());
    Ok(id)
}
