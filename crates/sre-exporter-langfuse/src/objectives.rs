use serde_json::{Value, json};
use sre_core::{SloSnapshot, Timestamp, stable_id};
use sre_otlp::{Span, SpanKind, unix_nanos};

use crate::observation::{Observation, score, time};

/// Returns the observation of an agent's objective, and its scores at that time. The trace is the same every time.
pub(crate) fn map(slo: &SloSnapshot, at: Timestamp, environment: Option<&str>) -> (Span, Vec<Value>) {
    let id = stable_id(&["slo", &slo.name, &slo.agent]);
    let trace_id = hex(&id);
    let mut observation = Observation::default();
    let name = format!("slo {}", slo.name);
    observation.set("langfuse.observation.type", "span");
    observation.set("langfuse.trace.name", name.as_str());
    observation.set_metadata("agent", slo.agent.as_str());
    environment.into_iter().for_each(|name| observation.set("langfuse.environment", name));
    let span = Span {
        trace_id: id.to_vec(),
        span_id: id[..8].to_vec(),
        name,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: unix_nanos(at),
        end_time_unix_nano: unix_nanos(at),
        attributes: observation.0.into_inner(),
        ..Span::default()
    };
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite()).map(|value| json!(value));
    let scores = [
        ("budget_remaining", finite(slo.error_budget.remaining), "NUMERIC"),
        ("sli", finite(slo.sli), "NUMERIC"),
        ("status", Some(slo.status.as_str().into()), "CATEGORICAL"),
    ];
    let scores = scores.into_iter().filter_map(|(what, value, data_type)| {
        let name = format!("slo.{}.{what}", slo.name);
        let key = stable_id(&[&name, &slo.agent, &at.as_nanos().to_string()]);
        Some(score([
            ("id", Some(hex(&key).into())),
            ("traceId", Some(trace_id.clone().into())),
            ("name", Some(name.into())),
            ("value", Some(value?)),
            ("dataType", Some(data_type.into())),
            ("environment", environment.map(Value::from)),
            ("metadata", Some(json!({"agent": slo.agent}))),
            ("timestamp", time(at)),
        ]))
    });
    let scores = scores.collect();
    (span, scores)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
