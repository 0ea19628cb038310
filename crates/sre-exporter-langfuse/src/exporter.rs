use async_trait::async_trait;
use serde::Deserialize;
use sre_core::{
    EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, Timestamp, Wants,
};
use sre_otlp::{Spans, send_spans};

use crate::score::Score;
use crate::settings::{LangfuseSettings, NAME, Project};
use crate::{mapping, objectives};

/// Sends events and the state of objectives to Langfuse.
#[derive(Debug)]
pub struct LangfuseExporter(pub(crate) Project);

pub(crate) const SPANS: &str = "/api/public/otel/v1/traces";
const SCORES: &str = "/api/public/scores";

impl LangfuseExporter {
    /// Creates an exporter, without connecting to the backend.
    pub fn new(settings: LangfuseSettings) -> Result<Self, InvalidExporter> {
        Project::try_from(settings).map(Self)
    }

    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let environment = self.0.environment.as_deref();
        let mut spans = Spans::with_capacity(batch.events.len());
        let (mut scores, mut places) = (Vec::new(), Vec::new());
        for (place, event) in batch.events.iter().enumerate() {
            let Some(span) = EventSpan::of(event) else { continue };
            if !event.event.is_assessment() {
                spans.add(|writer| mapping::write_observation(event, &span, environment, writer));
            } else if let Some(score) = mapping::score(event, &span, environment) {
                scores.push(score);
                places.push(place);
            }
        }
        let ignored = batch.events.len() - spans.len() - scores.len();
        let report = self.send_spans(batch, &spans, http).await?.with_ignored(ignored);
        match self.send_scores(&scores, batch.at, http).await {
            Ok(of_scores) => Ok(report.and(of_scores)),
            // The spans were accepted: only the scores are sent again.
            Err(error) if !spans.is_empty() => Ok(report.with_failed(&places, &error)),
            Err(error) => Err(error),
        }
    }

    /// Exports the state of objectives. Exporting it again changes nothing, because observations and scores keep their
    /// ids.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let environment = self.0.environment.as_deref();
        let (mut spans, mut scores) = (Spans::default(), Vec::new());
        for slo in batch.objectives() {
            let trace = objectives::trace(slo);
            spans.add(|span| objectives::write_observation(slo, trace, batch.at, environment, span));
            scores.extend(objectives::scores(slo, trace, batch.at, environment));
        }
        let objectives = spans.len();
        let ignored = batch.snapshots.len() - objectives;
        if objectives == 0 {
            return Ok(ExportReport::default().with_ignored(ignored));
        }
        let spans = self.send_spans(batch, &spans, http).await?;
        let scores = self.send_scores(&scores, batch.at, http).await?;
        // An objective has one observation and several scores.
        let rejected = if scores.rejected.is_empty() { spans.rejected } else { scores.rejected };
        let count: u64 = rejected.iter().map(|rejection| rejection.count).sum::<u64>().min(objectives as u64);
        let reason = rejected.into_iter().next().map(|rejection| rejection.reason).unwrap_or_default();
        Ok(ExportReport::accepted(objectives - count as usize).with_rejected(count, reason).with_ignored(ignored))
    }

    async fn send_spans(
        &self,
        batch: &ExportBatch<'_>,
        spans: &Spans,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        send_spans(&self.0.api, SPANS, batch.resource, spans, batch.at, http).await
    }

    pub(crate) async fn send_scores(
        &self,
        scores: &[Score<'_>],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        if scores.is_empty() {
            return Ok(ExportReport::default());
        }
        let answer = self.0.api.post_json(SCORES, &scores, at, http).await?;
        let answer = serde_json::from_slice::<ScoresAnswer>(answer.body()).unwrap_or_default();
        let reason = answer.errors.first().map_or("", |error| &error.message);
        Ok(self.0.api.report(scores.len(), answer.rejected, reason))
    }
}

/// The response to a batch of scores, with status 207 if some were rejected.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ScoresAnswer {
    rejected: u64,
    errors: Vec<ScoreError>,
}

#[derive(Deserialize)]
struct ScoreError {
    message: String,
}

#[async_trait]
impl Exporter for LangfuseExporter {
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
