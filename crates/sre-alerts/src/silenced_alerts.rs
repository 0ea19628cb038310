use std::collections::BTreeMap;
use std::sync::Arc;

use sre_core::{Alert, Timestamp};

use crate::channel_pipeline::ChannelId;
use crate::fingerprint::Fingerprint;
use crate::message::Message;

/// The firing alerts that a silence or a maintenance window holds, by key.
#[derive(Debug, Default)]
pub(crate) struct SilencedAlerts {
    held: BTreeMap<Fingerprint, SilencedAlert>,
    /// Alerts that were superseded before they were dispatched, and why they are not delivered.
    superseded: Vec<(Arc<Alert>, &'static str)>,
}

#[derive(Debug)]
pub(crate) struct SilencedAlert {
    pub(crate) until: Timestamp,
    pub(crate) message: Message,
    pub(crate) channels: Vec<ChannelId>,
    /// False until the alert is dispatched: before that, it may not be committed to the store yet.
    pub(crate) is_dispatched: bool,
}

impl SilencedAlerts {
    /// Marks the alert of a message as dispatched; `Err` is why it is no longer held.
    pub(crate) fn mark_dispatched(&mut self, message: &Message) -> Result<(), &'static str> {
        if let Some(index) = self.superseded.iter().position(|(alert, _)| Arc::ptr_eq(alert, &message.alert)) {
            return Err(self.superseded.swap_remove(index).1);
        }
        if let Some(held) = self.held.get_mut(&message.key) {
            held.message = message.clone();
            held.is_dispatched = true;
        }
        Ok(())
    }

    /// Notes why an alert that is not dispatched yet is not held any more.
    pub(crate) fn supersede(&mut self, alert: Arc<Alert>, reason: &'static str) {
        self.superseded.push((alert, reason));
    }

    /// Holds an alert and returns the one of the same key that it replaces.
    pub(crate) fn insert(&mut self, alert: SilencedAlert) -> Option<SilencedAlert> {
        self.held.insert(alert.message.key, alert)
    }

    /// Holds a message for one more channel.
    pub(crate) fn add_channel(&mut self, message: Message, channel: ChannelId, until: Timestamp) {
        let alert = SilencedAlert { until, message, channels: Vec::new(), is_dispatched: true };
        self.held.entry(alert.message.key).or_insert(alert).channels.push(channel);
    }

    pub(crate) fn remove(&mut self, key: Fingerprint) -> Option<SilencedAlert> {
        self.held.remove(&key)
    }

    pub(crate) fn contains(&self, key: Fingerprint) -> bool {
        self.held.contains_key(&key)
    }

    /// Removes and returns the dispatched alerts whose silence ends by `now`.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<SilencedAlert> {
        self.held.extract_if(.., |_, alert| alert.is_dispatched && alert.until <= now).map(|(_, alert)| alert).collect()
    }

    /// Makes every alert due.
    pub(crate) fn expire_all(&mut self, now: Timestamp) {
        self.held.values_mut().for_each(|alert| alert.until = now);
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.held.values().filter(|alert| alert.is_dispatched).map(|alert| alert.until).min()
    }
}
