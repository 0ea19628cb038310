use std::ops::Range;

use async_trait::async_trait;
use serde::Deserialize;
use sre_core::{
    EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, Rejection, Timestamp,
    Wants,
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
        let (mut spans, mut scores, mut of_each) = (Spans::default(), Vec::new(), Vec::new());
        for slo in batch.objectives() {
            let trace = objectives::trace(slo);
            spans.add(|span| objectives::write_observation(slo, trace, batch.at, environment, span));
            let first = scores.len();
            scores.extend(objectives::scores(slo, trace, batch.at, environment));
            of_each.push(first..scores.len());
        }
        let objectives = spans.len();
        let ignored = batch.snapshots.len() - objectives;
        if objectives == 0 {
            return Ok(ExportReport::default().with_ignored(ignored));
        }
        let of_spans = self.send_spans(batch, &spans, http).await?;
        let of_scores = self.send_scores_of_objectives(&scores, &of_each, batch.at, http).await?;
        let mut report = ExportReport::default().with_ignored(ignored);
        let mut accepted = objectives as u64;
        for rejection in of_spans.rejected.into_iter().chain(of_scores) {
            let count = rejection.count.min(accepted);
            accepted -= count;
            report = report.with_rejected(count, rejection.reason);
        }
        Ok(report.and(ExportReport::accepted(accepted as usize)))
    }

    /// Sends the scores of objectives, in one request. If some are rejected, those of each objective are sent again on their
    /// own, because the response does not report which: they keep their ids. Returns the number of objectives with a rejected
    /// score, by reason.
    async fn send_scores_of_objectives(
        &self,
        scores: &[Score<'_>],
        of_each: &[Range<usize>],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Vec<Rejection>, ExportError> {
        let all = self.send_scores(scores, at, http).await?;
        let first_reason = |report: ExportReport| report.rejected.into_iter().next().map(|rejection| rejection.reason);
        if all.rejected.is_empty() || of_each.len() == 1 {
            return Ok(first_reason(all).map(|reason| Rejection::new(1, reason)).into_iter().collect());
        }
        let mut rejected = Vec::new();
        for range in of_each {
            let report = self.send_scores(&scores[range.clone()], at, http).await?;
            rejected.extend(first_reason(report).map(|reason| Rejection::new(1, reason)));
        }
        Ok(rejected)
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
