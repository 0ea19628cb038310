//! A store in memory and a channel, for the tests of the manager with a store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use sre_core::{
    Acknowledgement, AlertChannel, AlertId, AlertQuery, AlertRecord, AlertStore, ChannelError, DeliveryReceipt,
    DeliveryRecord, DeliveryState, HttpClient, NewAlert, Notification, Retention, Severity, StoreError, Timestamp,
};

/// A handle of a store whose leases expire, that counts its appends and can be made to fail.
#[derive(Clone, Default)]
pub(crate) struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
    owner: u64,
}

#[derive(Default)]
struct Contents {
    records: Vec<AlertRecord>,
    owners: BTreeMap<(AlertId, Arc<str>), u64>,
    leases: BTreeMap<u64, Timestamp>,
    appends: usize,
    is_failing: bool,
}

const LEASE: Duration = Duration::from_secs(30);

impl MemoryStore {
    /// Another handle of the same store.
    pub(crate) fn another_owner(&self) -> Self {
        Self { contents: self.contents.clone(), owner: self.owner + 1 }
    }

    pub(crate) fn appends(&self) -> usize {
        self.contents.lock().unwrap().appends
    }

    pub(crate) fn set_failing(&self, is_failing: bool) {
        self.contents.lock().unwrap().is_failing = is_failing;
    }

    fn contents(&self) -> Result<MutexGuard<'_, Contents>, StoreError> {
        let contents = self.contents.lock().unwrap();
        if contents.is_failing { Err(StoreError::unavailable("memory", "switched off")) } else { Ok(contents) }
    }
}

impl AlertStore for MemoryStore {
    fn append(&self, alerts: &[NewAlert]) -> Result<Vec<AlertId>, StoreError> {
        let mut contents = self.contents()?;
        contents.appends += 1;
        let mut ids = Vec::new();
        for new in alerts {
            let id = AlertId(contents.records.len() as u64 + 1);
            let mut record = AlertRecord::new(id, (*new.alert).clone(), new.at);
            for (channel, state) in &new.deliveries {
                record.deliveries.push(DeliveryRecord::new(id, channel.clone(), *state, new.at));
                contents.owners.insert((id, channel.clone()), self.owner);
            }
            contents.records.push(record);
            ids.push(id);
        }
        Ok(ids)
    }

    fn record(&self, results: &[DeliveryRecord]) -> Result<(), StoreError> {
        let mut contents = self.contents()?;
        for result in results {
            contents.owners.insert((result.alert, result.channel.clone()), self.owner);
            let deliveries = &mut contents.records[result.alert.0 as usize - 1].deliveries;
            match deliveries.iter_mut().find(|known| known.channel == result.channel) {
                Some(known) => *known = result.clone(),
                None => deliveries.push(result.clone()),
            }
        }
        Ok(())
    }

    fn renew_lease(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let expires = now.saturating_add(LEASE);
        self.contents()?.leases.insert(self.owner, expires);
        Ok(Some(expires))
    }

    fn adopt(&self, channel: &str, limit: usize, now: Timestamp) -> Result<Vec<AlertRecord>, StoreError> {
        let mut contents = self.contents()?;
        let Contents { records, owners, leases, .. } = &mut *contents;
        let mut adopted = Vec::new();
        for record in records.iter_mut() {
            let Some(delivery) = record.deliveries.iter_mut().find(|delivery| &*delivery.channel == channel) else {
                continue;
            };
            let owner = owners.entry((record.id, delivery.channel.clone())).or_default();
            let is_free = match delivery.state {
                DeliveryState::Released => true,
                DeliveryState::Pending => leases.get(owner).is_none_or(|expires| *expires <= now),
                _ => false,
            };
            if is_free && adopted.len() < limit {
                (delivery.state, *owner) = (DeliveryState::Pending, self.owner);
                adopted.push(AlertRecord::new(record.id, record.alert.clone(), record.at));
            }
        }
        Ok(adopted)
    }

    fn open_incidents(&self) -> Result<Vec<AlertRecord>, StoreError> {
        let mut last = BTreeMap::new();
        for record in &self.contents()?.records {
            last.insert(record.alert.key().into_owned(), record.clone());
        }
        Ok(last
            .into_values()
            .filter(|record| record.alert.severity != Severity::Resolved && !record.alert.one_off)
            .collect())
    }

    fn query(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        let is_match = |record: &&AlertRecord| query.dedup_key.as_ref().is_none_or(|key| *key == record.alert.key());
        let limit = query.limit.unwrap_or(usize::MAX);
        Ok(self.contents()?.records.iter().rev().filter(is_match).take(limit).cloned().collect())
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.contents()?.records.len() as u64)
    }

    fn acknowledge(&self, _dedup_key: &str, _by: &str, _at: Timestamp) -> Result<bool, StoreError> {
        self.contents().map(|_| false)
    }

    fn acknowledgement(&self, _dedup_key: &str) -> Result<Option<Acknowledgement>, StoreError> {
        self.contents().map(|_| None)
    }

    fn save_silence(&self, _id: u64, _text: Option<&str>) -> Result<(), StoreError> {
        self.contents().map(drop)
    }

    fn silences(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.contents().map(|_| Vec::new())
    }

    fn prune(&self, _retention: &Retention, _now: Timestamp) -> Result<u64, StoreError> {
        self.contents().map(|_| 0)
    }
}

/// Records what is delivered, unless it is down.
#[derive(Clone)]
pub(crate) struct TestChannel {
    name: &'static str,
    delivered: Arc<Mutex<Vec<String>>>,
    pub(crate) is_down: Arc<AtomicBool>,
}

impl TestChannel {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, delivered: Arc::default(), is_down: Arc::default() }
    }

    /// Takes what was delivered since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.delivered.lock().unwrap())
    }
}

#[async_trait]
impl AlertChannel for TestChannel {
    fn name(&self) -> &str {
        self.name
    }

    async fn deliver(
        &self,
        notification: Notification<'_>,
        _http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(ChannelError::Local("down".into()));
        }
        let alert = notification.alert;
        self.delivered.lock().unwrap().push(format!("{} {}: {}", alert.dedup_key, alert.severity, alert.message));
        Ok(DeliveryReceipt::default())
    }
}
