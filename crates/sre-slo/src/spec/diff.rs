use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{IndicatorSpec, SloSpec};
use crate::GoodWhen;

/// A difference between two versions of an objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The objective.
    pub slo: String,
    /// The path of the field; empty if the whole objective was added or removed.
    pub field: String,
    /// The value before.
    pub from: Value,
    /// The value after.
    pub to: Value,
    /// The effect of the change.
    pub kind: ChangeKind,
}

/// The effect of a change on users of the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// Neither harder nor easier to meet.
    Neutral,
    /// Easier to meet, or alerts later.
    Loosened,
    /// Harder to meet, or alerts earlier.
    Tightened,
    /// Measures something else: numbers before and after cannot be compared.
    Breaking,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Neutral => "neutral",
            Self::Loosened => "loosened",
            Self::Tightened => "tightened",
            Self::Breaking => "breaking",
        })
    }
}

/// Returns the changes from `before` to `after`, by objective and field.
///
/// Adding an objective or indicator is tightening, removing one is breaking. A higher lower bound, a lower upper bound and a
/// burn threshold that fires earlier are tightening; the opposites are loosening. Another agent, window, event or indicator is
/// breaking.
pub fn diff(before: &[SloSpec], after: &[SloSpec]) -> Vec<Change> {
    let mut changes = Vec::new();
    for old in before {
        match after.iter().find(|new| new.name == old.name) {
            Some(new) => compare(old, new, &mut changes),
            None => changes.push(whole(&old.name, "present", Value::Null, ChangeKind::Breaking)),
        }
    }
    for new in after.iter().filter(|new| before.iter().all(|old| old.name != new.name)) {
        changes.push(whole(&new.name, "", "present".into(), ChangeKind::Tightened));
    }
    changes
}

fn whole(slo: &str, from: &str, to: Value, kind: ChangeKind) -> Change {
    let from = if from.is_empty() { Value::Null } else { from.into() };
    Change { slo: slo.to_owned(), field: String::new(), from, to, kind }
}

fn compare(old: &SloSpec, new: &SloSpec, changes: &mut Vec<Change>) {
    let mut note = |field: &str, from: Value, to: Value, kind: ChangeKind| {
        if from != to {
            changes.push(Change { slo: old.name.clone(), field: field.to_owned(), from, to, kind });
        }
    };
    note("description", json(&old.description), json(&new.description), ChangeKind::Neutral);
    note("labels", json(&old.labels), json(&new.labels), ChangeKind::Neutral);
    note("service", json(&old.service().unwrap_or("")), json(&new.service().unwrap_or("")), ChangeKind::Breaking);
    let [before, after] = [old, new].map(|spec| spec.budget_config(None).window);
    note("window", json(&before), json(&after), ChangeKind::Breaking);
    note("calendar", json(&old.calendar), json(&new.calendar), ChangeKind::Breaking);
    let slice = |spec: &SloSpec| spec.time_slices.map(|slices| slices.window);
    note("time_slices.window", json(&slice(old)), json(&slice(new)), ChangeKind::Breaking);
    if let Some((old, new)) = old.time_slices.zip(new.time_slices) {
        let kind = by_size(Some(old.target.ratio()), Some(new.target.ratio()), true);
        note("time_slices.target", json(&old.target), json(&new.target), kind);
    }
    let ratio = |spec: &SloSpec| spec.target.map(crate::SloTarget::ratio);
    note("target", json(&old.target), json(&new.target), by_size(ratio(old), ratio(new), true));
    note("composite", json(&old.composite), json(&new.composite), ChangeKind::Breaking);
    compare_good_when(old, new, &mut note);
    compare_policy(old, new, &mut note);
    compare_indicators(old, new, &mut note);
}

/// Returns the indicators by name, or by type; from the second of a type on with a number.
fn by_name(spec: &SloSpec) -> Vec<(String, &IndicatorSpec)> {
    let mut named: Vec<(String, &IndicatorSpec)> = Vec::new();
    for indicator in &spec.indicators {
        let name = indicator.name.as_ref().unwrap_or(&indicator.kind);
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let free =
            std::iter::once(name.clone()).chain(numbered).find(|name| named.iter().all(|(taken, _)| taken != name));
        named.extend(free.map(|name| (name, indicator)));
    }
    named
}

