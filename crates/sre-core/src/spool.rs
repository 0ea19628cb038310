use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use crate::{StoreError, lock};

/// Named queues on disk, for records that do not fit into memory. Queues survive a restart.
///
/// A call returns once its changes survive the death of the process.
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
    /// Appends records to a queue in order, all or none, and returns the id of the last one (0 without records). The
    /// ids of one call are consecutive.
    fn append(&self, queue: &str, records: &[&[u8]]) -> Result<u64, StoreError>;

    /// Returns the oldest records of a queue: at most `limit` and, beyond the first, at most `bytes` in total. They
    /// stay in the queue until they are removed.
    fn peek(&self, queue: &str, limit: usize, bytes: usize) -> Result<Vec<SpooledRecord>, StoreError>;

    /// Removes the records with ids up to `up_to`.
    fn remove(&self, queue: &str, up_to: u64) -> Result<(), StoreError>;

    /// Returns the size of a queue.
    fn size(&self, queue: &str) -> Result<SpoolSize, StoreError>;

    /// Returns the names of the queues that have records, in ascending order.
    fn queues(&self) -> Result<Vec<String>, StoreError>;
}

/// A record of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpooledRecord {
    /// Increases from record to record, and is never reused.
    pub id: u64,
    /// The record.
    pub bytes: Vec<u8>,
}

impl SpooledRecord {
    /// Creates a record.
    pub const fn new(id: u64, bytes: Vec<u8>) -> Self {
        Self { id, bytes }
    }
}

/// The size of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolSize {
    /// Number of records.
    pub records: u64,
    /// Total size of the records, in bytes.
    pub bytes: u64,
}

impl SpoolSize {
    /// Creates the size of a queue with `records` records of `bytes` bytes in total.
    pub const fn new(records: u64, bytes: u64) -> Self {
        Self { records, bytes }
    }
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

    fn queues(&self) -> Result<Vec<String>, StoreError> {
        let queues = lock(&self.0);
        Ok(queues.by_name.iter().filter(|(_, records)| !records.is_empty()).map(|(name, _)| name.clone()).collect())
    }
}
