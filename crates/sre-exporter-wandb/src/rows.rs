use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck, TaskFinished};
use sre_core::{AgentEvent, CostsSnapshot, Event, SloSnapshot, Totals, Usd, stable_id};

use crate::run::{NewRun, Row, STATUS};

/// Maximum length of a name in the key of a metric or the name of a run, in characters.
const NAME_CHARS: usize = 100;
/// Maximum number of budgets in a row.
const MAX_BUDGETS: usize = 200;

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
    NewRun { id: id("agent", &[agent, service]), display_name: format!("agent {}", shortened(agent)), config }
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
    NewRun { id: id("slo", &[&slo.name, &slo.agent, service]), display_name, config }
}

/// Returns the run of costs and totals.
pub(crate) fn run_of_totals(service: &str) -> NewRun {
    let config = Map::from_iter([("service".to_owned(), service.into())]);
    NewRun { id: id("totals", &[service]), display_name: format!("totals of {service}"), config }
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

/// Adds sums over all events.
pub(crate) fn add_totals(metrics: &mut Map<String, Value>, totals: &Totals) {
    for (name, value) in [
        ("tasks", totals.tasks),
        ("tasks_failed", totals.failed),
        ("tasks_incomplete", totals.incomplete),
        ("llm_calls", totals.llm_calls),
        ("llm_errors", totals.llm_errors),
        ("tool_calls", totals.tool_calls),
        ("tool_errors", totals.tool_errors),
        ("input_tokens", totals.input_tokens),
        ("output_tokens", totals.output_tokens),
    ] {
        put(metrics, &format!("totals/{name}"), Some(value));
    }
    put(metrics, "totals/cost_usd", Some(totals.cost_usd.as_dollars()));
}

/// Adds the amounts spent of budgets.
pub(crate) fn add_costs(metrics: &mut Map<String, Value>, costs: &CostsSnapshot) {
    for budget in costs.budgets.iter().take(MAX_BUDGETS) {
        let name = key("cost", &budget.scope.to_string());
        put(metrics, &format!("{name}/spent_usd"), Some(budget.spent_usd.as_dollars()));
        put(metrics, &format!("{name}/limit_usd"), Some(budget.limit_usd.as_dollars()));
    }
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
fn id(kind: &str, parts: &[&str]) -> String {
    let id = stable_id(&[&[kind], parts].concat());
    let hex: String = id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hex}")
}
