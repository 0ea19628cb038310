use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher13};
use sre_core::{Alert, AlertId, DeliveryRecord, DeliveryState, Timestamp};

use crate::fingerprint::Fingerprint;

/// Something for a channel to say.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Messages of one key go out in order.
    pub(crate) key: Fingerprint,
    pub(crate) alert: Arc<Alert>,
    /// The alerts of the store that it covers.
    pub(crate) alert_ids: Vec<AlertId>,
    /// When it was sent.
    pub(crate) at: Timestamp,
    /// Who acknowledged, where that is the message.
    pub(crate) acknowledged_by: Option<Arc<str>>,
    /// How often it was tried.
    pub(crate) attempts: u32,
}

impl Message {
    pub(crate) fn new(key: Fingerprint, alert: Arc<Alert>, row: Option<AlertId>, at: Timestamp) -> Self {
        Self { key, alert, alert_ids: row.into_iter().collect(), at, acknowledged_by: None, attempts: 0 }
    }

    /// One that stands for several.
    pub(crate) fn covering(key: Fingerprint, alert: Arc<Alert>, covered: &[Self], at: Timestamp) -> Self {
        let alert_ids = covered.iter().flat_map(|message| message.alert_ids.iter().copied()).collect();
        Self { key, alert, alert_ids, at, acknowledged_by: None, attempts: 0 }
    }

    /// What tells it from every other message, in this run and the next: the same key, severity and time give the same.
    pub(crate) fn id(&self) -> u128 {
        let mut hasher = SipHasher13::new();
        hasher.write(self.alert.dedup_key.as_bytes());
        hasher.write_i64(self.at.as_nanos());
        hasher.write_u8(self.alert.severity as u8);
        hasher.finish128().as_u128()
    }
}

/// Where a pipeline writes down how deliveries went.
#[derive(Debug, Default)]
pub(crate) struct DeliveryLog {
    pub(crate) channel: Arc<str>,
    pub(crate) records: Vec<DeliveryRecord>,
}

impl DeliveryLog {
    /// The message is no longer needed.
    pub(crate) fn skip(&mut self, message: &Message, why: &str, now: Timestamp) {
        self.record(message, DeliveryState::Skipped, None, Some(why.to_owned()), now);
    }

    pub(crate) fn record(
        &mut self,
        message: &Message,
        state: DeliveryState,
        status: Option<u16>,
        error: Option<String>,
        now: Timestamp,
    ) {
        self.records.extend(message.alert_ids.iter().map(|row| DeliveryRecord {
            alert: *row,
            channel: self.channel.clone(),
            state,
            attempts: message.attempts,
            status,
            error: error.clone(),
            at: now,
        }));
    }
}
