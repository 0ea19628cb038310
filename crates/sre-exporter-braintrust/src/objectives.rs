use sre_core::{SloSnapshot, SpanId, Timestamp, TraceId, stable_id};

use crate::row::{Content, Rank, Row, Span, SpanAttributes, id_of};
use crate::spans::seconds;

/// Converts the state of an objective to a row, which is a trace of its own. The same snapshot is the same row.
pub(crate) fn row(slo: &SloSnapshot, at: Timestamp) -> Row<'_> {
    let id = stable_id(&["slo", &slo.name, &slo.agent, &at.as_nanos().to_string()]);
    let trace = TraceId::from_bytes(id).expect("a stable id is never all zero");
    let span = SpanId::from_native(&trace.to_string(), "slo");
    let budget = &slo.error_budget;
    let name = |what: &str| format!("slo.{}.{what}", slo.name);
    let mut row = Row { id: id_of(trace, span), output: Some(Content::Text(slo.status.as_str())), ..Row::default() };
    // A score is from 0 to 1: the exact share, which is negative when overspent, is a metric.
    let share = |value: Option<f64>| value.map(|value| value.clamp(0.0, 1.0));
    row.scores.put(name("budget_remaining"), share(budget.remaining));
    row.scores.put(name("sli"), share(slo.sli));
    row.metrics.put("start", seconds(at));
    row.metrics.put("end", seconds(at));
    row.metrics.put(name("budget_remaining"), budget.remaining);
    row.metrics.put(name("budget_consumed"), budget.consumed);
    row.metrics.put(name("good"), slo.good);
    row.metrics.put(name("bad"), slo.bad);
    for burn in &slo.burn_rates {
        row.metrics.put(name(&format!("burn_rate.{}", burn.window)), burn.rate);
    }
    slo.labels.iter().for_each(|(key, value)| row.metadata.put(key, value));
    row.metadata.put("agent", &slo.agent);
    row.metadata.put("slo", &slo.name);
    row.metadata.put("status", slo.status.as_str());
    row.metadata.put("target", slo.target);
    row.metadata.put("window", slo.window.to_string());
    row.span = Some(Span {
        span_id: span,
        root_span_id: trace,
        span_parents: None,
        created: at,
        span_attributes: SpanAttributes { name: format!("slo {}", slo.name).into(), kind: "score" },
        rank: Rank::Span,
    });
    row
}
