use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sre_core::{
    BackendApi, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, SloSnapshot, Timestamp,
    Wants,
};

use crate::score::{self, Rating};
use crate::settings::{HeliconeSettings, NAME};

/// Sends scores and feedback to Helicone.
#[derive(Debug)]
pub struct HeliconeExporter(BackendApi);

/// What is encoded in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why a score of a batch is not sent.
const REPLACED: &str = "Helicone keeps one score of a name for a request, and a later one has replaced it";

impl HeliconeExporter {
    /// Creates an exporter, without connecting to Helicone.
    pub fn new(settings: HeliconeSettings) -> Result<Self, InvalidExporter> {
        settings.api().map(Self)
    }

    /// Sends whether a user liked the answer to a request. Feedback in Helicone has no comment.
    pub async fn send_feedback(
        &self,
        helicone_id: &str,
        is_good: bool,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        self.send(helicone_id, "feedback", &json!({"rating": is_good}), 1, at, http).await
    }

    /// Sends the state of an objective as scores of a request: `slo.NAME.budget_remaining` and `.sli` in percent, and
    /// `.healthy`.
    pub async fn score_slo(
        &self,
        helicone_id: &str,
        slo: &SloSnapshot,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let body = json!({"scores": score::scores_of(slo)});
        self.send(helicone_id, "score", &body, 1, at, http).await
    }

    async fn send(
        &self,
        helicone_id: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        records: usize,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let path = format!("/v1/request/{}/{path}", utf8_percent_encode(helicone_id, SEGMENT));
        let answer = self.0.post_json(&path, body, at, http).await?;
        let Answer { error } = serde_json::from_slice(answer.body()).unwrap_or_default();
        let rejected = if error.is_some() { records as u64 } else { 0 };
        Ok(self.0.report(records, rejected, error.as_deref().unwrap_or_default()))
    }
}

/// The response to a score or feedback.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<String>,
}

#[async_trait]
impl Exporter for HeliconeExporter {
    fn name(&self) -> &str {
        NAME
    }

    fn wants(&self) -> Wants {
        Wants::EVENTS
    }

    /// Sends one request for each request in Helicone that the events name. One that does not exist in Helicone is rejected, and
    /// does not stop the others.
    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let ratings = score::ratings(batch.events);
        let rated: usize = ratings.iter().map(|rating| rating.places.len()).sum();
        let mut report = ExportReport::default().with_ignored(batch.len() - rated);
        let mut failure = None;
        for (at, rating) in ratings.iter().enumerate() {
            let Rating { request_id, path, body, places, replaced } = rating;
            match self.send(request_id, path, body, places.len() - replaced, batch.at, http).await {
                Ok(of_request) => report = report.and(of_request).with_rejected(*replaced as u64, REPLACED),
                Err(error) if error.is_retryable() || error.is_unauthorized() || error.is_too_large() => {
                    if at == 0 {
                        return Err(error);
                    }
                    let mut rest: Vec<usize> =
                        ratings[at..].iter().flat_map(|rating| &rating.places).copied().collect();
                    rest.sort_unstable();
                    return Ok(report.with_failed(&rest, &error));
                }
                Err(error) => {
                    report = report.with_rejected(places.len() as u64, error.to_string());
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if report.rejected_count() == rated as u64 => Err(error),
            _ => Ok(report),
        }
    }
}
