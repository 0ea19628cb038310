//! What a [`Machine`] does with the spool: events that memory has no room for, and copies of readings.

use std::time::Duration;

use sre_core::{SpoolSize, SpooledRecord, StoreError, Timestamp};

use super::deadline::{Backoff, Deadline};
use super::machine::Machine;
use super::record::{self, Batch, Record};
use super::spool_queue::SpoolResult;
use super::state_spool::StateSpool;
use super::stats::DropReason;
use super::step::{Kind, Step};

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

impl Machine {
    /// Returns the next step that uses the copies in the spool, if any.
    pub(super) fn state_spool_step(&mut self) -> Option<Step> {
        if self.state_spool.is_load_due {
            // The reading in flight has to stay the first one.
            return (self.in_flight != Some(Kind::State)).then_some(Step::LoadStates);
        }
        // Before copies are removed, because these may be replaced by others.
        if self.is_backend_away() {
            let readings: Vec<_> = self.states.not_in_spool().map(|reading| reading.clone()).collect();
            if !readings.is_empty() {
                return Some(Step::AppendStates(readings));
            }
        }
        let StateSpool { last, removed_up_to, .. } = self.state_spool;
        let settled_up_to = self.states.first_spool_id().map_or(last, |first| first - 1);
        (settled_up_to > removed_up_to).then_some(Step::RemoveStates(settled_up_to))
    }

    pub(super) fn states_appended(&mut self, counts: &[usize], result: Result<u64, StoreError>, now: Timestamp) {
        let Some(last) = self.spool_result(result, now) else { return };
        let mut id = last + 1 - counts.iter().sum::<usize>() as u64;
        for (reading, count) in self.states.not_in_spool().zip(counts) {
            reading.spool_id = Some(id);
            id += *count as u64;
        }
        self.state_spool.last = last;
    }

    pub(super) fn states_removed(&mut self, up_to: u64, result: Result<(), StoreError>, now: Timestamp) {
        if self.spool_result(result, now).is_some() {
            self.state_spool.removed_up_to = up_to;
        }
    }

    pub(super) fn states_loaded(&mut self, result: Result<Vec<SpooledRecord>, StoreError>, now: Timestamp) {
        let Some(found) = self.spool_result(result, now) else { return };
        self.state_spool = StateSpool { last: found.last().map_or(0, |record| record.id), ..StateSpool::new(false) };
        let readings = record::readings_from_bytes(&found);
        let records: usize = readings.iter().map(|reading| reading.state.len()).sum();
        self.stats.state.restored += found.len() as u64;
        self.stats.state.drop(DropReason::Unreadable, found.len() - records);
        self.states.extend_front(readings);
        self.thin_out_states();
    }
}
