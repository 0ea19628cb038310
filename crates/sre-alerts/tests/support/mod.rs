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
    acknowledgements: BTreeMap<AlertId, Acknowledgement>,
    silences: BTreeMap<u64, String>,
    next: u64,
    appends: usize,
    is_failing: bool,
}

const LEASE: Duration = Duration::from_secs(30);

impl MemoryStore {
    /// Another handle of the same store.
    pub(crate) fn another_owner(&self) -> Self {
        self.owner(self.owner + 1)
    }

    /// A handle of the same store with the lease of that number.
    pub(crate) fn owner(&self, owner: u64) -> Self {
        Self { contents: self.contents.clone(), owner }
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
            contents.next += 1;
            let id = AlertId(contents.next);
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
            let Some(record) = contents.records.iter_mut().find(|record| record.id == result.alert) else { continue };
            let deliveries = &mut record.deliveries;
            match deliveries.iter_mut().find(|known| known.channel == result.channel) {
                Some(known) => *known = result.clone(),
                None => deliveries.push(result.clone()),
            }
            deliveries.sort_by(|a, b| a.channel.cmp(&b.channel));
            contents.owners.insert((result.alert, result.channel.clone()), self.owner);
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
        let contents = self.contents()?;
        let last = contents.records.iter().enumerate().filter(|(at, record)| contents.is_open(*at, record));
        Ok(last.map(|(_, record)| contents.incident(record)).collect())
    }

    fn query(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        let AlertQuery { agent_id, severity, slo_name, dedup_key, since, until, limit } = query;
        let is_match = |record: &&AlertRecord| {
            let alert = &record.alert;
            agent_id.as_ref().is_none_or(|agent| *agent == alert.agent_id)
                && severity.is_none_or(|severity| severity == alert.severity)
                && slo_name.as_ref().is_none_or(|slo| *slo == alert.slo_name)
                && dedup_key.as_ref().is_none_or(|key| *key == alert.key())
                && since.is_none_or(|since| record.at >= since)
                && until.is_none_or(|until| record.at < until)
        };
        let contents = self.contents()?;
        Ok(contents.records.iter().rev().filter(is_match).take(limit.unwrap_or(usize::MAX)).cloned().collect())
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.contents()?.records.len() as u64)
    }

    fn acknowledge(&self, dedup_key: &str, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let mut contents = self.contents()?;
        let is_last =
            |(at, record): &(usize, &AlertRecord)| record.alert.key() == dedup_key && contents.is_open(*at, record);
        let Some(id) = contents.records.iter().enumerate().find(is_last).map(|(_, record)| record.id) else {
            return Ok(false);
        };
        contents.acknowledgements.insert(id, Acknowledgement::new(by, at));
        Ok(true)
    }

    fn acknowledgement(&self, dedup_key: &str) -> Result<Option<Acknowledgement>, StoreError> {
        Ok(self.contents()?.acknowledgement(dedup_key))
    }

    fn save_silence(&self, id: u64, text: Option<&str>) -> Result<(), StoreError> {
        let silences = &mut self.contents()?.silences;
        match text {
            Some(text) => silences.insert(id, text.to_owned()),
            None => silences.remove(&id),
        };
        Ok(())
    }

    fn silences(&self) -> Result<Vec<(u64, String)>, StoreError> {
        Ok(self.contents()?.silences.clone().into_iter().collect())
    }

    fn prune(&self, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
        let mut contents = self.contents()?;
        let oldest = now.saturating_sub(retention.age);
        let is_unfinished = |state| matches!(state, DeliveryState::Pending | DeliveryState::Released);
        let is_kept = |(at, record): (usize, &AlertRecord)| {
            let is_resolution = record.alert.severity == Severity::Resolved;
            let has_key = |other: &&AlertRecord| is_resolution && other.alert.key() == record.alert.key();
            let others = contents.records.iter().filter(has_key);
            let mut deliveries = others.chain([record]).flat_map(|record| &record.deliveries);
            record.at >= oldest
                || contents.is_open(at, record)
                || deliveries.any(|delivery| is_unfinished(delivery.state))
        };
        let kept: Vec<bool> = contents.records.iter().enumerate().map(is_kept).collect();
        let mut kept = kept.into_iter();
        let before = contents.records.len();
        contents.records.retain(|_| kept.next().unwrap_or_default());
        for delivery in contents.records.iter_mut().flat_map(|record| &mut record.deliveries) {
            if is_unfinished(delivery.state) && delivery.at < oldest {
                delivery.state = DeliveryState::Failed;
                delivery.error = Some("not delivered within the retention time".to_owned());
            }
        }
        Ok((before - contents.records.len()) as u64)
    }
}

impl Contents {
    /// Returns whether a record is the last one of an open incident.
    fn is_open(&self, at: usize, record: &AlertRecord) -> bool {
        let alert = &record.alert;
        let is_last = self.records[at + 1..].iter().all(|later| later.alert.key() != alert.key());
        is_last && alert.severity != Severity::Resolved && !alert.one_off
    }

    /// Returns the last record of an incident with the deliveries of all of them.
    fn incident(&self, last: &AlertRecord) -> AlertRecord {
        let key = last.alert.key();
        let of_key = self.records.iter().rev().filter(|record| record.alert.key() == key);
        let newest_first = of_key.take_while(|record| record.alert.severity != Severity::Resolved);
        let mut by_channel: BTreeMap<Arc<str>, DeliveryRecord> = BTreeMap::new();
        for delivery in newest_first.flat_map(|record| &record.deliveries) {
            let known = by_channel.entry(delivery.channel.clone()).or_insert_with(|| delivery.clone());
            if known.state != DeliveryState::Delivered && delivery.state == DeliveryState::Delivered {
                *known = delivery.clone();
            }
        }
        let acknowledged = self.acknowledgement(&key);
        let mut incident = AlertRecord::new(last.id, last.alert.clone(), last.at);
        (incident.deliveries, incident.acknowledged) = (by_channel.into_values().collect(), acknowledged);
        incident
    }

    fn acknowledgement(&self, dedup_key: &str) -> Option<Acknowledgement> {
        let mut risen_to = Severity::Resolved;
        for record in self.records.iter().rev().filter(|record| record.alert.key() == dedup_key) {
            if record.alert.severity == Severity::Resolved || risen_to > record.alert.severity {
                return None;
            }
            if let Some(found) = self.acknowledgements.get(&record.id) {
                return Some(found.clone());
            }
            risen_to = risen_to.max(record.alert.severity);
        }
        None
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
