use sre_core::{SpooledRecord, StoreError, Timestamp};

use super::Outbox;
use super::machine::{Kind, Machine, Step};
use super::record;
use super::stats::DropReason;

/// The copies of waiting readings in the spool. While the backend is away, each reading is copied, so that a restart loses none; they
/// are sent from memory.
#[derive(Debug)]
pub(super) struct StateSpool {
    /// Whether the readings of an earlier run are still to be read.
    pub(super) is_load_due: bool,
    /// The id of the last record.
    last: u64,
    /// Records up to this id have been removed from the spool.
    removed_up_to: u64,
}

impl StateSpool {
    pub(super) const fn new(is_load_due: bool) -> Self {
        Self { is_load_due, last: 0, removed_up_to: 0 }
    }
}

/// Returns the name of the queue in the spool for the readings of an exporter.
pub(super) fn state_queue(exporter: &str) -> String {
    format!("{}{exporter}", Outbox::STATE_QUEUES)
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
