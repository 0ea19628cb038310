use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sre_core::{ExportError, HttpClient, Resource, Severity, SpanId, Timestamp, TraceId, Usd, stable_id};
use sre_otlp::{Attributes, Span, SpanKind, StatusCode, unix_nanos};

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

/// An incident.
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

impl PhoenixExporter {
    /// Sends a cost as a span. The same cost exported twice is one.
    pub async fn export_cost_record(
        &self,
        record: &CostRecord,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let CostRecord { agent, task, cost, breakdown, trace_id } = record;
        let id = stable_id(&["cost", agent, task, &cost.to_string(), &at.as_nanos().to_string()]);
        let parts: Map<String, Value> =
            breakdown.iter().map(|(name, cost)| (name.clone(), cost.to_string().into())).collect();
        let mut attributes = attributes("CHAIN", agent);
        attributes.double("llm.cost.total", cost.as_dollars());
        attributes.json("metadata", &json!({"task": task, "cost_usd": cost.to_string(), "breakdown": parts}));
        let span = span(format!("cost {task}"), *trace_id, id, at, attributes);
        self.send_spans(vec![span], context(at, &Resource::new("agent-sre"), http)).await.map(drop)
    }

    /// Sends an incident as a failed span, with its severity as an annotation.
    pub async fn export_incident(
        &self,
        incident: &Incident,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<(), ExportError> {
        let Incident { id, severity, description, agent, trace_id } = incident;
        let mut attributes = attributes("CHAIN", agent);
        attributes.json("metadata", &json!({"incident": id, "severity": severity.as_str()}));
        let mut span = span(format!("incident {id}"), *trace_id, stable_id(&["incident", id]), at, attributes);
        span.status = Some(sre_otlp::Status { code: StatusCode::Error.into(), message: description.clone() });
        let target = Target::Span(span_id(stable_id(&["incident", id])));
        let resource = Resource::new("agent-sre");
        let context = context(at, &resource, http);
        self.send_spans(vec![span], context).await?;
        let annotation = Annotation {
            target,
            name: "incident".to_owned(),
            is_by_model: false,
            score: None,
            label: Some(severity.as_str().to_owned()),
            explanation: Some(description.clone()),
            metadata: Map::new(),
            identifier: "agent-sre".to_owned(),
        };
        self.annotate(&[&annotation], false, context).await
    }
}

const fn context<'a>(at: Timestamp, resource: &'a Resource, http: &'a dyn HttpClient) -> Context<'a> {
    Context { at, resource, http }
}

fn attributes(kind: &str, agent: &str) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text("openinference.span.kind", kind);
    attributes.text("agent.name", Some(agent).filter(|agent| !agent.is_empty()));
    attributes
}

/// Returns a span without duration. Its trace is its own, if it has no other.
fn span(name: String, trace: Option<TraceId>, id: [u8; 16], at: Timestamp, attributes: Attributes) -> Span {
    Span {
        trace_id: trace.map_or(id, TraceId::to_bytes).to_vec(),
        span_id: span_id(id).to_bytes().to_vec(),
        name,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: unix_nanos(at),
        end_time_unix_nano: unix_nanos(at),
        attributes: attributes.into_inner(),
        ..Span::default()
    }
}

/// Returns the first half of an id; never all zero, which is not a valid id.
pub(crate) fn span_id(id: [u8; 16]) -> SpanId {
    let half = u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]]);
    SpanId::from_bytes(half.max(1).to_be_bytes()).expect("not zero")
}
