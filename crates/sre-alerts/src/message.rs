use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher13};
use sre_core::{Alert, AlertId, Timestamp};

use crate::fingerprint::Fingerprint;

/// A message on its way to one channel.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Messages of one key are delivered in order.
    pub(crate) key: Fingerprint,
    /// The incident, and of a summary the others.
    pub(crate) incident: Fingerprint,
    pub(crate) others: Vec<Fingerprint>,
    pub(crate) alert: Arc<Alert>,
    /// The stored alerts that the message delivers; empty without a store.
    pub(crate) alert_ids: Vec<AlertId>,
    /// When the alert was sent.
    pub(crate) at: Timestamp,
    /// Who acknowledged the incident, if the message is an acknowledgement.
    pub(crate) acknowledged_by: Option<Arc<str>>,
    pub(crate) attempts: u32,
}

impl Message {
    pub(crate) fn new(key: Fingerprint, alert: Arc<Alert>, id: Option<AlertId>, at: Timestamp) -> Self {
        let alert_ids = id.into_iter().collect();
        Self { key, incident: key, others: Vec::new(), alert, alert_ids, at, acknowledged_by: None, attempts: 0 }
    }

    /// Returns one message in place of several.
    pub(crate) fn summary_of(messages: &[Self], key: Fingerprint, alert: Arc<Alert>, at: Timestamp) -> Self {
        let alert_ids = messages.iter().flat_map(|message| message.alert_ids.iter().copied()).collect();
        let others: Vec<Fingerprint> = messages.iter().flat_map(Self::incidents).collect();
        Self { key, incident: key, others, alert, alert_ids, at, acknowledged_by: None, attempts: 0 }
    }

    /// Returns the incidents that it is about.
    pub(crate) fn incidents(&self) -> impl Iterator<Item = Fingerprint> {
        std::iter::once(self.incident).chain(self.others.iter().copied())
    }

    /// Returns the message's identifier: the same for the same key, severity and time, also after a restart.
    pub(crate) fn id(&self) -> u128 {
        let mut hasher = SipHasher13::new();
        hasher.write(self.alert.dedup_key.as_bytes());
        hasher.write_i64(self.at.as_nanos());
        hasher.write_u8(self.alert.severity as u8);
        hasher.finish128().as_u128()
    }
}
