use std::collections::BTreeMap;

use sre_core::{
    ExportError, ExportReport, HttpClient, JsonObject, Resource, SloSnapshot, SpanId, Timestamp, TraceId, Usd,
    stable_id,
};
use sre_otlp::{SpanKind, Spans, send_spans};

use crate::LangfuseExporter;
use crate::exporter::SPANS;
use crate::mapping::{CostDetails, METADATA};
use crate::objectives;
use crate::score::{Score, ScoreValue, hex};

/// A cost that no event carries, such as that of a service that is billed by the day.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CostObservation {
    /// The agent.
    pub agent: String,
    /// The task, or an empty string.
    pub task: String,
    /// The cost.
    pub cost: Usd,
    /// Further texts by name.
    pub metadata: BTreeMap<String, String>,
}

impl LangfuseExporter {
    /// Scores a trace with the state of an objective: `slo.NAME.budget_remaining`, `.sli` and `.status`. The same state
    /// sent twice is one.
    pub async fn score_slo(
        &self,
        trace: TraceId,
        slo: &SloSnapshot,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let scores: Vec<_> = objectives::scores(slo, trace, at, self.0.environment.as_deref()).collect();
        self.send_scores(&scores, at, http).await
    }

    /// Scores a trace with a number. A value that is not finite is ignored.
    pub async fn score_trace(
        &self,
        trace: TraceId,
        name: &str,
        value: f64,
        comment: Option<&str>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let Some(value) = ScoreValue::number(Some(value)) else { return Ok(ExportReport::default().with_ignored(1)) };
        let score = Score {
            id: hex(stable_id(&["score", name, &trace.to_string(), &at.as_nanos().to_string()])),
            trace_id: trace,
            observation_id: None,
            name: name.into(),
            value,
            comment,
            environment: self.0.environment.as_deref(),
            metadata: JsonObject::default(),
            timestamp: at,
        };
        self.send_scores(&[score], at, http).await
    }

    /// Adds an observation with a cost to a trace, which Langfuse adds to the trace's other costs. `resource` is that of the
    /// outbox. The same cost sent twice is one.
    pub async fn record_cost(
        &self,
        trace: TraceId,
        observation: &CostObservation,
        resource: &Resource,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<ExportReport, ExportError> {
        let CostObservation { agent, task, cost, metadata } = observation;
        let id = ["cost", agent, task, &cost.to_string(), &trace.to_string(), &at.as_nanos().to_string()];
        let mut spans = Spans::default();
        spans.add(|span| {
            let mut attributes = span.attributes();
            // Langfuse reads costs of generations.
            attributes.text("langfuse.observation.type", "generation");
            attributes.json_text("langfuse.observation.cost_details", &CostDetails { total: cost.as_dollars() });
            attributes.text("langfuse.environment", self.0.environment.as_deref());
            let mut of_observation = attributes.prefixed(METADATA);
            metadata.iter().for_each(|(key, value)| of_observation.text(key, value.as_str()));
            of_observation.text("agent", agent.as_str());
            of_observation.text("task", Some(task.as_str()).filter(|task| !task.is_empty()));
            span.name(&["cost of ", agent]);
            span.kind(SpanKind::Internal);
            span.ids(trace, SpanId::derived(&id), None);
            span.times(at, at);
        });
        send_spans(&self.0.api, SPANS, resource, &spans, at, http).await
    }
}
