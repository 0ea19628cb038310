use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sre_core::{DeliveryState, Timestamp};

use crate::fingerprint::Fingerprint;
use crate::message::Message;
use crate::state::State;

/// What is to be done about incidents that go on, by when.
pub(crate) type FollowUps = BinaryHeap<Reverse<(Timestamp, Fingerprint, FollowUp)>>;

/// What is to be done about an incident that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FollowUp {
    Repeat,
    /// Tell the channel of this place in this chain.
    Escalate {
        chain: usize,
        place: usize,
    },
}

impl State {
    /// Plans what is to be done when an incident that those lanes were told of goes on.
    pub(crate) fn plan_follow_ups(&mut self, key: Fingerprint, lanes: &[u32], now: Timestamp) {
        let options = self.options.clone();
        if let Some(interval) = options.repeat_interval {
            self.follow_ups.push(Reverse((now.saturating_add(interval), key, FollowUp::Repeat)));
        }
        for (chain, escalation) in options.escalations.iter().enumerate() {
            for (place, name) in escalation.channels.iter().enumerate() {
                let is_told = self.numbered(name).is_some_and(|number| lanes.contains(&number));
                if is_told && place + 1 < escalation.channels.len() {
                    let next = FollowUp::Escalate { chain, place: place + 1 };
                    self.follow_ups.push(Reverse((now.saturating_add(escalation.after), key, next)));
                }
            }
        }
    }

    /// Does what is due about incidents that go on.
    pub(crate) fn follow_up_all(&mut self, now: Timestamp) {
        while self.follow_ups.peek().is_some_and(|next| next.0.0 <= now) {
            if let Some(Reverse((due, key, follow_up))) = self.follow_ups.pop() {
                self.follow_up(due, key, follow_up, now);
            }
        }
    }

    fn follow_up(&mut self, due: Timestamp, key: Fingerprint, follow_up: FollowUp, now: Timestamp) {
        let store = self.options.store.clone();
        let muted = self.muted.contains_key(&key);
        let Some(incident) = self.incidents.get(key) else { return };
        let Some((row, alert)) = incident.detail.last.clone() else { return };
        // Another process may have taken the acknowledgement.
        let is_acknowledged = incident.detail.acknowledged
            || store.is_some_and(|store| matches!(store.acknowledgement(&alert.dedup_key), Ok(Some(_))));
        incident.detail.acknowledged = is_acknowledged;
        if is_acknowledged || muted {
            return;
        }
        let told = incident.detail.lanes.clone();
        let message = Message::new(key, alert, row, due);
        match follow_up {
            // It was sent since: the repeat of that one is planned too.
            FollowUp::Repeat
                if self.options.repeat_interval.is_some_and(|wait| due < incident.sent().saturating_add(wait)) => {}
            FollowUp::Repeat => {
                incident.sent_again(now);
                self.counts.repeated += 1;
                self.deliver(&message, &told, now, &mut Vec::new());
            }
            FollowUp::Escalate { chain, place } => {
                let Some(escalation) = self.options.escalations.get(chain) else { return };
                // It was planned for an incident of the same key that is over.
                if due < incident.detail.opened_at.saturating_add(escalation.after) {
                    return;
                }
                let Some(name) = escalation.channels.get(place).cloned() else { return };
                let next = self.lanes.iter_mut().find(|lane| *lane.name == *name && lane.is_enabled());
                let Some(lane) = next.filter(|lane| !told.contains(&lane.number)) else { return };
                let number = lane.number;
                lane.out.record(&message, DeliveryState::Pending, None, None, now);
                self.counts.escalated += 1;
                self.deliver(&message, &[number], now, &mut Vec::new());
            }
        }
    }

    /// Somebody took an incident on: no repeats and no escalation any more, and its channels are told.
    pub(crate) fn acknowledge(&mut self, key: &str, by: &str, now: Timestamp) -> bool {
        let fingerprint = self.keys.of_text(key);
        let Some(incident) = self.incidents.get(fingerprint) else { return false };
        incident.detail.acknowledged = true;
        let lanes = incident.detail.lanes.clone();
        // Without one, nothing was sent that anybody could be told of.
        let Some((_, alert)) = incident.detail.last.clone() else { return true };
        let message = Message { acknowledged_by: Some(by.into()), ..Message::new(fingerprint, alert, None, now) };
        for lane in self.lanes.iter_mut().filter(|lane| lanes.contains(&lane.number)) {
            lane.accept(message.clone(), now, self.keys);
        }
        true
    }
}
