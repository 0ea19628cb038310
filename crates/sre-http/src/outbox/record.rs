use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sre_core::{AgentEvent, Metric, Snapshot, SpooledRecord, Timestamp};

/// An event that waits.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) event: Arc<AgentEvent>,
    /// When it was recorded.
    pub(super) at: Timestamp,
    /// Its bytes as JSON.
    pub(super) bytes: usize,
    /// Its id in the spool, once it is there.
    pub(super) spool_id: Option<u64>,
}

/// Events that are sent together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// How often the backend answered it with an error of its own.
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

    /// Returns the batch in two halves.
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

/// A record's form in the spool.
#[derive(Serialize)]
struct Written<'a> {
    at: Timestamp,
    event: &'a AgentEvent,
}

#[derive(Deserialize)]
struct Read {
    at: Timestamp,
    event: AgentEvent,
}

/// Returns a record as the spool keeps it. It has a size, so it can be written.
pub(super) fn to_bytes(record: &Record) -> Vec<u8> {
    serde_json::to_vec(&Written { at: record.at, event: &record.event }).unwrap_or_default()
}

/// Reads a record back; `None` for one that is damaged or of a later version.
pub(super) fn from_bytes(spooled: &SpooledRecord) -> Option<Record> {
    let Read { at, event } = serde_json::from_slice(&spooled.bytes).ok()?;
    Some(Record { event: Arc::new(event), at, bytes: spooled.bytes.len(), spool_id: Some(spooled.id) })
}

/// Returns how many bytes an event has in the spool; `None` where it cannot be written.
pub(super) fn size(event: &AgentEvent) -> Option<usize> {
    struct Count(usize);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, event).ok()?;
    Some(count.0)
}
