use std::io::{self, Write};

use agent_sre::{BreakerState, Timestamp};
use anstyle::{AnsiColor, Style};

use super::format::things;
use super::style::{BOLD, DIM, PLAIN};
use crate::breakers::{BreakerFinding, BreakerFindings, CascadeFinding};

/// So many breakers and cascades are shown.
const SHOWN: usize = 10;

/// When which breaker would have opened.
pub(super) fn breakers(findings: &BreakerFindings, out: &mut impl Write) -> io::Result<()> {
    if findings.breakers.is_empty() {
        writeln!(out, "{BOLD}breakers{PLAIN}: none would have opened")?;
    }
    for breaker in findings.breakers.iter().take(SHOWN) {
        breaker_line(breaker, out)?;
    }
    more(findings.breakers.len(), "breaker", out)?;
    for cascade in findings.cascades.iter().take(SHOWN) {
        cascade_line(cascade, out)?;
    }
    more(findings.cascades.len(), "cascade", out)?;
    writeln!(out)
}

fn breaker_line(breaker: &BreakerFinding, out: &mut impl Write) -> io::Result<()> {
    let BreakerFinding { target, state, opened, openings } = breaker;
    let style = of(*state);
    let word = state.as_str().replace('_', " ").to_uppercase();
    write!(out, "{style} {word} {PLAIN} {BOLD}{target}{PLAIN} would have opened {}", things(*opened, "time"))?;
    if let Some(first) = openings.first() {
        write!(out, "{DIM}, first at {}: {}{PLAIN}", clock(first.opened_at), first.reason)?;
    }
    writeln!(out)
}

fn cascade_line(cascade: &CascadeFinding, out: &mut impl Write) -> io::Result<()> {
    let path: Vec<String> = cascade.report.path.iter().map(|failing| failing.target.to_string()).collect();
    let style = AnsiColor::Red.on_default().bold();
    let until = cascade.over_at.map_or_else(|| "goes on".to_owned(), |at| format!("over at {}", clock(at)));
    let found = clock(cascade.found_at);
    write!(out, "{style} CASCADE {PLAIN} {BOLD}{}{PLAIN} found at {found}, {until}", path.join(" → "))?;
    let (open, exposed) = (cascade.report.open.len() as u64, cascade.report.exposed as u64);
    writeln!(out, "{DIM}; {} open, {} exposed{PLAIN}", things(open, "circuit"), things(exposed, "agent"))
}

fn more(count: usize, thing: &str, out: &mut impl Write) -> io::Result<()> {
    match count.saturating_sub(SHOWN) {
        0 => Ok(()),
        left => writeln!(out, "{DIM}… and {}{PLAIN}", things(left as u64, &format!("more {thing}"))),
    }
}

/// To the second, which is enough for people.
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

const fn of(state: BreakerState) -> Style {
    match state {
        BreakerState::Closed | BreakerState::Disabled => AnsiColor::Green.on_default().bold(),
        BreakerState::HalfOpen => AnsiColor::Yellow.on_default().bold(),
        BreakerState::Open | BreakerState::ForcedOpen => AnsiColor::Red.on_default().bold(),
    }
}
