//! One alert that stands for several.

use sre_core::{Alert, Severity, Timestamp};

use crate::message::Message;

/// How many alerts a summary names; the others are counted.
const NAMED: usize = 20;

/// What fires, in one alert of the worst severity: `template` with a text and times.
pub(crate) fn firing(template: &Alert, what: &str, alerts: &[&Alert], now: Timestamp) -> Alert {
    let lines: Vec<String> =
        alerts.iter().map(|alert| format!("{}: {} – {}", alert.severity, alert.title, alert.message)).collect();
    Alert {
        title: format!("{} alerts: {what}", alerts.len()),
        message: listed(&lines),
        severity: alerts.iter().map(|alert| alert.severity).max().unwrap_or_default(),
        starts_at: alerts.iter().map(|alert| alert.starts_at).min().unwrap_or(now),
        links: alerts.iter().flat_map(|alert| alert.links.clone()).take(NAMED).collect(),
        ..template.clone()
    }
}

/// That everything is over.
pub(crate) fn resolved(template: &Alert, what: &str, covered: &[Message], last: &Message, now: Timestamp) -> Alert {
    let lines: Vec<String> = covered.iter().map(|message| message.alert.title.clone()).collect();
    Alert {
        title: format!("Resolved: {what}"),
        message: listed(&lines),
        severity: Severity::Resolved,
        starts_at: covered.iter().map(|message| message.alert.starts_at).min().unwrap_or(now),
        ends_at: last.alert.ends_at.or(Some(now)),
        ..template.clone()
    }
}

fn listed(lines: &[String]) -> String {
    let mut text = lines[..lines.len().min(NAMED)].join("\n");
    if lines.len() > NAMED {
        text.push_str(&format!("\n… and {} more", lines.len() - NAMED));
    }
    text
}
