use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use sre_core::private::lock;
use sre_core::{
    ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, SloSnapshot, Status, Timestamp,
    Wants,
};

use crate::rows;
use crate::run::{NewRun, Row, Run};
use crate::runs::Runs;
use crate::settings::{NAME, Project, WandbSettings};

/// Sends the state of objectives, metrics, tasks and evaluations to Weights & Biases.
#[derive(Debug)]
pub struct WandbExporter {
    pub(crate) project: Project,
    runs: Mutex<Runs>,
}

/// How long a run without rows is kept running.
const HEARTBEATS_END: Duration = Duration::from_secs(3_600);
/// Maximum number of requests without rows at an interval.
const MAX_HEARTBEATS: usize = 100;

impl WandbExporter {
    /// Creates an exporter, without connecting to the backend.
    pub fn new(settings: WandbSettings) -> Result<Self, InvalidExporter> {
        Ok(Self { project: Project::try_from(settings)?, runs: Mutex::default() })
    }

    /// Marks the runs of this process as ended: `finished` with the exit code 0, and `failed` with another. They are running
    /// again with their next row. Without this call, W&B shows a run as crashed some minutes after its last row.
    pub async fn finish(&self, exit_code: i32, at: Timestamp, http: &dyn HttpClient) -> Result<(), ExportError> {
        let runs = lock(&self.runs).all();
        for run in runs {
            run.finish(&self.project, exit_code, at, http).await?;
        }
        lock(&self.runs).clear();
        Ok(())
    }

    /// Adds the measurements among events to the runs of their agents.
    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let mut by_agent: Vec<(&str, Vec<usize>, Vec<Row<'_>>)> = Vec::new();
        let mut taken = 0;
        for (place, event) in batch.events.iter().enumerate() {
            let Some(row) = rows::of_event(event) else { continue };
            taken += 1;
            match by_agent.iter_mut().find(|(agent, ..)| *agent == event.agent) {
                Some((_, places, rows)) => {
                    places.push(place);
                    rows.push(row);
                }
                None => by_agent.push((&event.agent, vec![place], vec![row])),
            }
        }
        let mut report = ExportReport::default().with_ignored(batch.events.len() - taken);
        let mut is_first = true;
        for (agent, places, rows) in by_agent {
            let new = rows::run_of_agent(agent, batch.resource.service_name());
            match self.add_rows(new, &rows, batch.at, http).await {
                Ok(()) => report = report.and(ExportReport::accepted(places.len())),
                Err(error) if is_first => return Err(error),
                // Other runs have their rows: only these are sent again.
                Err(error) => report = report.and(ExportReport::default().with_failed(&places, &error)),
            }
            is_first = false;
        }
        Ok(report)
    }

