use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sre_core::{AgentEvent, Metric, Snapshot, SpooledRecord, Timestamp};

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
