use std::io::{self, Write};

use agent_sre::{IndicatorSnapshot, SloSnapshot, Status, Timestamp, Totals};
use comfy_table::{CellAlignment, Table, presets};

use super::format::{
    NO_VALUE, bar, count, count_of, decimal, duration, percent, sparkline, value_and_target, with_unit,
};
use super::guards;
use super::style::{self, BOLD, DIM, PLAIN};
use crate::findings::Findings;

/// Writes the report; the worst objective comes first.
pub(crate) fn text(findings: &Findings, out: &mut impl Write) -> io::Result<()> {
    let mut slos: Vec<&SloSnapshot> = findings.slos.iter().collect();
    slos.sort_by_key(|slo| std::cmp::Reverse(slo.status));
    if slos.is_empty() {
        writeln!(out, "No objective applies: the input names no agent.")?;
    }
    for slo in slos {
        objective(slo, findings, out)?;
        writeln!(out)?;
    }
    if let Some(found) = &findings.breakers {
        guards::breakers(found, out)?;
    }
    if let Some(found) = &findings.costs {
        guards::costs(found, findings.evaluated_at, out)?;
    }
    totals(findings, out)
}

fn objective(slo: &SloSnapshot, findings: &Findings, out: &mut impl Write) -> io::Result<()> {
    let style = style::for_status(slo.status);
    let agent = if slo.agent.is_empty() { String::new() } else { format!(" · {}", slo.agent) };
    let word = slo.status.as_str().to_uppercase();
    writeln!(out, "{style} {word} {PLAIN} {BOLD}{}{PLAIN}{agent}", slo.name)?;
    reasons(slo, out)?;
    let events = slo.good + slo.bad;
    let interval =
        slo.interval.map_or(String::new(), |(low, high)| format!(" (95 %: {} to {})", percent(low), percent(high)));
    let target = slo.target.map_or(String::new(), |target| format!(", target {}", percent(target)));
    match slo.sli {
        Some(sli) => writeln!(
            out,
            "  good      {} of {}{target} over {}{DIM}{interval}{PLAIN}",
            percent(sli),
            count_of(events, "event"),
            slo.window
        )?,
        None => writeln!(out, "  good      no events{target} over {}", slo.window)?,
    }
    budget(slo, out)?;
    if slo.target.is_some() {
        let rates = slo
            .burn_rates
            .iter()
            .map(|burn| format!("{} {}", burn.window, burn.rate.map_or(NO_VALUE.to_owned(), decimal)));
        writeln!(out, "  burn      {}", rates.collect::<Vec<_>>().join("   "))?;
    }
    let error_ratios = findings.timelines.error_ratios(&slo.agent);
    if !error_ratios.is_empty() {
        // An error ratio equal to the budget is shown at half height.
        let scale = 2.0 * slo.error_budget.total.unwrap_or(0.5).max(0.001);
        writeln!(out, "  errors    {}{DIM} failed tasks over the run{PLAIN}", sparkline(&error_ratios, scale))?;
    }
    for objective in &slo.objectives {
        let (bad, total) = (objective.bad, count_of(objective.good + objective.bad, "event"));
        writeln!(out, "  of        {}: {bad} of {total} bad", objective.name)?;
    }
    if !slo.indicators.is_empty() {
        writeln!(out, "{}", indicators(&slo.indicators))?;
    }
    for missing in &slo.not_evaluable {
        writeln!(out, "  {DIM}not measurable from events: {missing}{PLAIN}")?;
    }
    if slo.dropped > 0 {
        writeln!(out, "  {DIM}{} arrived too late to count{PLAIN}", count_of(slo.dropped, "event"))?;
    }
    Ok(())
}

/// Writes why the status is what it is: the exhausted budget, the worst burn alert that fires, the indicators that miss their targets, and what is unknown.
fn reasons(slo: &SloSnapshot, out: &mut impl Write) -> io::Result<()> {
    let of = slo.budget_indicator().map_or(String::new(), |name| format!("{name}: "));
    if let Some(sentence) = slo.exhausted_sentence() {
        writeln!(out, "  {}exhausted: {sentence}{PLAIN}", style::for_status(Status::Exhausted))?;
    }
    let firing = slo.alerts.iter().filter(|alert| alert.firing);
    if let Some(alert) = firing.max_by_key(|alert| alert.severity) {
        let style = style::for_severity(alert.severity);
        // Under low traffic the long window is a longer one than the policy's.
        let (long, short) = (alert.judged_window.unwrap_or(alert.long_window), alert.short_window);
        let rate = alert.rate.map_or(NO_VALUE.to_owned(), decimal);
        let (threshold, total) = (decimal(alert.threshold), alert.good + alert.bad);
        writeln!(
            out,
            "  {style}{}: {of}burn rate {rate} over {long} and {short}, at least {threshold}: {} of {total} bad{PLAIN}",
            alert.severity, alert.bad
        )?;
    }
    for indicator in slo.indicators.iter().filter(|indicator| indicator.is_alarming()) {
        let status = indicator.status.unwrap_or_default();
        writeln!(out, "  {}{status}: {}{PLAIN}", style::for_status(status), indicator.sentence())?;
    }
    let unknown = slo.indicators.iter().filter_map(IndicatorSnapshot::unknown_sentence);
    for sentence in slo.reason.iter().cloned().chain(unknown) {
        writeln!(out, "  {}unknown: {sentence}{PLAIN}", style::for_status(Status::Unknown))?;
    }
    Ok(())
}