    async fn add_rows(
        &self,
        new: NewRun,
        rows: &[Row<'_>],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let run = self.run(new, at, http).await?;
        self.append(run, rows, None, at, http).await
    }

    /// Adds rows to a run, which is opened again with its next row if W&B does not accept these.
    async fn append(
        &self,
        mut run: Run,
        rows: &[Row<'_>],
        status: Option<Status>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        match run.append(&self.project, rows, status, at, http).await {
            Ok(()) => {
                lock(&self.runs).put(run);
                Ok(())
            }
            Err(error) => {
                if !error.is_temporary() {
                    lock(&self.runs).forget(&run.key);
                }
                Err(error)
            }
        }
    }

    /// Returns a run, which is created if it is missing.
    async fn run(&self, new: NewRun, at: Timestamp, http: &dyn HttpClient) -> Result<Run, ExportError> {
        let known = lock(&self.runs).get(&new.id);
        if let Some(run) = known {
            return Ok(run);
        }
        let run = Run::open(&self.project, new, at, http).await?;
        lock(&self.runs).put(run.clone());
        Ok(run)
    }

    /// Adds a row to the run of each objective, and one to the run of metrics.
    async fn export_state(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let mut report = ExportReport::default();
        let service = batch.resource.service_name();
        let (mut objectives, mut first_error) = (0, None);
        for slo in batch.objectives() {
            objectives += 1;
            match self.export_slo(slo, service, batch.at, http).await {
                Ok(of_slo) => report = report.and(of_slo),
                Err(error) if error.is_temporary() => return Err(error),
                // The runs of other objectives may be accepted.
                Err(error) => {
                    report = report.with_rejected(1, error.to_string());
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error.filter(|_| report.accepted == 0) {
            return Err(error);
        }
        let (metrics, accepted) = rows::of_metrics(batch.metrics);
        if !metrics.is_empty() {
            let run = self.run(rows::run_of_metrics(service), batch.at, http).await?;
            if run.last != Some(batch.at) {
                self.append(run, &[Row { time: batch.at, metrics }], None, batch.at, http).await?;
            }
        }
        let ignored = batch.snapshots.len() - objectives + batch.metrics.len() - accepted;
        Ok(report.and(ExportReport::accepted(accepted)).with_ignored(ignored))
    }

    async fn export_slo(
        &self,
        slo: &SloSnapshot,
        service: &str,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let mut run = self.run(rows::run_of_slo(slo, service), at, http).await?;
        let mut report = ExportReport::accepted(1);
        if run.last == Some(at) {
            // From an earlier attempt, in which another run failed.
            return Ok(report);
        }
        if run.status != Some(slo.status) {
            match self.alert(&run, slo, at, http).await {
                Err(error) if error.is_retryable() || error.is_unauthorized() => return Err(error),
                Err(error) => report = ExportReport::default().with_rejected(1, error.to_string()),
                Ok(()) => {}
            }
            run.status = Some(slo.status);
            // The alert is not sent again if the row is.
            lock(&self.runs).put(run.clone());
        }
        let row = Row { time: at, metrics: rows::of_slo(slo) };
        self.append(run, &[row], Some(slo.status), at, http).await?;
        Ok(report)
    }

    /// Sends an alert if the objective has become critical or exhausted.
    async fn alert(
        &self,
        run: &Run,
        slo: &SloSnapshot,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let severity = match slo.status {
            Status::Exhausted => "ERROR",
            Status::Critical => "WARN",
            _ => return Ok(()),
        };
        let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
        let budget = slo.error_budget.remaining.filter(|share| share.is_finite()).map(percent);
        let budget = budget.unwrap_or_else(|| "unknown".to_owned());
        let title = format!("SLO {} is {}", slo.name, slo.status.as_str());
        let text = format!(
            "Objective {} of agent {}: {} good and {} bad events in {}, error budget left: {budget}.",
            slo.name, slo.agent, slo.good, slo.bad, slo.window
        );
        run.alert(&self.project, severity, title, text, at, http).await
    }

    /// Keeps the runs running that have no row in this batch.
    async fn send_heartbeats(&self, runs: Vec<Run>, at: Timestamp, http: &dyn HttpClient) {
        let is_silent = |run: &Run| {
            let has_row = lock(&self.runs).get(&run.key).is_some_and(|now| now.rows != run.rows);
            !has_row && run.last.is_some_and(|last| at.since(last) < HEARTBEATS_END)
        };
        for run in runs.into_iter().filter(is_silent).take(MAX_HEARTBEATS) {
            // Nothing is lost if it fails; the next row is a sign of life, too.
            if run.heartbeat(&self.project, at, http).await.is_err() {
                return;
            }
        }
    }
}

#[async_trait]
impl Exporter for WandbExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::ALL
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let mut report = ExportReport::default();
        if !(batch.snapshots.is_empty() && batch.metrics.is_empty()) {
            let before = lock(&self.runs).all();
            report = report.and(self.export_state(batch, http).await?);
            self.send_heartbeats(before, batch.at, http).await;
        }
        Ok(report.and(self.export_events(batch, http).await?))
    }
}
