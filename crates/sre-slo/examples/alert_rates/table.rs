//! The rows of the table.

use crate::simulation::{Rule, begins, minutes_to_detect};

pub(crate) const HEADER: [&str; 2] = [
    "| target | events an hour | rule | false warnings a month | false criticals a month | burn 5: warning | burn 14.4: critical | outage: warning | outage: critical |",
    "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
];
const MONTHS: u32 = 12;
const RUNS: u64 = 31;

pub(crate) fn row(rule: Rule, target: f64, rate: u32) -> String {
    let [warnings, criticals] = begins(rule, target, rate, 1.0, MONTHS);
    let a_month = |count: u32| format!("{:.1}", f64::from(count) / f64::from(MONTHS));
    let [five, _] = minutes_to_detect(rule, target, rate, 5.0, RUNS);
    let [_, fast] = minutes_to_detect(rule, target, rate, 14.4, RUNS);
    let begin = first_columns(rule, target, rate);
    let outage = outage_columns(rule, target, rate);
    format!("{begin} {} | {} | {} | {} {outage}", a_month(warnings), a_month(criticals), time(five), time(fast))
}

/// Returns the columns that identify a row.
pub(crate) fn first_columns(rule: Rule, target: f64, rate: u32) -> String {
    let name = if rule == Rule::Evidence { "evidence" } else { "minimum" };
    format!("| {} % | {rate} | {name} |", (target * 1e3).round() / 10.0)
}

/// Returns the columns of an outage.
pub(crate) fn outage_columns(rule: Rule, target: f64, rate: u32) -> String {
    let [warning, critical] = minutes_to_detect(rule, target, rate, 1.0 / (1.0 - target), RUNS);
    format!("| {} | {} |", time(warning), time(critical))
}

fn time(minutes: Option<u32>) -> String {
    minutes.map_or_else(|| "–".to_owned(), |minutes| format!("{minutes} min"))
}
