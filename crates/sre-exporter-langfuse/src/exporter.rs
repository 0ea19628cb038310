use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use sre_core::{
    ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Secret, Snapshot, Timestamp, Wants, send_export,
};

use crate::mapping::{self, Mapped};
use crate::settings::{Checked, InvalidSettings, LangfuseSettings};
use crate::{objectives, observation};

/// Sends events and the state of objectives to Langfuse.
#[derive(Debug)]
pub struct LangfuseExporter(Checked);

const NAME: &str = "langfuse";
const SPANS: &str = "/api/public/otel/v1/traces";
const SCORES: &str = "/api/public/scores";

/// Maximum length of a backend's reason, in characters.
const REASON_CHARS: usize = 100;

impl LangfuseExporter {
    /// Creates an exporter, without connecting to the backend.
    pub fn new(settings: LangfuseSettings) -> Result<Self, InvalidSettings> {
        Checked::try_from(settings).map(Self)
    }

    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let (mut spans, mut scores, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, event) in batch.events.iter().enumerate() {
            match mapping::map(event, self.0.environment.as_deref()) {
                Mapped::Observation(span) => spans.push(span),
                Mapped::Score(score) => {
                    scores.push(score);
                    places.push(place);
                }
                Mapped::Nothing => {}
            }
        }
        let mut report = ExportReport::default().with_ignored(batch.events.len() - spans.len() - scores.len());
        let has_spans = !spans.is_empty();
        if has_spans {
            let count = spans.len();
            report = report.and(self.refused_spans(batch, spans, http).await?.report(count));
        }
        if !scores.is_empty() {
            match self.refused_scores(scores, batch.at, http).await {
                Ok(refused) => report = report.and(refused.report(places.len())),
                // The spans were accepted: only the scores are sent again.
                Err(error) if has_spans => report = report.with_failed(&places, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// Exports the state of objectives. Exporting it again changes nothing, because observations and scores keep their
    /// ids.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let (mut spans, mut scores) = (Vec::new(), Vec::new());
        for snapshot in batch.snapshots {
            if let Snapshot::Slo(slo) = snapshot {
                let (span, of_slo) = objectives::map(slo, batch.at, self.0.environment.as_deref());
                spans.push(span);
                scores.extend(of_slo);
            }
        }
        let objectives = spans.len();
        let ignored = batch.snapshots.len() - objectives;
        if objectives == 0 {
            return Ok(ExportReport::default().with_ignored(ignored));
        }
        let spans = self.refused_spans(batch, spans, http).await?;
        let scores = self.refused_scores(scores, batch.at, http).await?;
        let refused = if scores.count > spans.count { scores } else { spans };
        Ok(refused.report(objectives).with_ignored(ignored))
    }

    async fn refused_spans(
        &self,
        batch: &ExportBatch<'_>,
        spans: Vec<Value>,
        http: &dyn HttpClient,
    ) -> Result<PartialRejection, ExportError> {
        let body = observation::request(batch.resource, spans);
        let answer = self.post(SPANS, &body, batch.at, http).await?;
        let partial = serde_json::from_slice::<SpansAnswer>(&answer).unwrap_or_default().partial_success;
        Ok(self.refused(number(&partial.rejected_spans), &partial.error_message))
    }

    async fn refused_scores(
        &self,
        scores: Vec<Value>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<PartialRejection, ExportError> {
        let answer = self.post(SCORES, &Value::Array(scores), at, http).await?;
        let answer = serde_json::from_slice::<ScoresAnswer>(&answer).unwrap_or_default();
        Ok(self.refused(answer.rejected, answer.errors.first().map_or("", |error| &error.message)))
    }

    async fn post(&self, path: &str, body: &Value, at: Timestamp, http: &dyn HttpClient) -> Result<Bytes, ExportError> {
        let request = http::Request::post(format!("{}{path}", self.0.url))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, self.0.authorization.clone())
            .header("x-langfuse-ingestion-version", "4")
            .header("x-langfuse-sdk-name", "agent-sre")
            .body(Bytes::from(body.to_string()))
            .map_err(|error| ExportError::invalid(NAME, format!("cannot make a request: {error}")))?;
        let secrets: Vec<&Secret> = self.0.secrets.iter().collect();
        Ok(send_export(NAME, request, &secrets, at, http).await?.into_body())
    }

    fn refused(&self, count: u64, reason: &str) -> PartialRejection {
        let mut reason = reason.to_owned();
        self.0.secrets.iter().for_each(|secret| reason = reason.replace(secret.expose(), "***"));
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        PartialRejection { count, reason: if reason.is_empty() { "no reason given".into() } else { reason.into() } }
    }
}

/// Records that Langfuse rejected, and the reason.
struct PartialRejection {
    count: u64,
    reason: Cow<'static, str>,
}

impl PartialRejection {
    fn report(self, sent: usize) -> ExportReport {
        let refused = self.count.min(sent as u64);
        ExportReport::accepted(sent - refused as usize).with_rejected(refused, self.reason)
    }
}

/// The response to spans, as in OTLP.
#[derive(Default, Deserialize)]
struct SpansAnswer {
    #[serde(default, rename = "partialSuccess")]
    partial_success: PartialSuccess,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PartialSuccess {
    rejected_spans: Value,
    error_message: String,
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

/// Parses a 64-bit number in OTLP's JSON: a string or, from some backends, a number.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
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
