use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck, TaskFinished};
use sre_core::{AgentEvent, Event, Metric, MetricValue, SloSnapshot, Usd, stable_id};

use crate::run::{NewRun, Row, STATUS};

/// Maximum length of a name in the key of a metric or the name of a run, in characters.
const NAME_CHARS: usize = 100;
/// Maximum number of metrics in a row.
const MAX_METRICS: usize = 500;

/// Returns the row of an event in its agent's run; `None` for events that are no measurements.
pub(crate) fn of_event(event: &AgentEvent) -> Option<Row> {
    let mut metrics = Map::new();
    match &event.event {
        Event::TaskFinished(TaskFinished { success, duration_ms, cost_usd, .. }) => {
            put(&mut metrics, "task/success", Some(u8::from(*success)));
            put(&mut metrics, "task/duration_s", duration_ms.map(|ms| ms / 1e3));
            put(&mut metrics, "task/cost_usd", cost_usd.map(Usd::as_dollars));
        }
        Event::Evaluation(Evaluation { metric, passed, score, .. }) => {
            let number = score.filter(|score| score.is_finite());
            put(&mut metrics, &key("eval", metric), number.or(passed.map(|passed| f64::from(u8::from(passed)))));
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            put(&mut metrics, &key("policy", policy), Some(u8::from(*compliant)));
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

/// Returns the metrics of an objective, and what only its summary has.
pub(crate) fn of_slo(slo: &SloSnapshot) -> (Map<String, Value>, Map<String, Value>) {
    let mut metrics = Map::new();
    let budget = &slo.error_budget;
    for (name, value) in [
        ("slo/budget_remaining", budget.remaining),
        ("slo/budget_consumed", budget.consumed),
        ("slo/sli", slo.sli),
        ("slo/target", slo.target),
    ] {
        put(&mut metrics, name, value);
    }
    put(&mut metrics, "slo/good", Some(slo.good));
    put(&mut metrics, "slo/bad", Some(slo.bad));
    for burn in &slo.burn_rates {
        put(&mut metrics, &format!("slo/burn_rate/{}", burn.window), burn.rate);
    }
    for indicator in &slo.indicators {
        put(&mut metrics, &key("indicator", &indicator.name), indicator.value);
    }
    let summary = Map::from_iter([(STATUS.to_owned(), slo.status.as_str().into())]);
    (metrics, summary)
}

/// Returns the row of a batch's metrics, and their number. Of a distribution, count and sum are there. Metrics of objectives come
/// last, because their main numbers are in the rows of their runs, too.
pub(crate) fn of_metrics(metrics: &[Metric<'_>]) -> (Map<String, Value>, usize) {
    let (mut row, mut count) = (Map::new(), 0);
    let is_of_objective = |metric: &&Metric<'_>| metric.labels.iter().any(|(name, _)| name == "slo");
    let (of_objectives, others): (Vec<_>, Vec<_>) = metrics.iter().partition(is_of_objective);
    for metric in others.into_iter().chain(of_objectives) {
        let key = key_of(metric);
        match &metric.value {
            _ if count == MAX_METRICS => break,
            MetricValue::Gauge(value) | MetricValue::Counter(value) if value.is_finite() => {
                put(&mut row, &key, Some(*value));
            }
            MetricValue::Histogram(histogram) if histogram.sum.is_finite() => {
                put(&mut row, &format!("{key}/count"), Some(histogram.count));
                put(&mut row, &format!("{key}/sum"), Some(histogram.sum));
            }
            _ => continue,
        }
        count += 1;
    }
    (row, count)
}

/// Returns the key of a metric, such as `tasks/failed` or `cost/spent_dollars/agent/support`.
fn key_of(metric: &Metric<'_>) -> String {
    let mut key = metric.name.strip_prefix("sre.").unwrap_or(&metric.name).replace('.', "/");
    if let Some(unit) = metric.unit.prometheus_suffix().filter(|unit| !key.ends_with(unit)) {
        key.push('_');
        key.push_str(unit);
    }
    for (_, value) in metric.labels.iter().filter(|(_, value)| !value.is_empty()) {
        key.push('/');
        key.push_str(shortened(value));
    }
    key
}

/// Adds a metric, unless it is `None` or not finite, which JSON cannot represent.
fn put(metrics: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value.map(Into::into).filter(|value| !value.is_null()) {
        metrics.insert(key.to_owned(), value);
    }
}

/// Returns the key of a metric, shortened.
fn key(section: &str, name: &str) -> String {
    format!("{section}/{}", if name.is_empty() { "unnamed" } else { shortened(name) })
}

fn shortened(name: &str) -> &str {
    name.char_indices().nth(NAME_CHARS).map_or(name, |(end, _)| &name[..end])
}

/// Returns a run's id: the same for the same texts.
pub(crate) fn id(kind: &str, parts: &[&str]) -> String {
    let id = stable_id(&[&[kind], parts].concat());
    let hex: String = id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hex}")
}
