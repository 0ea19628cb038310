use std::io::{self, Write};

use agent_sre::{BreakerState, CostStatus, Timestamp};
use anstyle::{AnsiColor, Style};

use super::format::{count, count_of};
use super::style::{BOLD, DIM, PLAIN};
use crate::breakers::{BreakerFinding, BreakerFindings, CascadeFinding};
use crate::costs::{AgentFinding, CostFindings};

/// Maximum number of items shown of each kind.
const MAX_SHOWN: usize = 10;

/// Writes the breakers that would have opened, and the cascades.
pub(super) fn breakers(findings: &BreakerFindings, out: &mut impl Write) -> io::Result<()> {
    if findings.breakers.is_empty() {
        writeln!(out, "{BOLD}breakers{PLAIN}: none would have opened")?;
    }
    for breaker in findings.breakers.iter().take(MAX_SHOWN) {
        breaker_line(breaker, out)?;
    }
    more(findings.breakers.len(), "breaker", out)?;
    for cascade in findings.cascades.iter().take(MAX_SHOWN) {
        cascade_line(cascade, out)?;
    }
    more(findings.cascades.len(), "cascade", out)?;
    writeln!(out)
}

/// Writes prices, costs at the end of the input, `at`, and cost alerts.
pub(super) fn costs(findings: &CostFindings, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    if let Some(prices) = &findings.prices {
        let by = prices.public_list.map(|date| format!(" by the public list prices of {date}")).unwrap_or_default();
        let mut notes = vec![format!("{} priced{by}", count_of(prices.priced, "model call"))];
        if prices.matched > 0 {
            notes.push(format!("{} match the prices", count(prices.matched)));
        }
        if prices.mismatched > 0 {
            let difference = prices.difference_usd;
            notes.push(format!("{} differ from the prices by ${difference} in total", count(prices.mismatched)));
        }
        writeln!(out, "{BOLD}prices{PLAIN}: {}", notes.join(", "))?;
        for (model, calls) in prices.unknown_calls.iter().take(MAX_SHOWN) {
            let model = if model.is_empty() { "an unnamed model" } else { model };
            writeln!(
                out,
                "  {}no price for {model}{PLAIN}: {} not priced",
                cost_style(CostStatus::Throttled),
                count_of(*calls, "call")
            )?;
        }
        more(prices.unknown_calls.len(), "model", out)?;
    }
    if let Some(costs) = &findings.costs {
        let mut agents: Vec<_> = costs.agents.iter().collect();
        agents.sort_by_key(|agent| (std::cmp::Reverse(agent.status), std::cmp::Reverse(agent.spent_usd)));
        for AgentFinding { agent, spent_usd, limit_usd, status, .. } in agents.iter().take(MAX_SHOWN) {
            let (style, word) = (cost_style(*status), cost_label(*status));
            writeln!(
                out,
                "{style} {word} {PLAIN} {BOLD}agent {agent}{PLAIN} spent ${spent_usd} of ${limit_usd} on the last day, \
                 at {}",
                seconds(at)
            )?;
        }
        more(agents.len(), "agent", out)?;
        let org = &costs.org;
        writeln!(out, "all agents together spent ${} of ${} in the last month", org.spent_usd, org.limit_usd)?;
        for alert in costs.alerts.iter().take(MAX_SHOWN) {
            writeln!(out, "{DIM}{}{PLAIN} {}: {}", seconds(alert.at), alert.scope, alert.kind)?;
        }
        more(costs.alerts.len(), "alert", out)?;
    }
    writeln!(out)
}

fn breaker_line(breaker: &BreakerFinding, out: &mut impl Write) -> io::Result<()> {
    let BreakerFinding { target, state, opened, openings } = breaker;
    let style = breaker_style(*state);
    let word = state.as_str().replace('_', " ").to_uppercase();
    write!(out, "{style} {word} {PLAIN} {BOLD}{target}{PLAIN} would have opened {}", count_of(*opened, "time"))?;
    if let Some(first) = openings.first() {
        write!(out, "{DIM}, first at {}: {}{PLAIN}", seconds(first.opened_at), first.reason)?;
    }
    writeln!(out)
}

fn cascade_line(cascade: &CascadeFinding, out: &mut impl Write) -> io::Result<()> {
    let path: Vec<String> = cascade.report.path.iter().map(|failing| failing.target.to_string()).collect();
    let style = AnsiColor::Red.on_default().bold();
    let end = cascade.over_at.map_or_else(|| "ongoing".to_owned(), |at| format!("ended at {}", seconds(at)));
    let detected = seconds(cascade.found_at);
    write!(out, "{style} CASCADE {PLAIN} {BOLD}{}{PLAIN} detected at {detected}, {end}", path.join(" → "))?;
    let (open, exposed) = (cascade.report.open.len() as u64, cascade.report.exposed as u64);
    writeln!(out, "{DIM}; {} open, {} exposed{PLAIN}", count_of(open, "circuit"), count_of(exposed, "agent"))
}

fn more(count: usize, noun: &str, out: &mut impl Write) -> io::Result<()> {
    match count.saturating_sub(MAX_SHOWN) {
        0 => Ok(()),
        left => writeln!(out, "{DIM}… and {}{PLAIN}", count_of(left as u64, &format!("more {noun}"))),
    }
}

/// Formats a time to the second.
fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

const fn cost_label(status: CostStatus) -> &'static str {
    match status {
        CostStatus::Ok => "OK",
        CostStatus::Throttled => "THROTTLED",
        _ => "BLOCKED",
    }
}

const fn cost_style(status: CostStatus) -> Style {
    match status {
        CostStatus::Ok => AnsiColor::Green.on_default().bold(),
        CostStatus::Throttled => AnsiColor::Yellow.on_default().bold(),
        _ => AnsiColor::Red.on_default().bold(),
    }
}

const fn breaker_style(state: BreakerState) -> Style {
    match state {
        BreakerState::Closed | BreakerState::Disabled => AnsiColor::Green.on_default().bold(),
        BreakerState::HalfOpen => AnsiColor::Yellow.on_default().bold(),
        BreakerState::Open | BreakerState::ForcedOpen => AnsiColor::Red.on_default().bold(),
    }
}
