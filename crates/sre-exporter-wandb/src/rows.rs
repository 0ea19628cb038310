use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck, TaskFinished};
use sre_core::{AgentEvent, Event, Metric, MetricValue, SloSnapshot, Usd, stable_id};

use crate::metrics::{Key, Metrics, shortened};
use crate::run::{NewRun, Row};

/// Maximum number of metrics in a row.
const MAX_METRICS: usize = 500;

/// Returns the row of an event in its agent's run; `None` for events that are no measurements.
pub(crate) fn of_event(event: &AgentEvent) -> Option<Row<'_>> {
    let mut metrics = Metrics::default();
    match &event.event {
        Event::TaskFinished(TaskFinished { success, duration_ms, cost_usd, .. }) => {
            metrics.put(Key::Text("task/success"), u64::from(*success));
            metrics.put(Key::Text("task/duration_s"), duration_ms.map(|ms| ms / 1e3));
            metrics.put(Key::Text("task/cost_usd"), cost_usd.map(Usd::as_dollars));
        }
        Event::Evaluation(Evaluation { metric, passed, score, .. }) => {
            let number = score.filter(|score| score.is_finite());
            metrics.put(Key::Named("eval", metric), number.or(passed.map(|passed| f64::from(u8::from(passed)))));
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            metrics.put(Key::Named("policy", policy), u64::from(*compliant));
        }
        _ => {}
    }
    (!metrics.is_empty()).then_some(Row { time: event.time, metrics })
}

/// Returns the run of an agent's tasks.
pub(crate) fn run_of_agent(agent: &str, service: &str) -> NewRun {
    let config = Map::from_iter([("agent".to_owned(), agent.into()), ("service".to_owned(), service.into())]);
    let display_name = format!("agent {}", shortened(agent));
    NewRun { id: id("agent", &[agent, service]), display_name, config, tags: Vec::new() }
}

/// Returns the run of an agent's objective.
pub(crate) fn run_of_slo(slo: &SloSnapshot, service: &str) -> NewRun {
    let config = json!({
        "slo": {"name": slo.name, "target": slo.target, "window": slo.window.to_string(), "labels": slo.labels},
        "agent": slo.agent,
        "service": service,
    });
    let Value::Object(config) = config else { return run_of_agent(&slo.agent, service) };
    let of = if slo.agent.is_empty() { String::new() } else { format!(" of {}", shortened(&slo.agent)) };
    let display_name = format!("slo {}{of}", shortened(&slo.name));
    NewRun { id: id("slo", &[&slo.name, &slo.agent, service]), display_name, config, tags: Vec::new() }
}

/// Returns the run of metrics, such as costs.
pub(crate) fn run_of_metrics(service: &str) -> NewRun {
    let config = Map::from_iter([("service".to_owned(), service.into())]);
    let display_name = format!("metrics of {service}");
    NewRun { id: id("metrics", &[service]), display_name, config, tags: Vec::new() }
}

/// Returns the metrics of an objective.
pub(crate) fn of_slo(slo: &SloSnapshot) -> Metrics<'_> {
    let mut metrics = Metrics::with_capacity(6 + slo.burn_rates.len() + slo.indicators.len());
    let budget = &slo.error_budget;
    for (name, value) in [
        ("slo/budget_remaining", budget.remaining),
        ("slo/budget_consumed", budget.consumed),
        ("slo/sli", slo.sli),
        ("slo/target", slo.target),
    ] {
        metrics.put(Key::Text(name), value);
    }
    metrics.put(Key::Text("slo/good"), slo.good);
    metrics.put(Key::Text("slo/bad"), slo.bad);
    for burn in &slo.burn_rates {
        metrics.put(Key::BurnRate(burn.window), burn.rate);
    }
    for indicator in &slo.indicators {
        metrics.put(Key::Named("indicator", &indicator.name), indicator.value);
    }
    metrics
}

/// Returns the row of a batch's metrics, and their number. Of a distribution, count and sum are there. Metrics of objectives come
/// last, because their main numbers are in the rows of their runs, too.
pub(crate) fn of_metrics<'a>(metrics: &'a [Metric<'a>]) -> (Metrics<'a>, usize) {
    let (mut row, mut count) = (Metrics::with_capacity(2 * metrics.len().min(MAX_METRICS)), 0);
    let is_of_objective = |metric: &Metric<'_>| metric.labels.iter().any(|(name, _)| name == "slo");
    let others = metrics.iter().filter(|metric| !is_of_objective(metric));
    for metric in others.chain(metrics.iter().filter(|metric| is_of_objective(metric))) {
        match &metric.value {
            _ if count == MAX_METRICS => break,
            MetricValue::Gauge(value) | MetricValue::Counter(value) if value.is_finite() => {
                row.put(Key::Metric(metric, ""), *value);
            }
            MetricValue::Histogram(histogram) if histogram.sum.is_finite() => {
                row.put(Key::Metric(metric, "/count"), histogram.count);
                row.put(Key::Metric(metric, "/sum"), histogram.sum);
            }
            _ => continue,
        }
        count += 1;
    }
    (row, count)
}

/// Returns a run's id: the same for the same texts.
pub(crate) fn id(kind: &str, parts: &[&str]) -> String {
    let id = stable_id(&[&[kind], parts].concat());
    let hex: String = id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hex}")
}
