use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sre_core::{ExportError, HttpClient, Resource, Severity, SpanId, Status, Timestamp, TraceId, Usd};
use sre_otlp::{Attributes, SpanKind, SpanWriter, Spans, StatusCode};

use crate::PhoenixExporter;
use crate::annotation::{Annotation, Target};
use crate::exporter::Context;

/// A cost that no event carries, such as that of a service that is billed by the day.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CostRecord {
    /// The agent.
    pub agent: String,
    /// The task.
    pub task: String,
    /// The cost.
    pub cost: Usd,
    /// Parts of the cost, by name.
    pub breakdown: BTreeMap<String, Usd>,
    /// The trace to which it belongs; a trace of its own if there is none.
    pub trace_id: Option<TraceId>,
}

/// The state of an objective that another program has evaluated. Those of a runtime are exported with its snapshots.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, PartialEq)]
pub struct SloEvaluation {
    /// The objective.
    pub name: String,
    /// The status; `unknown` by default.
    pub status: Status,
    /// The remaining share of the error budget, at most 1 and negative when overspent.
    pub budget_remaining: Option<f64>,
    /// The burn rate; at 1, the budget is spent exactly at the end of its window.
    pub burn_rate: Option<f64>,
    /// Values of indicators, by name.
    pub indicators: BTreeMap<String, f64>,
    /// The trace to which it belongs; a trace of its own if there is none.
    pub trace_id: Option<TraceId>,
}

impl Default for SloEvaluation {
    fn default() -> Self {
        Self {
            name: String::new(),
            status: Status::Unknown,
            budget_remaining: None,
            burn_rate: None,
            indicators: BTreeMap::new(),
            trace_id: None,
        }
    }
}

/// An incident.
///
/// Later versions may have more fields: end with `..Incident::new(id, severity)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The id. An incident that is exported again stays one.
    pub id: String,
    /// The severity.
    pub severity: Severity,
    /// What happened.
    pub description: String,
    /// The agent, or an empty string.
    pub agent: String,
    /// The trace to which it belongs; a trace of its own if there is none.
    pub trace_id: Option<TraceId>,
}

impl Incident {
    /// Creates an incident without description, agent and trace.
    pub fn new(id: impl Into<String>, severity: Severity) -> Self {
        Self { id: id.into(), severity, description: String::new(), agent: String::new(), trace_id: None }
    }
}

impl PhoenixExporter {
    /// Sends a cost as a span. The same cost exported twice is one.
    pub async fn export_cost_record(
        &self,
        record: &CostRecord,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let CostRecord { agent, task, cost, breakdown, trace_id } = record;
        let record = Record {
            id: ["cost", agent, task, &cost.to_string(), &at.as_nanos().to_string()],
            trace: *trace_id,
            kind: "CHAIN",
            agent,
            at,
        };
        let parts: Map<String, Value> =
            breakdown.iter().map(|(name, cost)| (name.clone(), cost.to_string().into())).collect();
        let metadata = json!({"task": task, "cost_usd": cost.to_string(), "breakdown": parts});
        let write = |span: &mut SpanWriter<'_>| {
            span.name(&["cost ", task]);
            let mut attributes = span.attributes();
            attributes.double("llm.cost.total", cost.as_dollars());
            attributes.json("metadata", &metadata);
        };
        self.send_record(&record, write, &[], http).await
    }

    /// Sends the state of an objective as a span of the kind `EVALUATOR`, with status, numbers and indicators as annotations.
    /// The same state exported twice is one.
    pub async fn export_slo_evaluation(
        &self,
        evaluation: &SloEvaluation,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let SloEvaluation { name, status, budget_remaining, burn_rate, indicators, trace_id } = evaluation;
        let id = ["slo-evaluation", name, &at.as_nanos().to_string()];
        let record = Record { id, trace: *trace_id, kind: "EVALUATOR", agent: "", at };
        let numbers = [("budget_remaining", *budget_remaining), ("burn_rate", *burn_rate)];
        let numbers = numbers.into_iter().map(|(number, value)| (format!("slo.{number}"), value));
        let of_indicators = indicators.iter().map(|(name, value)| (format!("slo.indicator {name}"), Some(*value)));
        let scores = numbers.chain(of_indicators).filter(|(_, value)| value.is_some_and(f64::is_finite));
        let status_label =
            Annotation { label: Some(status.as_str().to_owned()), ..record.annotation("slo.status".to_owned()) };
        let scores = scores.map(|(name, score)| Annotation { score, ..record.annotation(name) });
        let annotations: Vec<Annotation> = std::iter::once(status_label).chain(scores).collect();
        let write = |span: &mut SpanWriter<'_>| {
            span.name(&["slo ", name]);
            if matches!(status, Status::Critical | Status::Exhausted) {
                span.status(StatusCode::Error, status.as_str());
            }
        };
        self.send_record(&record, write, &annotations, http).await
    }

    /// Sends an incident as a failed span, with its severity as an annotation.
    pub async fn export_incident(
        &self,
        incident: &Incident,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let Incident { id, severity, description, agent, trace_id } = incident;
        let record = Record { id: ["incident", id], trace: *trace_id, kind: "CHAIN", agent, at };
        let annotation = Annotation {
            label: Some(severity.as_str().to_owned()),
            explanation: Some(description.clone()),
            ..record.annotation("incident".to_owned())
        };
        let write = |span: &mut SpanWriter<'_>| {
            span.name(&["incident ", id]);
            span.status(StatusCode::Error, description);
            let metadata = json!({"incident": id, "severity": severity.as_str()});
            span.attributes().json("metadata", &metadata);
        };
        self.send_record(&record, write, &[annotation], http).await
    }

    /// Sends a record as a span without duration, of which `write` writes the rest, and then its annotations.
    async fn send_record<const N: usize>(
        &self,
        record: &Record<'_, N>,
        write: impl FnOnce(&mut SpanWriter<'_>) + Send,
        annotations: &[Annotation],
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let resource = Resource::new("agent-sre");
        let context = Context { at: record.at, resource: &resource, http };
        let mut spans = Spans::default();
        spans.add(|span| {
            record.describe(&mut span.attributes());
            span.kind(SpanKind::Internal);
            span.ids(record.trace(), record.span(), None);
            span.times(record.at, record.at);
            write(span);
        });
        self.send_spans(&spans, [(record.trace(), record.span())], context).await?;
        self.annotate(&annotations.iter().collect::<Vec<_>>(), false, context).await
    }
}

/// Something that happened at one time, and the texts that identify it.
struct Record<'a, const N: usize> {
    id: [&'a str; N],
    trace: Option<TraceId>,
    /// OpenInference's kind of span.
    kind: &'static str,
    agent: &'a str,
    at: Timestamp,
}

impl<const N: usize> Record<'_, N> {
    /// Returns the trace, which is its own if it has no other.
    fn trace(&self) -> TraceId {
        self.trace.unwrap_or_else(|| TraceId::derived(&self.id))
    }

    fn span(&self) -> SpanId {
        SpanId::derived(&self.id)
    }

    fn describe(&self, attributes: &mut Attributes<'_>) {
        attributes.text("openinference.span.kind", self.kind);
        attributes.text("agent.name", Some(self.agent).filter(|agent| !agent.is_empty()));
    }

    fn annotation(&self, name: String) -> Annotation {
        Annotation {
            target: Target::Span(self.span()),
            name,
            is_by_model: false,
            score: None,
            label: None,
            explanation: None,
            metadata: Map::new(),
            identifier: "agent-sre".to_owned(),
        }
    }
}
