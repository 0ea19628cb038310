use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::Method;
use http::header::CONTENT_TYPE;
use sre_core::private::lock;
use sre_core::{
    ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, SloSnapshot, Timestamp, Wants,
};

use crate::events::{self, Sender};
use crate::experiment::Experiment;
use crate::log_batch::Entries;
use crate::objective;
use crate::run::{Run, Runs};
use crate::settings::{MlflowSettings, NAME, Server};

/// Sends events and the state of objectives to an MLflow server.
///
/// The experiment and the runs of objectives are looked up, or created, when they are needed first.
#[derive(Debug)]
pub struct MlflowExporter {
    pub(crate) server: Server,
    experiment: Mutex<Option<Arc<Experiment>>>,
    runs: Mutex<Runs>,
}

/// Maximum number of attempts to store an artifact before metrics are sent without it.
const ARTIFACT_ATTEMPTS: u32 = 5;

impl MlflowExporter {
    /// Creates an exporter, without connecting to the server.
    pub fn new(settings: MlflowSettings) -> Result<Self, InvalidExporter> {
        Ok(Self { server: settings.try_into()?, experiment: Mutex::default(), runs: Mutex::default() })
    }

    pub(crate) async fn experiment(
        &self,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Arc<Experiment>, ExportError> {
        let known = lock(&self.experiment).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let experiment = Arc::new(Experiment::open(&self.server, at, http).await?);
        *lock(&self.experiment) = Some(experiment.clone());
        Ok(experiment)
    }

    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let (units, ignored) = events::units(batch.events);
        if units.is_empty() {
            return Ok(ExportReport::default().with_ignored(ignored));
        }
        let experiment = self.experiment(batch.at, http).await?;
        let sender = Sender { api: &self.server.api, experiment: &experiment, batch, http };
        let report = sender.send_all(units).await?;
        if !report.rejected.is_empty() {
            // Perhaps because the experiment is no longer there.
            *lock(&self.experiment) = None;
        }
        Ok(report.with_ignored(ignored))
    }

    /// Exports the state of objectives. Exporting it again changes nothing: MLflow keeps the same point once.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let objectives: Vec<&SloSnapshot> = batch.objectives().collect();
        let mut report = ExportReport::default().with_ignored(batch.snapshots.len() - objectives.len());
        if objectives.is_empty() {
            return Ok(report);
        }
        let experiment = self.experiment(batch.at, http).await?;
        for slo in objectives {
            report = match self.export_objective(&experiment, slo, batch.at, http).await {
                Ok(None) => report.and(ExportReport::accepted(1)),
                // The metrics have arrived, and the artifact is stored with the next state.
                Ok(Some(error)) => report.with_rejected(1, format!("artifact objective.json: {error}")),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => {
                    *lock(&self.experiment) = None;
                    report.with_rejected(1, error.to_string())
                }
            };
        }
        Ok(report)
    }

    /// Returns the error of the artifact, if only that was not stored.
    async fn export_objective(
        &self,
        experiment: &Experiment,
        slo: &SloSnapshot,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Option<ExportError>, ExportError> {
        let api = &self.server.api;
        let fingerprint = objective::fingerprint(slo);
        let known = lock(&self.runs).get(fingerprint);
        let (mut run, params) = match known {
            Some(run) => (run, Vec::new()),
            None => {
                let params = objective::params(slo);
                let (key, name) = (objective::key(&params), objective::run_name(slo));
                let run = Run::open(api, experiment, &key, &name, at, http).await?;
                (Run { indicators: objective::indicator_names(slo).into(), ..run }, params)
            }
        };
        let indicators = run.indicators.clone();
        let metrics = objective::metrics(slo, &indicators, run.begun, at);
        let entries = Entries { metrics, params, tags: objective::tags(slo) };
        let logged = run.log(api, &entries, at, http).await;
        if logged.as_ref().is_err_and(|error| !error.is_temporary()) {
            lock(&self.runs).forget(fingerprint);
        }
        logged?;
        let mut failure = None;
        if run.status != Some(slo.status) {
            match self.put_state(&run, slo, at, http).await {
                Ok(()) => (run.status, run.failed_artifacts) = (Some(slo.status), 0),
                Err(error) => {
                    run.failed_artifacts += 1;
                    if error.is_retryable() && run.failed_artifacts < ARTIFACT_ATTEMPTS {
                        lock(&self.runs).insert(fingerprint, run);
                        return Err(error);
                    }
                    failure = Some(error);
                }
            }
        }
        lock(&self.runs).insert(fingerprint, run);
        Ok(failure)
    }

    /// Stores the whole state of an objective as an artifact of its run.
    async fn put_state(
        &self,
        run: &Run,
        slo: &SloSnapshot,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let Some(path) = run.artifact_path("objective.json") else { return Ok(()) };
        let state = serde_json::to_vec_pretty(slo).map_err(|error| self.server.api.invalid(error))?;
        let request = self.server.api.request(Method::PUT, &path).header(CONTENT_TYPE, "application/json");
        self.server.api.send(request, state, at, http).await.map(drop)
    }
}

#[async_trait]
impl Exporter for MlflowExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS.and_snapshots()
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let report = self.export_objectives(batch, http).await?.with_ignored(batch.metrics.len());
        Ok(report.and(self.export_events(batch, http).await?))
    }
}
