use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sre_core::{AgentEvent, Metric, Snapshot, SpooledRecord, Timestamp};

use super::state_queue::Reading;

/// A queued event.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) event: Arc<AgentEvent>,
    /// When it was recorded.
    pub(super) at: Timestamp,
    /// Its approximate size in memory or, from the spool, as JSON; in bytes.
    pub(super) bytes: usize,
    /// Its id in the spool, if it is there.
    pub(super) spool_id: Option<u64>,
}

/// Events that are sent together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// Number of error responses from the backend.
    pub(super) attempts: u32,
}

/// Metrics and snapshots that are sent together.
#[derive(Debug)]
pub(super) struct StateBatch {
    pub(super) at: Timestamp,
    pub(super) metrics: Vec<Metric<'static>>,
    pub(super) snapshots: Vec<Snapshot>,
}

impl StateBatch {
    pub(super) fn len(&self) -> usize {
        self.metrics.len() + self.snapshots.len()
    }

    /// Returns the records at these ascending indices of the metrics followed by the snapshots.
    pub(super) fn select(&self, indices: &[usize]) -> Self {
        let is_selected = |index: usize| indices.binary_search(&index).is_ok();
        let metrics = (0..).zip(&self.metrics).filter(|(index, _)| is_selected(*index));
        let snapshots = (self.metrics.len()..).zip(&self.snapshots).filter(|(index, _)| is_selected(*index));
        Self {
            at: self.at,
            metrics: metrics.map(|(_, metric)| metric.clone()).collect(),
            snapshots: snapshots.map(|(_, snapshot)| snapshot.clone()).collect(),
        }
    }

    /// Splits the batch into two halves.
    pub(super) fn split(&self) -> [Self; 2] {
        let half = self.len() / 2;
        let metrics = self.metrics.split_at(half.min(self.metrics.len()));
        let snapshots = self.snapshots.split_at(half.saturating_sub(self.metrics.len()));
        let part = |metrics: &[Metric<'static>], snapshots: &[Snapshot]| Self {
            at: self.at,
            metrics: metrics.to_vec(),
            snapshots: snapshots.to_vec(),
        };
        [part(metrics.0, snapshots.0), part(metrics.1, snapshots.1)]
    }
}

/// The format of a record in the spool.
#[derive(Serialize)]
struct StoredRef<'a> {
    at: Timestamp,
    event: &'a AgentEvent,
}

#[derive(Deserialize)]
struct Stored {
    at: Timestamp,
    event: AgentEvent,
}

/// Serializes a record for the spool. Cannot fail: the keys of an event's maps are strings.
pub(super) fn to_bytes(record: &Record) -> Vec<u8> {
    serde_json::to_vec(&StoredRef { at: record.at, event: &record.event }).unwrap_or_default()
}

/// Deserializes a record. Returns `None` if it is damaged or of a later version.
pub(super) fn from_bytes(spooled: &SpooledRecord) -> Option<Record> {
    let Stored { at, event } = serde_json::from_slice(&spooled.bytes).ok()?;
    Some(Record { event: Arc::new(event), at, bytes: spooled.bytes.len(), spool_id: Some(spooled.id) })
}

/// The format of a metric or snapshot in the spool.
#[derive(Serialize, Deserialize)]
struct StoredState<'a> {
    /// When its reading was collected, by the outbox's clock.
    collected_at: Timestamp,
    /// The time of the reading.
    at: Timestamp,
    record: StateRecord<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateRecord<'a> {
    Metric(Cow<'a, Metric<'static>>),
    Snapshot(Cow<'a, Snapshot>),
}

/// Serializes the metrics and snapshots of a reading for the spool. If serialization fails, the record is empty.
pub(super) fn reading_to_bytes(reading: &Reading) -> impl Iterator<Item = Vec<u8>> {
    let StateBatch { at, metrics, snapshots } = &*reading.state;
    let (collected_at, at) = (reading.at, *at);
    let metrics = metrics.iter().map(|metric| StateRecord::Metric(Cow::Borrowed(metric)));
    let snapshots = snapshots.iter().map(|snapshot| StateRecord::Snapshot(Cow::Borrowed(snapshot)));
    let records = metrics.chain(snapshots);
    records.map(move |record| serde_json::to_vec(&StoredState { collected_at, at, record }).unwrap_or_default())
}

/// Deserializes readings, oldest first. Records that are damaged or of a later version are left out.
pub(super) fn readings_from_bytes(spooled: &[SpooledRecord]) -> Vec<Reading> {
    let read = |record: &SpooledRecord| Some((record.id, serde_json::from_slice(&record.bytes).ok()?));
    let stored: Vec<(u64, StoredState<'static>)> = spooled.iter().filter_map(read).collect();
    let is_same_reading = |a: &StoredState<'_>, b: &StoredState<'_>| (a.collected_at, a.at) == (b.collected_at, b.at);
    let readings = stored.chunk_by(|(_, a), (_, b)| is_same_reading(a, b)).map(|records| {
        let (id, StoredState { collected_at, at, .. }) = &records[0];
        let mut state = StateBatch { at: *at, metrics: Vec::new(), snapshots: Vec::new() };
        for (_, stored) in records {
            match &stored.record {
                StateRecord::Metric(metric) => state.metrics.push(Metric::clone(metric)),
                StateRecord::Snapshot(snapshot) => state.snapshots.push(Snapshot::clone(snapshot)),
            }
        }
        Reading { spool_id: Some(*id), ..Reading::new(state, *collected_at) }
    });
    readings.collect()
}
