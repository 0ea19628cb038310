use sre_core::{SloSnapshot, SpanId, Timestamp, TraceId};
use sre_otlp::{SpanKind, SpanWriter};

/// Writes the span of an objective at one time. The spans of an objective and agent on one day (UTC) are a trace.
pub(crate) fn write_span(slo: &SloSnapshot, tags: &[String], at: Timestamp, span: &mut SpanWriter<'_>) {
    let day = at.as_secs().div_euclid(86_400).to_string();
    let mut attributes = span.attributes();
    attributes.text("agentops.span.kind", "operation");
    attributes.text("operation.name", slo.name.as_str());
    attributes.text("agent.name", Some(slo.agent.as_str()).filter(|agent| !agent.is_empty()));
    let tags: Vec<&str> = std::iter::once("slo").chain(tags.iter().map(String::as_str)).collect();
    attributes.json("agentops.tags", &tags.into());
    let mut set = |name: &str, value: Option<f64>| {
        attributes.double(&format!("trace.metadata.slo.{}.{name}", slo.name), value.filter(|value| value.is_finite()));
    };
    set("budget_remaining", slo.error_budget.remaining);
    set("sli", slo.sli);
    set("target", slo.target);
    for burn in &slo.burn_rates {
        set(&format!("burn_rate.{}", burn.window), burn.rate);
    }
    attributes.text(&format!("trace.metadata.slo.{}.status", slo.name), slo.status.as_str());
    span.name(&["slo ", &slo.name, ".operation"]);
    span.kind(SpanKind::Internal);
    let trace = TraceId::derived(&["slo", &slo.name, &slo.agent, &day]);
    span.ids(trace, SpanId::derived(&["slo", &slo.name, &slo.agent, &at.as_nanos().to_string()]), None);
    span.times(at, at);
}
