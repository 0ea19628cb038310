use sre_core::{JsonObject, SloSnapshot, SpanId, Timestamp, TraceId, stable_id};
use sre_otlp::{SpanKind, SpanWriter};

use crate::mapping::METADATA;
use crate::score::{Score, ScoreValue, hex};

/// Returns the trace of an agent's objective, which is the same every time.
pub(crate) fn trace(slo: &SloSnapshot) -> TraceId {
    TraceId::derived(&["slo", &slo.name, &slo.agent])
}

/// Writes the only observation of the trace.
pub(crate) fn write_observation(
    slo: &SloSnapshot,
    trace: TraceId,
    at: Timestamp,
    environment: Option<&str>,
    span: &mut SpanWriter<'_>,
) {
    let mut attributes = span.attributes();
    attributes.text("langfuse.observation.type", "span");
    attributes.texts("langfuse.trace.name", &["slo ", &slo.name]);
    attributes.prefixed(METADATA).text("agent", slo.agent.as_str());
    attributes.text("langfuse.environment", environment);
    span.name(&["slo ", &slo.name]);
    span.kind(SpanKind::Internal);
    span.ids(trace, SpanId::derived(&["slo", &slo.name, &slo.agent]), None);
    span.times(at, at);
}

/// Returns the scores of an objective at a time: what remains of its budget, its indicator and its status.
pub(crate) fn scores<'a>(
    slo: &'a SloSnapshot,
    trace_id: TraceId,
    at: Timestamp,
    environment: Option<&'a str>,
) -> impl Iterator<Item = Score<'a>> {
    let values = [
        ("budget_remaining", ScoreValue::number(slo.error_budget.remaining)),
        ("sli", ScoreValue::number(slo.sli)),
        ("status", Some(ScoreValue::Categorical(slo.status.as_str()))),
    ];
    values.into_iter().filter_map(move |(what, value)| {
        let name = format!("slo.{}.{what}", slo.name);
        let mut metadata = JsonObject::default();
        metadata.put("agent", &slo.agent);
        Some(Score {
            id: hex(stable_id(&[&name, &slo.agent, &trace_id.to_string(), &at.as_nanos().to_string()])),
            trace_id,
            observation_id: None,
            name: name.into(),
            value: value?,
            comment: (what != "status").then(|| slo.status.as_str()),
            environment,
            metadata,
            timestamp: at,
        })
    })
}
