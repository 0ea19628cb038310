use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Alert, Severity, Timestamp};

use crate::delivery_log::DeliveryLog;
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::matcher::field;
use crate::message::Message;
use crate::summary;

/// Combines alerts that share labels into one message. The first alert of a group waits a moment for others.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by: Arc<[String]>,
    wait: Duration,
    open: BTreeMap<String, Group>,
    /// The group of each alert.
    group_of: HashMap<Fingerprint, String>,
}

#[derive(Debug)]
struct Group {
    /// What every message of the group has in common: its key and the shared labels.
    template: Alert,
    /// The firing alerts, in the order in which they began.
    firing: Vec<(Fingerprint, Arc<Alert>)>,
    /// The messages that the next one replaces.
    waiting: Vec<Message>,
    /// The severity of the last message, if one was sent.
    sent_severity: Option<Severity>,
    flush_at: Option<Timestamp>,
}

impl Groups {
    pub(crate) fn new(by: Arc<[String]>, wait: Duration) -> Self {
        Self { by, wait, ..Self::default() }
    }

    /// Adds a message to its group, or returns the message to deliver without grouping.
    pub(crate) fn accept(
        &mut self,
        message: Message,
        now: Timestamp,
        log: &mut DeliveryLog,
        fingerprinter: Fingerprinter,
    ) -> Option<Message> {
        if self.by.is_empty() {
            return Some(message);
        }
        if message.acknowledged_by.is_some() {
            return Some(self.for_group(message, fingerprinter));
        }
        let key = match self.group_of.get(&message.key) {
            Some(key) => key.clone(),
            // The trigger was sent without a group, such as by an earlier run.
            None if message.alert.severity == Severity::Resolved => return Some(message),
            None => self.key_of(&message.alert),
        };
        let group = self.open.entry(key.clone()).or_insert_with(|| Group::new(&key, &self.by, &message.alert));
        group.firing.retain(|(known, _)| *known != message.key);
        let severity = message.alert.severity;
        if severity == Severity::Resolved {
            self.group_of.remove(&message.key);
        } else {
            self.group_of.insert(message.key, key.clone());
            group.firing.push((message.key, message.alert.clone()));
        }
        group.waiting.push(message);
        if group.firing.is_empty() && group.sent_severity.is_none() {
            for message in std::mem::take(&mut group.waiting) {
                log.skip(&message, "resolved before its group was sent", now);
            }
            self.open.remove(&key);
            return None;
        }
        let is_urgent = group.sent_severity.is_some_and(|sent| severity > sent) || group.firing.is_empty();
        let flush_at = if is_urgent { now } else { now.saturating_add(self.wait) };
        group.flush_at = Some(group.flush_at.map_or(flush_at, |planned| planned.min(flush_at)));
        None
    }

    /// Returns a message for each group whose wait is over; for every waiting group if `flush`.
    pub(crate) fn due(&mut self, now: Timestamp, flush: bool, fingerprinter: Fingerprinter) -> Vec<Message> {
        let is_due = |group: &Group| group.flush_at.is_some_and(|at| flush || at <= now);
        let due: Vec<String> =
            self.open.iter().filter(|(_, group)| is_due(group)).map(|(key, _)| key.clone()).collect();
        let mut messages = Vec::new();
        for key in due {
            let Some(group) = self.open.get_mut(&key) else { continue };
            messages.push(group.flush(fingerprinter.of_key(&key), now));
            if group.firing.is_empty() {
                self.open.remove(&key);
            }
        }
        messages
    }

    /// Returns when the next group's wait is over.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.open.values().filter_map(|group| group.flush_at).min()
    }

    /// Returns how many alerts wait.
    pub(crate) fn waiting(&self) -> usize {
        self.open.values().map(|group| group.waiting.len()).sum()
    }

    /// Turns the acknowledgement of an alert into that of its group's message, which is what receivers have.
    fn for_group(&self, mut message: Message, fingerprinter: Fingerprinter) -> Message {
        if let Some(key) = self.group_of.get(&message.key) {
            message.key = fingerprinter.of_key(key);
            message.alert = Arc::new(Alert { dedup_key: key.clone(), ..(*message.alert).clone() });
        }
        message
    }

    fn key_of(&self, alert: &Alert) -> String {
        let values: Vec<String> = self.by.iter().map(|name| format!("{name}={}", field(alert, name))).collect();
        format!("group/{}", values.join(","))
    }
}

impl Group {
    fn new(key: &str, by: &[String], first: &Alert) -> Self {
        let mut template = Alert { dedup_key: key.to_owned(), ..Alert::new("", "") };
        for name in by {
            match name.as_str() {
                "agent" | "agent_id" => template.agent_id.clone_from(&first.agent_id),
                "slo" | "slo_name" => template.slo_name.clone_from(&first.slo_name),
                "source" => template.source.clone_from(&first.source),
                label => drop(template.labels.insert(label.to_owned(), field(first, label).to_owned())),
            }
        }
        Self { template, firing: Vec::new(), waiting: Vec::new(), sent_severity: None, flush_at: None }
    }

    fn flush(&mut self, key: Fingerprint, now: Timestamp) -> Message {
        self.flush_at = None;
        let messages = std::mem::take(&mut self.waiting);
        let firing: Vec<&Alert> = self.firing.iter().map(|(_, alert)| &**alert).collect();
        let what = self.template.dedup_key.trim_start_matches("group/");
        let alert = match (&firing[..], messages.last()) {
            ([], Some(last)) => summary::resolved(&self.template, what, &messages, last, now),
            ([only], _) => self.single(only),
            _ => summary::firing(&self.template, what, &firing, now),
        };
        self.sent_severity = Some(alert.severity);
        Message::summary_of(&messages, key, Arc::new(alert), now)
    }

    /// Returns the group's only alert under the group's key.
    fn single(&self, alert: &Alert) -> Alert {
        Alert {
            title: alert.title.clone(),
            message: alert.message.clone(),
            severity: alert.severity,
            starts_at: alert.starts_at,
            links: alert.links.clone(),
            metadata: alert.metadata.clone(),
            ..self.template.clone()
        }
    }
}
