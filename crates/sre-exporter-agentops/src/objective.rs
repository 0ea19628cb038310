use sre_core::{SloSnapshot, Timestamp, stable_id};
use sre_otlp::{Attributes, Span, SpanKind, unix_nanos};

/// Returns the span of an objective at one time. The spans of an objective and agent on one day (UTC) are a trace.
pub(crate) fn map(slo: &SloSnapshot, tags: &[String], at: Timestamp) -> Span {
    let day = at.as_secs().div_euclid(86_400).to_string();
    let trace_id = stable_id(&["slo", &slo.name, &slo.agent, &day]);
    let span_id = stable_id(&["slo", &slo.name, &slo.agent, &at.as_nanos().to_string()]);
    let mut attributes = Attributes::default();
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
    Span {
        trace_id: trace_id.to_vec(),
        span_id: span_id[8..].to_vec(),
        name: format!("slo {}.operation", slo.name),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: unix_nanos(at),
        end_time_unix_nano: unix_nanos(at),
        attributes: attributes.into_inner(),
        ..Span::default()
    }
}
