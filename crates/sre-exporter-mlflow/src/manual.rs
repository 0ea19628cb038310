use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use sre_core::{ExportError, HttpClient, Timestamp};

use crate::MlflowExporter;
use crate::log_batch::{Entries, Entry, Key, Metric};
use crate::objective::millis;
use crate::run::Run;

/// A run that a program logs itself, such as the result of a release's evaluation.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MlflowRun {
    /// The name.
    pub name: String,
    /// Results by name. NaN and infinity are left out.
    pub metrics: BTreeMap<String, f64>,
    /// Inputs by name.
    pub params: BTreeMap<String, String>,
    /// Tags by name.
    pub tags: BTreeMap<String, String>,
}

impl MlflowExporter {
    /// Creates a finished run, and returns its id. Each call creates another run.
    ///
    /// # Errors
    ///
    /// Returns an error if MLflow rejects a name: it allows letters, digits, `_`, `-`, `.`, spaces and `/`.
    pub async fn log_run(&self, run: &MlflowRun, at: Timestamp, http: &dyn HttpClient) -> Result<String, ExportError> {
        let experiment = self.experiment(at, http).await?;
        let created = Run::create(&self.server.api, &experiment, &run.name, &[], at, http).await?;
        let timestamp = millis(at).max(0);
        let finite = run.metrics.iter().filter(|(_, value)| value.is_finite());
        let entry = |(key, value): (&String, &String)| Entry::new(key, value);
        let entries = Entries {
            metrics: finite
                .map(|(key, value)| Metric { key: Key::Name(key), value: *value, timestamp, step: 0 })
                .collect(),
            params: run.params.iter().map(entry).collect(),
            tags: run.tags.iter().map(entry).collect(),
        };
        created.log(&self.server.api, &entries, at, http).await?;
        created.finish(&self.server.api, at, http).await?;
        Ok(created.id)
    }

    /// Stores an artifact of a run, such as `report.json`; an existing one of that path is replaced.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not store artifacts itself (`--no-serve-artifacts`).
    pub async fn log_artifact(
        &self,
        run_id: &str,
        path: &str,
        content: impl Into<Bytes>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let api = &self.server.api;
        let run = Run::get(api, run_id, at, http).await?;
        let path = run.artifact_path(path).ok_or_else(|| api.invalid("the server stores no artifacts itself"))?;
        let request = api.request(Method::PUT, &path).header(CONTENT_TYPE, "application/octet-stream");
        api.send(request, content, at, http).await.map(drop)
    }
}