fn budget(slo: &SloSnapshot, out: &mut impl Write) -> io::Result<()> {
    let budget = &slo.error_budget;
    let Some(remaining) = budget.remaining else {
        let why = if budget.total.is_none() { "none: no indicator has a target ratio" } else { "unspent: no events" };
        return writeln!(out, "  budget    {why}");
    };
    let left = if remaining < 0.0 && remaining.is_finite() {
        format!("overspent by {}", percent(-remaining))
    } else if remaining < 0.0 {
        "overspent: the target allows no bad event".to_owned()
    } else {
        format!("{} left", percent(remaining))
    };
    let when = match budget.spent_in_s {
        Some(seconds) if seconds > 0.0 => format!(", exhausted in {} at the 1h burn rate", duration(seconds)),
        _ => String::new(),
    };
    let of = slo.budget_indicator().map_or(String::new(), |name| format!(" ({name})"));
    let style = style::for_status(slo.status);
    writeln!(out, "  budget    {style}{}{PLAIN} {left}{of}{DIM}{when}{PLAIN}", bar(remaining, 24))
}

fn indicators(indicators: &[IndicatorSnapshot]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "",
        "indicator",
        "value",
        "target",
        "samples",
        "compliance",
        "budget left",
        "95 % interval",
        "window",
    ]);
    for column in [2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for indicator in indicators {
        let unit = indicator.unit;
        let mark = match indicator.is_met() {
            Some(true) => "✓",
            Some(false) => "✗",
            None => " ",
        };
        let direction = if indicator.direction == agent_sre::Direction::AtLeast { "≥" } else { "≤" };
        let interval = indicator.interval.map(|(low, high)| format!("{} to {}", percent(low), percent(high)));
        let [found, target] = match indicator.value {
            Some(found) => value_and_target(found, indicator.target, unit),
            None => [NO_VALUE.to_owned(), with_unit(indicator.target, unit, 0)],
        };
        let or_no_value = |text: Option<String>| text.unwrap_or_else(|| NO_VALUE.to_owned());
        table.add_row([
            mark.to_owned(),
            indicator.name.clone(),
            found,
            format!("{direction} {target}"),
            count(indicator.samples),
            or_no_value(indicator.compliance.map(percent)),
            or_no_value(indicator.error_budget.and_then(|budget| budget.remaining).map(percent)),
            or_no_value(interval),
            indicator.window.to_string(),
        ]);
    }
    table.trim_fmt().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn totals(findings: &Findings, out: &mut impl Write) -> io::Result<()> {
    let Totals { tasks, succeeded, failed, incomplete, .. } = findings.totals;
    let totals = &findings.totals;
    let incomplete = if incomplete > 0 { format!(" ({incomplete} incomplete)") } else { String::new() };
    writeln!(
        out,
        "{BOLD}{}{PLAIN}: {} succeeded, {} failed{incomplete}",
        count_of(tasks, "task"),
        count(succeeded),
        count(failed)
    )?;
    writeln!(
        out,
        "{} ({} failed), {} ({} failed), {} tokens in, {} out{}",
        count_of(totals.llm_calls, "model call"),
        count(totals.llm_errors),
        count_of(totals.tool_calls, "tool call"),
        count(totals.tool_errors),
        count(totals.input_tokens),
        count(totals.output_tokens),
        if totals.cost_usd == agent_sre::Usd::ZERO { String::new() } else { format!(", ${}", totals.cost_usd) }
    )?;
    let input = &findings.input;
    let mut notes = vec![format!("{} from {}", count_of(input.events, "event"), count_of(input.lines, "line"))];
    for (number, what) in [
        (input.skipped, "malformed and skipped"),
        (input.unknown, "of an unknown kind"),
        (input.unmatched, "without an open run"),
    ] {
        if number > 0 {
            notes.push(format!("{} {what}", count(number)));
        }
    }
    let at = findings.evaluated_at;
    let when = if at == Timestamp::default() { String::new() } else { format!("; evaluated at {at}") };
    writeln!(out, "{DIM}{}{when}{PLAIN}", notes.join(", "))
}
