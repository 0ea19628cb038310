use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use sre_core::private::lock;
use sre_core::{
    ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, SloSnapshot, Timestamp, Wants,
};

use crate::check::ServiceCheck;
use crate::distribution::{Distributions, MAX_AGE};
use crate::event::{EVICTED_AFTER, Statuses};
use crate::objective::SloObject;
use crate::origin::Origin;
use crate::series::SeriesWriter;
use crate::settings::{DatadogSettings, NAME, Organisation};

/// Sends metrics, costs and the state of objectives to Datadog.
pub struct DatadogExporter {
    pub(crate) organisation: Organisation,
    series: Mutex<SeriesWriter>,
    statuses: Mutex<Statuses>,
    /// The SLOs in Datadog that are in step, by key.
    synced: Mutex<HashMap<String, (SloObject, Timestamp)>>,
}

const SERIES: &str = "/api/v2/series";
pub(crate) const DISTRIBUTIONS: &str = "/api/v1/distribution_points";
const CHECKS: &str = "/api/v1/check_run";
pub(crate) const EVENTS: &str = "/api/v1/events";

impl DatadogExporter {
    /// Creates an exporter, without connecting to Datadog.
    pub fn new(settings: DatadogSettings) -> Result<Self, InvalidExporter> {
        let organisation = Organisation::try_from(settings)?;
        let series = Mutex::new(SeriesWriter::new(organisation.initial_counts));
        Ok(Self { organisation, series, statuses: Mutex::default(), synced: Mutex::default() })
    }

    /// Sends the metrics, which include those of objectives.
    pub(crate) async fn export_metrics(
        &self,
        batch: &ExportBatch<'_>,
        origin: &Origin,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let (body, accepted) = self.series(batch, origin).map_err(|error| self.organisation.api.invalid(error))?;
        let ignored = batch.metrics.len() - accepted;
        let Some(body) = body else { return Ok(ExportReport::default().with_ignored(ignored)) };
        let api = &self.organisation.api;
        let request = api.request(Method::POST, SERIES).header(CONTENT_TYPE, "application/json");
        let answer = api.send_gzip(request, &[&body], batch.at, http).await?;
        lock(&self.series).accept(batch.at);
        Ok(self.report(answer.body(), accepted).with_ignored(ignored))
    }

    /// Returns the body with the metrics of a batch, if there are any, and the number of its metrics that have a value.
    fn series(&self, batch: &ExportBatch<'_>, origin: &Origin) -> Result<(Option<Vec<u8>>, usize), serde_json::Error> {
        let mut writer = lock(&self.series);
        let mut series = writer.batch(origin, batch.at, self.organisation.interval, batch.metrics.len());
        let mut accepted = 0;
        for metric in batch.metrics {
            accepted += usize::from(series.add(metric)?);
        }
        Ok((series.into_body(), accepted))
    }

