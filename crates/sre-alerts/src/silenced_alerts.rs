use std::collections::BTreeMap;

use sre_core::Timestamp;

use crate::channel_pipeline::ChannelId;
use crate::fingerprint::Fingerprint;
use crate::message::Message;

/// The firing alerts that a silence or a maintenance window holds, by key.
#[derive(Debug, Default)]
pub(crate) struct SilencedAlerts(BTreeMap<Fingerprint, SilencedAlert>);

#[derive(Debug)]
pub(crate) struct SilencedAlert {
    pub(crate) until: Timestamp,
    pub(crate) message: Message,
    pub(crate) channels: Vec<ChannelId>,
}

impl SilencedAlerts {
    /// Holds an alert and returns the one of the same key that it replaces.
    pub(crate) fn insert(&mut self, alert: SilencedAlert) -> Option<SilencedAlert> {
        self.0.insert(alert.message.key, alert)
    }

    /// Holds a message for one more channel.
    pub(crate) fn add_channel(&mut self, message: Message, channel: ChannelId, until: Timestamp) {
        let alert = SilencedAlert { until, message, channels: Vec::new() };
        self.0.entry(alert.message.key).or_insert(alert).channels.push(channel);
    }

    pub(crate) fn remove(&mut self, key: Fingerprint) -> Option<SilencedAlert> {
        self.0.remove(&key)
    }

    pub(crate) fn contains(&self, key: Fingerprint) -> bool {
        self.0.contains_key(&key)
    }

    /// Removes and returns the alerts whose silence ends by `now`.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<SilencedAlert> {
        self.0.extract_if(.., |_, alert| alert.until <= now).map(|(_, alert)| alert).collect()
    }

    /// Removes and returns all alerts.
    pub(crate) fn take_all(&mut self) -> Vec<SilencedAlert> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.0.values().map(|alert| alert.until).min()
    }
}
