use std::time::Duration;

use sre_core::{Spool, SpoolSize, SpooledRecord, StoreError, Timestamp};

use super::deadline::{Backoff, Deadline};
use super::machine::{Machine, Step};
use super::options::OutboxLimits;
use super::record::{self, Batch, Record};
use super::state_queue::Reading;
use super::state_spool::state_queue;
use super::stats::DropReason;

/// The state of an outbox's queue in the spool.
#[derive(Debug)]
pub(super) struct SpoolQueue {
    /// The size of the queue.
    pub(super) size: SpoolSize,
    /// Number of its records that are in no batch.
    pub(super) waiting: u64,
    /// Records up to this id have been loaded into batches.
    loaded_up_to: u64,
    /// Records up to this id are settled.
    settled_up_to: u64,
    /// Records up to this id have been removed from the spool.
    removed_up_to: u64,
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

/// How long to wait after a failed read or write of the spool.
const SPOOL_RETRY: Duration = Duration::from_secs(5);

impl Machine {
    /// Returns the next step that uses the spool, if any.
    pub(super) fn spool_step(&mut self, now: Timestamp) -> Option<Step> {
        let spool = self.spool.as_ref()?;
        if !spool.backoff.is_over(now) {
            return None;
        }
        let (settled_up_to, removed_up_to, waiting) = (spool.settled_up_to, spool.removed_up_to, spool.waiting);
        if let Some(step) = self.state_spool_step() {
            return Some(step);
        }
        if settled_up_to > removed_up_to {
            return Some(Step::Remove(settled_up_to));
        }
        if self.is_append_due(now) {
            return Some(Step::Append(self.not_in_spool(self.can_spool_batches())));
        }
        (self.batches.is_empty() && waiting > 0).then_some(Step::Load)
    }

    /// Returns true while the backend cannot accept the queued records, or memory fills up.
    fn is_append_due(&self, now: Timestamp) -> bool {
        let Some(spool) = &self.spool else { return false };
        let has_unspooled = self.can_spool_batches() && self.batches.iter().any(is_in_memory);
        let is_due = self.is_half_full() || (self.is_backend_away() && (has_unspooled || self.is_batch_due(now)));
        is_due && spool.size.bytes < self.limits.spool_bytes
    }

    /// Returns true while the backend cannot accept records.
    pub(super) fn is_backend_away(&self) -> bool {
        self.backoff.is_failing() || self.stats.is_halted
    }

    /// Batches are appended to the spool only if no newer records wait there, so that its records stay in order.
    fn can_spool_batches(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.waiting == 0)
    }

    /// Returns the records that are only in memory, oldest first.
    pub(super) fn not_in_spool(&self, with_batches: bool) -> Vec<Record> {
        let in_batches = self.batches.iter().filter(|batch| with_batches && is_in_memory(batch));
        in_batches.flat_map(|batch| &batch.records).chain(&self.memory).cloned().collect()
    }

    /// Accepts the result of a step.
    pub(super) fn spooled(&mut self, result: SpoolResult, now: Timestamp) {
        match result {
            SpoolResult::Appended(sizes, result) => self.appended(&sizes, result, now),
            SpoolResult::Removed(up_to, result) => self.removed(up_to, result, now),
            SpoolResult::Loaded(result) => self.loaded(result, now),
            SpoolResult::AppendedStates(counts, result) => self.states_appended(&counts, result, now),
            SpoolResult::RemovedStates(up_to, result) => self.states_removed(up_to, result, now),
            SpoolResult::LoadedStates(result) => self.states_loaded(result, now),
        }
    }

    /// Accepts the last result before the end: appended records are removed from memory.
    pub(super) fn spooled_at_shutdown(&mut self, sizes: &[usize], result: Result<u64, StoreError>, now: Timestamp) {
        if self.spool_result(result, now).is_none() {
            return;
        }
        self.batches.clear();
        self.memory.clear();
        self.memory_bytes = 0;
        if let Some(spool) = &mut self.spool {
            spool.size.records += sizes.len() as u64;
            spool.size.bytes += sizes.iter().sum::<usize>() as u64;
        }
    }

