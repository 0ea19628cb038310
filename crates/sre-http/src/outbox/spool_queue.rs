use sre_core::{Spool, SpoolSize, SpooledRecord, StoreError};

use super::deadline::Backoff;
use super::options::OutboxLimits;
use super::record::{self, Record};
use super::state_queue::Reading;
use super::state_spool::state_queue;
use super::step::Step;

/// The state of an outbox's queue in the spool.
#[derive(Debug)]
pub(super) struct SpoolQueue {
    /// The size of the queue.
    pub(super) size: SpoolSize,
    /// Number of its records that are in no batch.
    pub(super) waiting: u64,
    /// Records up to this id have been loaded into batches.
    pub(super) loaded_up_to: u64,
    /// Records up to this id are settled.
    pub(super) settled_up_to: u64,
    /// Records up to this id have been removed from the spool.
    pub(super) removed_up_to: u64,
    pub(super) backoff: Backoff,
}

impl SpoolQueue {
    pub(super) fn new(size: SpoolSize) -> Self {
        Self {
            size,
            waiting: size.records,
            loaded_up_to: 0,
            settled_up_to: 0,
            removed_up_to: 0,
            backoff: Backoff::default(),
        }
    }
}

/// The result of a step that uses the spool.
pub(super) enum SpoolResult {
    /// The sizes of the appended records, and the id of the last one.
    Appended(Vec<usize>, Result<u64, StoreError>),
    /// The id up to which records were removed.
    Removed(u64, Result<(), StoreError>),
    Loaded(Result<Vec<SpooledRecord>, StoreError>),
    /// The numbers of records of the appended readings, and the id of the last record.
    AppendedStates(Vec<usize>, Result<u64, StoreError>),
    /// The id up to which copies of readings were removed.
    RemovedStates(u64, Result<(), StoreError>),
    LoadedStates(Result<Vec<SpooledRecord>, StoreError>),
}

impl SpoolResult {
    /// Performs a step that uses the spool. Returns `None` for other steps.
    pub(super) fn of(step: &Step, spool: &dyn Spool, queue: &str, limits: &OutboxLimits) -> Option<Self> {
        match step {
            Step::Append(records) => Some(Self::append(records, spool, queue)),
            Step::Remove(up_to) => Some(Self::Removed(*up_to, spool.remove(queue, *up_to))),
            Step::Load => Some(Self::Loaded(spool.peek(queue, limits.batch_events.max(1), limits.batch_bytes))),
            Step::AppendStates(readings) => Some(Self::append_states(readings, spool, queue)),
            Step::RemoveStates(up_to) => Some(Self::RemovedStates(*up_to, spool.remove(&state_queue(queue), *up_to))),
            Step::LoadStates => Some(Self::LoadedStates(spool.peek(&state_queue(queue), usize::MAX, usize::MAX))),
            _ => None,
        }
    }

    pub(super) fn append(records: &[Record], spool: &dyn Spool, queue: &str) -> Self {
        let bytes: Vec<Vec<u8>> = records.iter().map(record::to_bytes).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let result = spool.append(queue, &slices);
        Self::Appended(bytes.iter().map(Vec::len).collect(), result)
    }

    pub(super) fn append_states(readings: &[Reading], spool: &dyn Spool, queue: &str) -> Self {
        let bytes: Vec<Vec<u8>> = readings.iter().flat_map(record::reading_to_bytes).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let result = spool.append(&state_queue(queue), &slices);
        Self::AppendedStates(readings.iter().map(|reading| reading.state.len()).collect(), result)
    }
}
