use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sre_core::Timestamp;

use super::record::StateBatch;

/// The readings of metrics and snapshots that wait to be sent, oldest first.
#[derive(Debug, Default)]
pub(super) struct StateQueue(VecDeque<Reading>);

/// Metrics and snapshots that were collected together, or a part of them.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) state: Arc<StateBatch>,
    /// When it was collected.
    pub(super) at: Timestamp,
    /// Number of error responses from the backend.
    pub(super) attempts: u32,
    /// The id of the first of its records in the spool, if it has a copy there.
    pub(super) spool_id: Option<u64>,
}

impl Reading {
    pub(super) fn new(state: StateBatch, at: Timestamp) -> Self {
        Self { state: Arc::new(state), at, attempts: 0, spool_id: None }
    }

    /// Returns a part of the reading, without attempts. The copy in the spool is kept until no part is left.
    pub(super) fn part(&self, state: StateBatch) -> Self {
        Self { spool_id: self.spool_id, ..Self::new(state, self.at) }
    }
}

impl StateQueue {
    pub(super) fn push(&mut self, reading: Reading) {
        self.0.push_back(reading);
    }

    pub(super) fn push_front(&mut self, reading: Reading) {
        self.0.push_front(reading);
    }

    pub(super) fn front(&self) -> Option<&Arc<StateBatch>> {
        self.0.front().map(|reading| &reading.state)
    }

    pub(super) fn pop(&mut self) -> Option<Reading> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.0.iter()
    }

    /// Returns the number of metrics and snapshots.
    pub(super) fn records(&self) -> usize {
        self.0.iter().map(|reading| reading.state.len()).sum()
    }

    /// Adds readings that are older than all others.
    pub(super) fn extend_front(&mut self, readings: Vec<Reading>) {
        readings.into_iter().rev().for_each(|reading| self.0.push_front(reading));
    }

    /// Returns the readings that have no copy in the spool.
    pub(super) fn not_in_spool(&mut self) -> impl Iterator<Item = &mut Reading> {
        self.0.iter_mut().filter(|reading| reading.spool_id.is_none())
    }

    /// Returns the id of the first record whose copy in the spool is still needed.
    pub(super) fn first_spool_id(&self) -> Option<u64> {
        self.0.iter().find_map(|reading| reading.spool_id)
    }

    /// Removes the readings that have no copy in the spool. Returns the number of their records.
    pub(super) fn remove_not_in_spool(&mut self) -> usize {
        let before = self.records();
        self.0.retain(|reading| reading.spool_id.is_some());
        before - self.records()
    }

    /// Removes every second reading while there are more than `limit` records, so that a long outage leaves fewer points,
    /// but no gap. The latest reading is kept, and the first one if it is in flight. Copies in the spool are replaced by copies
    /// of those that are left. Returns the number of removed records.
    pub(super) fn thin_out(&mut self, limit: usize, is_in_flight: bool) -> usize {
        let before = self.records();
        while self.records() > limit && self.0.len() > 1 + usize::from(is_in_flight) {
            let readings = std::mem::take(&mut self.0);
            let last = readings.len() - 1;
            let is_kept = |index: usize| (last - index).is_multiple_of(2) || (index == 0 && is_in_flight);
            let kept = (0..).zip(readings).filter(|(index, _)| is_kept(*index));
            self.0 = kept.map(|(_, reading)| Reading { spool_id: None, ..reading }).collect();
        }
        before - self.records()
    }

    /// Removes readings older than `max_age`, except for the latest one. Returns the number of removed records.
    pub(super) fn remove_older(&mut self, max_age: Duration, now: Timestamp) -> usize {
        let before = self.records();
        while self.0.len() > 1 && self.0.front().is_some_and(|reading| now.since(reading.at) > max_age) {
            self.0.pop_front();
        }
        before - self.records()
    }
}

#[cfg(test)]
mod tests {
    use sre_core::Metric;

    use super::*;

    /// Returns a queue with a reading of two records at each second.
    fn queue(readings: i64) -> StateQueue {
        let mut queue = StateQueue::default();
        for second in 0..readings {
            let at = Timestamp::from_secs(second);
            let metrics = vec![Metric::gauge("a", 1.0), Metric::gauge("b", 2.0)];
            queue.push(Reading::new(StateBatch { at, metrics, snapshots: Vec::new() }, at));
        }
        queue
    }

    fn seconds(queue: &StateQueue) -> Vec<i64> {
        queue.0.iter().map(|reading| reading.at.as_secs()).collect()
    }

    #[test]
    fn a_full_queue_keeps_every_second_reading_and_the_latest() {
        let mut full = queue(8);
        assert_eq!(full.thin_out(16, false), 0);
        assert_eq!((full.thin_out(15, false), seconds(&full)), (8, vec![1, 3, 5, 7]));
        assert_eq!((full.thin_out(4, false), seconds(&full)), (4, vec![3, 7]));
        assert_eq!((full.thin_out(1, false), seconds(&full)), (2, vec![7]), "one is kept whatever its size");
        let mut sending = queue(8);
        assert_eq!((sending.thin_out(9, true), seconds(&sending)), (10, vec![0, 3, 7]), "the one in flight is kept");
        assert_eq!((sending.thin_out(1, true), seconds(&sending)), (2, vec![0, 7]));
    }

    #[test]
    fn readings_that_are_too_old_make_way_for_newer_ones() {
        let mut queue = queue(5);
        let now = Timestamp::from_secs(10);
        assert_eq!((queue.remove_older(Duration::from_secs(7), now), seconds(&queue)), (6, vec![3, 4]));
        assert_eq!((queue.remove_older(Duration::ZERO, now), seconds(&queue)), (2, vec![4]), "the latest is kept");
    }
}