    fn appended(&mut self, sizes: &[usize], result: Result<u64, StoreError>, now: Timestamp) {
        let with_batches = self.can_spool_batches();
        let Some(last) = self.spool_result(result, now) else { return };
        let Some(spool) = &mut self.spool else { return };
        let mut ids = (last + 1 - sizes.len() as u64)..=last;
        let mut sizes = sizes.iter().copied();
        let unspooled = self.batches.iter_mut().filter(|batch| with_batches && is_in_memory(batch));
        for record in unspooled.flat_map(|batch| &mut batch.records) {
            let (Some(id), Some(bytes)) = (ids.next(), sizes.next()) else { return };
            (record.spool_id, record.bytes) = (Some(id), bytes);
            spool.size.records += 1;
            spool.size.bytes += bytes as u64;
            spool.loaded_up_to = id;
        }
        for bytes in sizes {
            // Records pushed in the meantime are behind these.
            let Some(record) = self.memory.pop_front() else { break };
            self.memory_bytes -= record.bytes;
            spool.size.records += 1;
            spool.size.bytes += bytes as u64;
            spool.waiting += 1;
        }
    }

    fn removed(&mut self, up_to: u64, result: Result<(), StoreError>, now: Timestamp) {
        if self.spool_result(result, now).is_some()
            && let Some(spool) = &mut self.spool
        {
            spool.removed_up_to = up_to;
        }
    }

    fn loaded(&mut self, result: Result<Vec<SpooledRecord>, StoreError>, now: Timestamp) {
        let Some(found) = self.spool_result(result, now) else { return };
        let Some(spool) = &mut self.spool else { return };
        let Some(last) = found.last() else {
            // Another process has removed the records.
            (spool.waiting, spool.size) = (0, SpoolSize::default());
            return;
        };
        spool.loaded_up_to = last.id;
        if spool.removed_up_to == 0 {
            spool.removed_up_to = found[0].id.saturating_sub(1);
        }
        spool.waiting = spool.waiting.saturating_sub(found.len() as u64);
        let mut records = Vec::with_capacity(found.len());
        for spooled in &found {
            match record::from_bytes(spooled) {
                Some(record) => records.push(record),
                None => {
                    spool.size.records = spool.size.records.saturating_sub(1);
                    spool.size.bytes = spool.size.bytes.saturating_sub(spooled.bytes.len() as u64);
                    self.stats.events.drop(DropReason::Unreadable, 1);
                }
            }
        }
        if !records.is_empty() {
            self.batches.push_back(Batch { records, attempts: 0 });
        }
        self.update_settled();
    }

    /// Subtracts settled records from the size of the queue.
    pub(super) fn subtract(&mut self, records: &[Record]) {
        let Some(spool) = &mut self.spool else { return };
        for record in records.iter().filter(|record| record.spool_id.is_some()) {
            spool.size.records = spool.size.records.saturating_sub(1);
            spool.size.bytes = spool.size.bytes.saturating_sub(record.bytes as u64);
        }
    }

    /// Updates the id up to which records may be removed from the spool.
    pub(super) fn update_settled(&mut self) {
        let first = self.batches.iter().flat_map(|batch| &batch.records).find_map(|record| record.spool_id);
        if let Some(spool) = &mut self.spool {
            spool.settled_up_to = first.map_or(spool.loaded_up_to, |first| first - 1);
        }
    }

    pub(super) fn spool_result<T>(&mut self, result: Result<T, StoreError>, now: Timestamp) -> Option<T> {
        let spool = self.spool.as_mut()?;
        match result {
            Ok(value) => {
                spool.backoff = Backoff::default();
                Some(value)
            }
            Err(error) => {
                let failures = spool.backoff.failures.saturating_add(1);
                spool.backoff = Backoff { failures, until: Some(Deadline::after(now, SPOOL_RETRY)) };
                self.stats.spool_failures += 1;
                self.stats.last_error = error.to_string();
                None
            }
        }
    }
}

/// Returns true for a batch that came from memory and is not in the spool.
fn is_in_memory(batch: &Batch) -> bool {
    batch.records.iter().all(|record| record.spool_id.is_none())
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
