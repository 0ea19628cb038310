use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use crate::{StoreError, lock};

/// Queues on disk, by name: what does not fit into memory waits there, and outlives a restart.
///
/// A call returns once what it did survives the death of the process.
///
/// ```
/// use sre_core::{MemorySpool, Spool};
///
/// let spool: &dyn Spool = &MemorySpool::default();
/// spool.append("otlp", &[b"first", b"second", b"third"])?;
/// let batch = spool.peek("otlp", 2, 1 << 20)?;
/// assert_eq!(batch[1].bytes, b"second");
/// // Once the batch has been sent:
/// spool.remove("otlp", batch[1].id)?;
/// assert_eq!(spool.size("otlp")?.records, 1);
/// # Ok::<(), sre_core::StoreError>(())
/// ```
pub trait Spool: Send + Sync {
    /// Appends records to a queue, in order, all of them or none, and returns the id of the last one (0 where there is
    /// none). The ids of one call follow each other without a gap.
    fn append(&self, queue: &str, records: &[&[u8]]) -> Result<u64, StoreError>;

    /// Returns the oldest records of a queue, at most `limit` and, beyond the first, at most `bytes` together. They stay
    /// until they are removed.
    fn peek(&self, queue: &str, limit: usize, bytes: usize) -> Result<Vec<SpooledRecord>, StoreError>;

    /// Removes the records up to that id.
    fn remove(&self, queue: &str, up_to: u64) -> Result<(), StoreError>;

    /// Returns what a queue holds.
    fn size(&self, queue: &str) -> Result<SpoolSize, StoreError>;
}

/// A record of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledRecord {
    /// Grows from record to record, and is never used again.
    pub id: u64,
    /// The record.
    pub bytes: Vec<u8>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolSize {
    /// Records.
    pub records: u64,
    /// Their bytes, together.
    pub bytes: u64,
}

/// A [`Spool`] in memory, for tests.
#[derive(Debug, Default)]
pub struct MemorySpool(Mutex<Queues>);

#[derive(Debug, Default)]
struct Queues {
    last: u64,
    by_name: BTreeMap<String, VecDeque<SpooledRecord>>,
}

impl Spool for MemorySpool {
    fn append(&self, queue: &str, records: &[&[u8]]) -> Result<u64, StoreError> {
        let Queues { last, by_name } = &mut *lock(&self.0);
        let queue = by_name.entry(queue.to_owned()).or_default();
        for record in records {
            *last += 1;
            queue.push_back(SpooledRecord { id: *last, bytes: record.to_vec() });
        }
        Ok(if records.is_empty() { 0 } else { *last })
    }

    fn peek(&self, queue: &str, limit: usize, bytes: usize) -> Result<Vec<SpooledRecord>, StoreError> {
        let queues = lock(&self.0);
        let mut left = bytes;
        let records = queues.by_name.get(queue).into_iter().flatten().take(limit).enumerate();
        let fits = |(number, record): &(usize, &SpooledRecord)| {
            let fits = *number == 0 || record.bytes.len() <= left;
            left = left.saturating_sub(record.bytes.len());
            fits
        };
        Ok(records.take_while(fits).map(|(_, record)| record.clone()).collect())
    }

    fn remove(&self, queue: &str, up_to: u64) -> Result<(), StoreError> {
        if let Some(queue) = lock(&self.0).by_name.get_mut(queue) {
            queue.retain(|record| record.id > up_to);
        }
        Ok(())
    }

    fn size(&self, queue: &str) -> Result<SpoolSize, StoreError> {
        let queues = lock(&self.0);
        let records = queues.by_name.get(queue);
        Ok(SpoolSize {
            records: records.map_or(0, VecDeque::len) as u64,
            bytes: records.into_iter().flatten().map(|record| record.bytes.len() as u64).sum(),
        })
    }
}
