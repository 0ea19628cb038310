use std::sync::Arc;

use sre_core::{DeliveryRecord, DeliveryState, Timestamp};

use crate::message::Message;

/// The delivery results of one channel that are not in the store yet.
#[derive(Debug, Default)]
pub(crate) struct DeliveryLog {
    pub(crate) channel: Arc<str>,
    pub(crate) records: Vec<DeliveryRecord>,
}

impl DeliveryLog {
    /// Records that the message is no longer needed.
    pub(crate) fn skip(&mut self, message: &Message, reason: &str, now: Timestamp) {
        self.record(message, DeliveryState::Skipped, None, Some(reason.to_owned()), now);
    }

    pub(crate) fn record(
        &mut self,
        message: &Message,
        state: DeliveryState,
        status: Option<u16>,
        error: Option<String>,
        now: Timestamp,
    ) {
        for id in &message.alert_ids {
            let mut record = DeliveryRecord::new(*id, self.channel.clone(), state, now);
            (record.attempts, record.status, record.error) = (message.attempts, status, error.clone());
            self.records.push(record);
        }
    }
}
