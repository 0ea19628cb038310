//! Combines several alerts into one.

use sre_core::{Alert, Severity, Timestamp};

use crate::message::Message;

/// How many alerts a summary lists; the others are counted.
const MAX_LISTED: usize = 20;

/// Returns one firing alert of the highest severity for several: `template` with their texts and times.
pub(crate) fn firing(template: &Alert, what: &str, alerts: &[&Alert], now: Timestamp) -> Alert {
    let lines: Vec<String> =
        alerts.iter().map(|alert| format!("{}: {} – {}", alert.severity, alert.title, alert.message)).collect();
    Alert {
        title: format!("{} alerts: {what}", alerts.len()),
        message: list(&lines),
        severity: alerts.iter().map(|alert| alert.severity).max().unwrap_or_default(),
        starts_at: alerts.iter().map(|alert| alert.starts_at).min().unwrap_or(now),
        links: alerts.iter().flat_map(|alert| alert.links.clone()).take(MAX_LISTED).collect(),
        ..template.clone()
    }
}

/// Returns the resolution of a summary: `template` with the texts and times of the alerts.
pub(crate) fn resolved(template: &Alert, what: &str, messages: &[Message], last: &Message, now: Timestamp) -> Alert {
    let lines: Vec<String> = messages.iter().map(|message| message.alert.title.clone()).collect();
    Alert {
        title: format!("Resolved: {what}"),
        message: list(&lines),
        severity: Severity::Resolved,
        starts_at: messages.iter().map(|message| message.alert.starts_at).min().unwrap_or(now),
        ends_at: last.alert.ends_at.or(Some(now)),
        ..template.clone()
    }
}

fn list(lines: &[String]) -> String {
    let mut text = lines[..lines.len().min(MAX_LISTED)].join("\n");
    if lines.len() > MAX_LISTED {
        text.push_str(&format!("\n… and {} more", lines.len() - MAX_LISTED));
    }
    text
}
