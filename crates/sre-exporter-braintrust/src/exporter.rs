use std::sync::Mutex;

use async_trait::async_trait;
use rustc_hash::FxHashSet;
use sre_core::private::lock;
use sre_core::{
    AgentEvent, EventSpan, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, InvalidExporter, SpanId,
    Timestamp, TraceId, Wants,
};

use crate::registry::Registry;
use crate::row::{Body, Rows};
use crate::settings::{BraintrustSettings, NAME, Project};
use crate::traces::Traces;
use crate::{objectives, scores, spans};

/// Sends events and the state of objectives to Braintrust.
#[derive(Debug)]
pub struct BraintrustExporter {
    pub(crate) project: Project,
    pub(crate) registry: Registry,
    pub(crate) traces: Mutex<Traces>,
}

impl BraintrustExporter {
    /// Creates an exporter, without connecting to the backend.
    pub fn new(settings: BraintrustSettings) -> Result<Self, InvalidExporter> {
        let project = Project::try_from(settings)?;
        Ok(Self { project, registry: Registry::default(), traces: Mutex::default() })
    }

    async fn export_events(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        let (rows, sent, taken) = self.rows(batch);
        if let Some(body) = rows.into_body() {
            let path = match &self.project.experiment {
                Some(name) => {
                    let id = self
                        .registry
                        .experiment(&self.registry.experiment, &self.project, name, batch.at, http)
                        .await?;
                    format!("/v1/experiment/{id}/insert")
                }
                None => self.logs(batch.at, http).await?,
            };
            self.insert(&path, &body, batch.at, http).await?;
            let mut traces = lock(&self.traces);
            sent.into_iter().for_each(|(trace, span)| traces.sent(trace, span));
        }
        Ok(ExportReport::accepted(taken).with_ignored(batch.events.len() - taken))
    }

    /// Converts the events of a batch. Returns their rows, the spans that then have one, and the number of events.
    fn rows<'a>(&self, batch: &ExportBatch<'a>) -> (Rows<'a>, Vec<(TraceId, SpanId)>, usize) {
        let (judgements, others): (Vec<&AgentEvent>, Vec<&AgentEvent>) =
            batch.events.iter().map(|event| &**event).partition(|event| event.event.is_assessment());
        let span = |event: &'a AgentEvent| EventSpan::started(event).or_else(|| EventSpan::of(event));
        let others: Vec<_> = others.into_iter().filter_map(|event| Some((event, span(event)?))).collect();
        let mut traces = lock(&self.traces);
        traces.open(others.iter().map(|(_, span)| span));
        let (mut rows, mut sent) = (Rows::default(), Vec::new());
        for (event, span) in others {
            let is_experiment = self.project.experiment.is_some();
            let position = traces.position(event, &span);
            rows.add(spans::row(event, &span, &position, is_experiment, batch.resource));
            sent.push((span.trace_id, position.id));
        }
        let mut taken = sent.len();
        let are_sent: FxHashSet<_> =
            if judgements.is_empty() { FxHashSet::default() } else { sent.iter().copied().collect() };
        for event in judgements {
            let Some(span) = EventSpan::of(event) else { continue };
            let subject = event.parent_span_id.or(traces.root(span.trace_id));
            let has_row = |id| traces.has_row(span.trace_id, id) || are_sent.contains(&(span.trace_id, id));
            if let Some(row) = scores::row(event, &span, subject.filter(|id| has_row(*id))) {
                rows.add(row);
                taken += 1;
            }
        }
        (rows, sent, taken)
    }

    /// Exports the state of objectives to the project's logs.
    async fn export_objectives(
        &self,
        batch: &ExportBatch<'_>,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let (mut rows, mut taken) = (Rows::default(), 0);
        for slo in batch.objectives() {
            rows.add(objectives::row(slo, batch.at));
            taken += 1;
        }
        if let Some(body) = rows.into_body() {
            let path = self.logs(batch.at, http).await?;
            self.insert(&path, &body, batch.at, http).await?;
        }
        Ok(ExportReport::accepted(taken).with_ignored(batch.snapshots.len() - taken))
    }

    pub(crate) async fn logs(&self, at: Timestamp, http: &dyn HttpClient) -> Result<String, ExportError> {
        Ok(format!("/v1/project_logs/{}/insert", self.registry.project(&self.project, at, http).await?))
    }

    pub(crate) async fn insert(
        &self,
        path: &str,
        body: &Body<'_>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let answer = self.project.api.post_json(path, body, at, http).await;
        if matches!(answer, Err(ExportError::Rejected { status: 404, .. })) {
            self.registry.forget();
        }
        answer.map(drop)
    }
}

#[async_trait]
impl Exporter for BraintrustExporter {
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
