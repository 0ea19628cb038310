use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sre_core::Timestamp;

use crate::AlertOptions;
use crate::fingerprint::Fingerprint;

/// The scheduled repeats and escalations of open incidents, by time, and in the order of scheduling where that is the same.
///
/// Entries are not removed when an incident ends: the caller that pops one checks whether it still applies.
#[derive(Debug, Default)]
pub(crate) struct Renotifications {
    queue: BinaryHeap<Reverse<Renotification>>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Renotification {
    pub(crate) due: Timestamp,
    number: u64,
    pub(crate) key: Fingerprint,
    pub(crate) kind: RenotificationKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RenotificationKind {
    /// Send the alert again to the channels that have received it.
    Repeat,
    /// Notify this channel of this policy, both by index.
    Escalate { policy: usize, channel: usize },
}

impl Renotifications {
    /// Schedules what follows a notification of the channels for which `is_notified` returns true.
    pub(crate) fn schedule(
        &mut self,
        key: Fingerprint,
        options: &AlertOptions,
        is_notified: impl Fn(&str) -> bool,
        now: Timestamp,
    ) {
        let mut push = |delay, kind| {
            self.last_number += 1;
            let (due, number) = (now.saturating_add(delay), self.last_number);
            self.queue.push(Reverse(Renotification { due, number, key, kind }));
        };
        if let Some(interval) = options.repeat_interval {
            push(interval, RenotificationKind::Repeat);
        }
        for (policy, escalation) in options.escalations.iter().enumerate() {
            for (next, name) in (1..escalation.channels.len()).zip(&escalation.channels) {
                if is_notified(name) {
                    push(escalation.after, RenotificationKind::Escalate { policy, channel: next });
                }
            }
        }
    }

    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Renotification> {
        if self.next_due()? > now {
            return None;
        }
        self.queue.pop().map(|next| next.0)
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.peek().map(|next| next.0.due)
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}
