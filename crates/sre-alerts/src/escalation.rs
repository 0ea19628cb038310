use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sre_core::{DeliveryState, Timestamp};

use crate::fingerprint::Fingerprint;
use crate::message::Message;
use crate::state::State;

/// What is to be done about incidents that go on, by when.
pub(crate) type Renotifications = BinaryHeap<Reverse<(Timestamp, Fingerprint, Renotification)>>;

/// What is to be done about an incident that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renotification {
    Repeat,
    /// Tell the channel of this place in this chain.
    Escalate {
        chain: usize,
        place: usize,
    },
}

impl State {
    /// Plans what is to be done when an incident that those pipelines were told of goes on.
    pub(crate) fn plan_renotifications(&mut self, key: Fingerprint, pipelines: &[u32], now: Timestamp) {
        let options = self.options.clone();
        if let Some(interval) = options.repeat_interval {
            self.renotifications.push(Reverse((now.saturating_add(interval), key, Renotification::Repeat)));
        }
        for (chain, escalation) in options.escalations.iter().enumerate() {
            for (place, name) in escalation.channels.iter().enumerate() {
                let is_told = self.numbered(name).is_some_and(|number| pipelines.contains(&number));
                if is_told && place + 1 < escalation.channels.len() {
                    let next = Renotification::Escalate { chain, place: place + 1 };
                    self.renotifications.push(Reverse((now.saturating_add(escalation.after), key, next)));
                }
            }
        }
    }

    /// Does what is due about incidents that go on.
    pub(crate) fn renotify_due(&mut self, now: Timestamp) {
        while self.renotifications.peek().is_some_and(|next| next.0.0 <= now) {
            if let Some(Reverse((due, key, renotification))) = self.renotifications.pop() {
                self.renotification(due, key, renotification, now);
            }
        }
    }

    fn renotification(&mut self, due: Timestamp, key: Fingerprint, renotification: Renotification, now: Timestamp) {
        let store = self.options.store.clone();
        let muted = self.silenced.contains_key(&key);
        let Some(incident) = self.incidents.get(key) else { return };
        let Some((row, alert)) = incident.detail.last.clone() else { return };
        // Another process may have taken the acknowledgement.
        let is_acknowledged = incident.detail.acknowledged
            || store.is_some_and(|store| matches!(store.acknowledgement(&alert.dedup_key), Ok(Some(_))));
        incident.detail.acknowledged = is_acknowledged;
        if is_acknowledged || muted {
            return;
        }
        let told = incident.detail.pipelines.clone();
        let message = Message::new(key, alert, row, due);
        match renotification {
            // It was sent since: the repeat of that one is planned too.
            Renotification::Repeat
                if self.options.repeat_interval.is_some_and(|wait| due < incident.sent().saturating_add(wait)) => {}
            Renotification::Repeat => {
                incident.mark_sent(now);
                self.counts.repeated += 1;
                self.deliver(&message, &told, now, &mut Vec::new());
            }
            Renotification::Escalate { chain, place } => {
                let Some(escalation) = self.options.escalations.get(chain) else { return };
                // It was planned for an incident of the same key that is over.
                if due < incident.detail.opened_at.saturating_add(escalation.after) {
                    return;
                }
                let Some(name) = escalation.channels.get(place).cloned() else { return };
                let next = self.pipelines.iter_mut().find(|pipeline| *pipeline.name == *name && pipeline.is_enabled());
                let Some(pipeline) = next.filter(|pipeline| !told.contains(&pipeline.number)) else { return };
                let number = pipeline.number;
                pipeline.out.record(&message, DeliveryState::Pending, None, None, now);
                self.counts.escalated += 1;
                self.deliver(&message, &[number], now, &mut Vec::new());
            }
        }
    }

    /// Somebody took an incident on: no repeats and no escalation any more, and its channels are told.
    pub(crate) fn acknowledge(&mut self, key: &str, by: &str, now: Timestamp) -> bool {
        let fingerprint = self.fingerprinter.of_key(key);
        let Some(incident) = self.incidents.get(fingerprint) else { return false };
        incident.detail.acknowledged = true;
        let pipelines = incident.detail.pipelines.clone();
        // Without one, nothing was sent that anybody could be told of.
        let Some((_, alert)) = incident.detail.last.clone() else { return true };
        let message = Message { acknowledged_by: Some(by.into()), ..Message::new(fingerprint, alert, None, now) };
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| pipelines.contains(&pipeline.number)) {
            pipeline.accept(message.clone(), now, self.fingerprinter);
        }
        true
    }
}
