use serde_json::{Map, Value, json};
use sre_core::{SloSnapshot, SpanId, Timestamp, stable_id};

use crate::spans::{put, seconds};

/// Converts the state of an objective to a row's id and fields. The same snapshot is the same row.
pub(crate) fn row(slo: &SloSnapshot, at: Timestamp) -> (String, Map<String, Value>) {
    let id = stable_id(&["slo", &slo.name, &slo.agent, &at.as_nanos().to_string()]);
    let trace: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let span = SpanId::from_native(&trace, "slo").to_string();
    let budget = &slo.error_budget;
    let name = |what: &str| format!("slo.{}.{what}", slo.name);
    // A score is from 0 to 1: the exact share, which is negative when overspent, is a metric.
    let share = |value: Option<f64>| value.map(|value| value.clamp(0.0, 1.0));
    let (mut scores, mut metrics) = (Map::new(), Map::new());
    put(&mut scores, &name("budget_remaining"), share(budget.remaining));
    put(&mut scores, &name("sli"), share(slo.sli));
    put(&mut metrics, "start", Some(seconds(at)));
    put(&mut metrics, "end", Some(seconds(at)));
    put(&mut metrics, &name("budget_remaining"), budget.remaining);
    put(&mut metrics, &name("budget_consumed"), budget.consumed);
    put(&mut metrics, &name("good"), Some(slo.good));
    put(&mut metrics, &name("bad"), Some(slo.bad));
    for burn in &slo.burn_rates {
        put(&mut metrics, &name(&format!("burn_rate.{}", burn.window)), burn.rate);
    }
    let mut metadata: Map<String, Value> = Map::new();
    slo.labels.iter().for_each(|(key, value)| put(&mut metadata, key, Some(value.as_str())));
    put(&mut metadata, "agent", Some(slo.agent.as_str()));
    put(&mut metadata, "slo", Some(slo.name.as_str()));
    put(&mut metadata, "status", Some(slo.status.as_str()));
    put(&mut metadata, "target", slo.target);
    put(&mut metadata, "window", Some(slo.window.to_string()));
    let row = json!({
        "span_id": span,
        "root_span_id": trace,
        "span_parents": null,
        "created": at,
        "span_attributes": {"name": format!("slo {}", slo.name), "type": "score"},
        "output": slo.status.as_str(),
        "scores": scores,
        "metrics": metrics,
        "metadata": metadata,
    });
    let Value::Object(row) = row else { return (trace, Map::new()) };
    (format!("{trace}-{span}"), row)
}
