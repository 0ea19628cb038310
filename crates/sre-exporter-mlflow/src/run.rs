use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use sre_core::{BackendApi, ExportError, HttpClient, Status, Timestamp};

use crate::experiment::{Experiment, parse};
use crate::log_batch::{Entries, Entry};
use crate::objective::{KEY_TAG, millis};

/// A run of the experiment.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) begun: Timestamp,
    /// The names of the objective's indicators in keys.
    pub(crate) indicators: Arc<[String]>,
    /// The status of the objective at its last artifact.
    pub(crate) status: Option<Status>,
    /// Number of failed attempts to store an artifact since the last one that was stored.
    pub(crate) failed_artifacts: u32,
    pub(crate) artifact_uri: String,
}

/// The runs of objectives, by [`fingerprint`](crate::objective::fingerprint).
#[derive(Debug, Default)]
pub(crate) struct Runs(HashMap<u64, Run>);

/// Maximum number of cached runs. Evicted ones are looked up again.
const MAX_RUNS: usize = 10_000;

#[derive(Default, Deserialize)]
struct Search {
    #[serde(default)]
    runs: Vec<Found>,
}

#[derive(Deserialize)]
struct One {
    run: Found,
}

#[derive(Deserialize)]
struct Found {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    run_id: String,
    #[serde(default)]
    start_time: i64,
    #[serde(default)]
    artifact_uri: String,
}

impl Runs {
    pub(crate) fn get(&self, fingerprint: u64) -> Option<Run> {
        self.0.get(&fingerprint).cloned()
    }

    pub(crate) fn insert(&mut self, fingerprint: u64, run: Run) {
        if self.0.len() >= MAX_RUNS && !self.0.contains_key(&fingerprint) {
            self.0.clear();
        }
        self.0.insert(fingerprint, run);
    }

    /// Forgets a run that the server does not accept entries of, such as a deleted one.
    pub(crate) fn forget(&mut self, fingerprint: u64) {
        self.0.remove(&fingerprint);
    }
}

impl Run {
    /// Returns the oldest run with the key in its tag, or creates it.
    pub(crate) async fn open(
        api: &BackendApi,
        experiment: &Experiment,
        key: &str,
        name: &str,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Self, ExportError> {
        if let Some(found) = Self::find(api, experiment, key, at, http).await? {
            return Ok(found);
        }
        let created = Self::create(api, experiment, name, &[Entry::new(KEY_TAG, key)], at, http).await?;
        // Another process may have created one meanwhile, or a request that timed out here.
        match Self::find(api, experiment, key, at, http).await? {
            Some(oldest) if oldest.id != created.id => {
                // It is empty, and not used if it stays.
                let _ = api.post_json("/api/2.0/mlflow/runs/delete", &json!({"run_id": created.id}), at, http).await;
                Ok(oldest)
            }
            _ => Ok(created),
        }
    }

    async fn find(
        api: &BackendApi,
        experiment: &Experiment,
        key: &str,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Option<Self>, ExportError> {
        let search = json!({
            "experiment_ids": [experiment.id],
            "filter": format!("tags.`{KEY_TAG}` = '{key}'"),
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 1,
            "order_by": ["attributes.start_time ASC"],
        });
        let answer = api.post_json("/api/2.0/mlflow/runs/search", &search, at, http).await?;
        let found = parse::<Search>(answer.body(), "a list of runs")?.runs.into_iter().next();
        Ok(found.map(|found| found.info.into()))
    }

    /// Creates a run that begins now.
    pub(crate) async fn create(
        api: &BackendApi,
        experiment: &Experiment,
        name: &str,
        tags: &[Entry],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Self, ExportError> {
        let run = json!({
            "experiment_id": experiment.id,
            "run_name": name,
            "start_time": millis(at),
            "tags": tags,
        });
        let answer = api.post_json("/api/2.0/mlflow/runs/create", &run, at, http).await?;
        Ok(parse::<One>(answer.body(), "a run")?.run.info.into())
    }

    /// Looks a run up by its id.
    pub(crate) async fn get(
        api: &BackendApi,
        id: &str,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Self, ExportError> {
        let path = format!("/api/2.0/mlflow/runs/get?run_id={}", utf8_percent_encode(id, NON_ALPHANUMERIC));
        let answer = api.send(api.request(Method::GET, &path), "", at, http).await?;
        Ok(parse::<One>(answer.body(), "a run")?.run.info.into())
    }

    /// Adds metrics, params and tags, in as many requests as MLflow's limits need.
    pub(crate) async fn log(
        &self,
        api: &BackendApi,
        entries: &Entries<'_>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        for batch in entries.batches(&self.id) {
            api.post_json("/api/2.0/mlflow/runs/log-batch", &batch, at, http).await?;
        }
        Ok(())
    }

    /// Ends the run as successful.
    pub(crate) async fn finish(
        &self,
        api: &BackendApi,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let update = json!({"run_id": self.id, "status": "FINISHED", "end_time": millis(at)});
        api.post_json("/api/2.0/mlflow/runs/update", &update, at, http).await.map(drop)
    }

    /// Returns the path by which the server stores an artifact of the run, or `None` if the artifacts are not stored
    /// through the server.
    pub(crate) fn artifact_path(&self, name: &str) -> Option<String> {
        const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
        let place = self.artifact_uri.strip_prefix("mlflow-artifacts:")?;
        // Either `/PATH`, or `//HOST:PORT/PATH`.
        let place = match place.strip_prefix("//") {
            Some(with_host) => with_host.split_once('/').map_or("", |(_, path)| path),
            None => place,
        };
        let path = format!("{}/{name}", place.trim_matches('/'));
        Some(format!("/api/2.0/mlflow-artifacts/artifacts/{}", utf8_percent_encode(&path, IN_PATH)))
    }
}

impl From<Info> for Run {
    fn from(Info { run_id, start_time, artifact_uri }: Info) -> Self {
        let begun = Duration::from_millis(u64::try_from(start_time).unwrap_or_default());
        Self {
            id: run_id,
            begun: Timestamp::default().saturating_add(begun),
            indicators: Arc::default(),
            status: None,
            failed_artifacts: 0,
            artifact_uri,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(artifact_uri: &str) -> Run {
        Info { run_id: "r".to_owned(), start_time: 1_790_000_000_123, artifact_uri: artifact_uri.to_owned() }.into()
    }

    #[test]
    fn only_artifacts_that_the_server_stores_have_a_path() {
        let path = "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/a%20b.json";
        for uri in ["mlflow-artifacts:/1/r/artifacts", "mlflow-artifacts://host:5000/1/r/artifacts"] {
            assert_eq!(run(uri).artifact_path("a b.json").as_deref(), Some(path));
        }
        for uri in ["s3://bucket/1/r/artifacts", "/mlruns/1/r/artifacts", ""] {
            assert_eq!(run(uri).artifact_path("a.json"), None);
        }
    }

    #[test]
    fn the_memory_of_runs_is_bounded() {
        let mut runs = Runs::default();
        (0..=MAX_RUNS as u64).for_each(|number| runs.insert(number, run("")));
        assert!(runs.get(0).is_none() && runs.get(MAX_RUNS as u64).is_some());
        assert_eq!(run("").begun.as_nanos(), 1_790_000_000_123_000_000);
    }
}