fn compare_indicators(old: &SloSpec, new: &SloSpec, note: &mut dyn FnMut(&str, Value, Value, ChangeKind)) {
    let (before, after) = (by_name(old), by_name(new));
    for (name, indicator) in &before {
        let field = format!("indicators.{name}");
        let same = after.iter().find(|(now, new)| now == name && new.kind == indicator.kind);
        let Some((_, now)) = same else {
            note(&field, json(indicator), Value::Null, ChangeKind::Breaking);
            continue;
        };
        let names =
            indicator.params.keys().chain(now.params.keys().filter(|name| !indicator.params.contains_key(*name)));
        for name in names {
            let (from, to) = (indicator.params.get(name), now.params.get(name));
            let kind = match name.as_str() {
                "target_ms" | "target_usd" | "max_depth" | "max_steps" | "max_repeats" => {
                    by_size(number(from), number(to), false)
                }
                "target" => {
                    let higher = !matches!(indicator.kind.as_str(), "hallucination_rate" | "calibration_delta");
                    // Targets above 1 are percentages.
                    let ratio = |value| number(value).map(|target| if target > 1.0 { target / 100.0 } else { target });
                    by_size(ratio(from), ratio(to), higher)
                }
                "percentile" => by_size(number(from), number(to), true),
                _ => ChangeKind::Breaking,
            };
            note(&format!("{field}.{name}"), json(&from), json(&to), kind);
        }
    }
    for (name, indicator) in &after {
        if before.iter().all(|(old, was)| old != name || was.kind != indicator.kind) {
            note(&format!("indicators.{name}"), Value::Null, json(indicator), ChangeKind::Tightened);
        }
    }
}

fn compare_good_when(old: &SloSpec, new: &SloSpec, note: &mut dyn FnMut(&str, Value, Value, ChangeKind)) {
    let (old, new) = (old.good_when.clone().unwrap_or_default(), new.good_when.clone().unwrap_or_default());
    note("good_when.event", json(&old.event.to_string()), json(&new.event.to_string()), ChangeKind::Breaking);
    note("good_when.success", json(&old.success), json(&new.success), ChangeKind::Breaking);
    let limit = |from: Option<f64>, to: Option<f64>| match (from, to) {
        (None, Some(_)) => ChangeKind::Tightened,
        (Some(_), None) => ChangeKind::Loosened,
        _ => by_size(from, to, false),
    };
    let cost = |good_when: &GoodWhen| good_when.max_cost_usd.map(sre_core::Usd::as_dollars);
    let duration = limit(old.max_duration_ms, new.max_duration_ms);
    note("good_when.max_duration_ms", json(&old.max_duration_ms), json(&new.max_duration_ms), duration);
    note("good_when.max_cost_usd", json(&old.max_cost_usd), json(&new.max_cost_usd), limit(cost(&old), cost(&new)));
}

fn compare_policy(old: &SloSpec, new: &SloSpec, note: &mut dyn FnMut(&str, Value, Value, ChangeKind)) {
    let [before, after] = [old, new].map(|spec| spec.budget_config(None));
    let rates = |config: &crate::BudgetConfig| {
        config.policy.thresholds.iter().map(|threshold| threshold.rate).fold(f64::INFINITY, f64::min)
    };
    let kind = if before.policy.thresholds.len() == after.policy.thresholds.len() && rates(&before) != rates(&after) {
        by_size(Some(rates(&before)), Some(rates(&after)), false)
    } else if after.policy.thresholds.len() > before.policy.thresholds.len() {
        ChangeKind::Tightened
    } else {
        ChangeKind::Loosened
    };
    note("error_budget_policy.thresholds", json(&before.policy.thresholds), json(&after.policy.thresholds), kind);
    let count = |count: Option<u64>| count.map(|count| count as f64);
    let more_is_louder = by_size(Some(before.significance), Some(after.significance), true);
    note("error_budget_policy.significance", json(&before.significance), json(&after.significance), more_is_louder);
    let fewer_is_louder = by_size(count(Some(before.min_bad)), count(Some(after.min_bad)), false);
    note("error_budget_policy.min_bad", json(&before.min_bad), json(&after.min_bad), fewer_is_louder);
    let fewer_is_louder = by_size(count(before.min_events), count(after.min_events), false);
    note("error_budget_policy.min_events", json(&before.min_events), json(&after.min_events), fewer_is_louder);
    let fewer_is_harder = by_size(count(before.expected_events), count(after.expected_events), false);
    note(
        "error_budget_policy.expected_events",
        json(&before.expected_events),
        json(&after.expected_events),
        fewer_is_harder,
    );
    let (from, to) = (before.exhaustion_action, after.exhaustion_action);
    note("error_budget_policy.exhaustion_action", json(&from), json(&to), ChangeKind::Neutral);
}

/// Classifies the change of a number. If one is missing, the indicator's default applies, which is not known here: the change is
/// assumed to be tightening.
fn by_size(from: Option<f64>, to: Option<f64>, higher_is_harder: bool) -> ChangeKind {
    match (from, to) {
        (Some(from), Some(to)) if (to > from) != higher_is_harder => ChangeKind::Loosened,
        _ => ChangeKind::Tightened,
    }
}

fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
            None => text.parse().ok(),
        },
        _ => None,
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