    /// Sends checks and events, and updates SLOs.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        objectives: &[&SloSnapshot],
        origin: &Origin,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let mut rejected = BTreeMap::new();
        let checks: Vec<_> = objectives.iter().map(|slo| ServiceCheck::of(slo, origin, batch.at)).collect();
        if !checks.is_empty() {
            let report = settle(self.send(CHECKS, &checks, checks.len(), batch.at, http).await, checks.len())?;
            note(&mut rejected, &report, 0..checks.len());
        }
        for (place, slo) in objectives.iter().enumerate() {
            let event = lock(&self.statuses).change(slo);
            if let Some(event) = event {
                let body = event.body(origin, batch.at);
                let report = settle(self.send(EVENTS, &body, 1, batch.at, http).await, 1)?;
                note(&mut rejected, &report, place..=place);
            }
            lock(&self.statuses).accept(slo, batch.at);
            // The next batch tries again: what the SLO measures is sent anyway.
            if let Err(error) = self.sync_slo(slo, origin, batch.at, http).await {
                rejected.entry(place).or_insert_with(|| error.to_string());
            }
        }
        lock(&self.statuses).evict(batch.at);
        lock(&self.synced).retain(|_, (_, last)| batch.at.since(*last) < EVICTED_AFTER);
        let report = ExportReport::accepted(objectives.len() - rejected.len());
        Ok(rejected.into_values().fold(report, |report, reason| report.with_rejected(1, reason)))
    }

    async fn sync_slo(
        &self,
        slo: &SloSnapshot,
        origin: &Origin,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let Some(api) = &self.organisation.slo_api else { return Ok(()) };
        let Some(object) = SloObject::of(slo, origin) else { return Ok(()) };
        let key = object.key();
        let is_in_step = lock(&self.synced).get(&key).is_some_and(|(known, _)| *known == object);
        if !is_in_step {
            object.sync(api, at, http).await?;
        }
        lock(&self.synced).insert(key, (object, at));
        Ok(())
    }

    async fn export_events(
        &self,
        batch: &ExportBatch<'_>,
        origin: &Origin,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let mut distributions = Distributions::default();
        let measured = batch.events.iter().filter(|event| distributions.add(event, batch.at)).count();
        let ignored = batch.events.len() - measured;
        if measured == 0 {
            return Ok(ExportReport::default().with_ignored(ignored));
        }
        let body = SeriesBody { series: &distributions.into_vec(origin) };
        Ok(self.send(DISTRIBUTIONS, &body, measured, batch.at, http).await?.with_ignored(ignored))
    }

    /// Sends `records` records, and reads from the response how many were rejected.
    pub(crate) async fn send(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        records: usize,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let api = &self.organisation.api;
        let body = serde_json::to_vec(body).map_err(|error| api.invalid(error))?;
        let media_type = if path == DISTRIBUTIONS { "text/json" } else { "application/json" };
        let request = api.request(Method::POST, path).header(CONTENT_TYPE, media_type);
        let answer = api.send(request, body, at, http).await?;
        Ok(self.report(answer.body(), records))
    }

    /// Returns the report of `records` records, of which the response names the rejected ones.
    fn report(&self, answer: &[u8], records: usize) -> ExportReport {
        let Answer { errors } = serde_json::from_slice(answer).unwrap_or_default();
        self.organisation.api.report(records, errors.len() as u64, errors.first().map_or("", String::as_str))
    }
}

#[derive(Serialize)]
pub(crate) struct SeriesBody<'a, T> {
    pub(crate) series: &'a [T],
}

/// The response to accepted records, with the errors of those that were not.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    errors: Vec<String>,
}

/// Turns an error that no retry helps into rejections, because other requests of the batch were accepted.
fn settle(answer: Result<ExportReport, ExportError>, records: usize) -> Result<ExportReport, ExportError> {
    match answer {
        Err(error) if !(error.is_retryable() || error.is_unauthorized() || error.is_too_large()) => {
            Ok(ExportReport::default().with_rejected(records as u64, error.to_string()))
        }
        answer => answer,
    }
}

/// Notes which objectives were rejected. Datadog reports how many, but not which: the first ones are taken.
fn note(rejected: &mut BTreeMap<usize, String>, report: &ExportReport, mut places: impl Iterator<Item = usize>) {
    for rejection in &report.rejected {
        for place in places.by_ref().take(rejection.count as usize) {
            rejected.entry(place).or_insert_with(|| rejection.reason.to_string());
        }
    }
}

impl fmt::Debug for DatadogExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatadogExporter").field("organisation", &self.organisation).finish_non_exhaustive()
    }
}

#[async_trait]
impl Exporter for DatadogExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::ALL
    }

    /// Counts of a reading that is dropped are in the next one.
    fn state_max_age(&self) -> Option<Duration> {
        Some(MAX_AGE)
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let origin = self.organisation.origin.of(batch.resource);
        let objectives: Vec<&SloSnapshot> = batch.objectives().collect();
        let ignored = batch.snapshots.len() - objectives.len();
        let metrics = self.export_metrics(batch, &origin, http).await?;
        let objectives = self.export_objectives(batch, &objectives, &origin, http).await?;
        let report = objectives.and(metrics).with_ignored(ignored);
        Ok(report.and(self.export_events(batch, &origin, http).await?))
    }
}
