use std::collections::HashMap;

use sre_core::{Timestamp, stable_id};

use crate::event::EVICTED_AFTER;
use crate::settings::InitialCounts;

/// The last total of each series that Datadog has accepted. Counts are the changes since then.
#[derive(Debug)]
pub(crate) struct Totals<T> {
    initial: InitialCounts,
    /// The time of the first accepted batch.
    first: Option<Timestamp>,
    /// The number of the batch whose totals are staged.
    batch: u64,
    series: HashMap<[u8; 16], Series<T>>,
}

#[derive(Debug)]
struct Series<T> {
    /// The time of the total; `None` if none was accepted.
    at: Option<Timestamp>,
    /// The total before, for a batch that is sent again because another of its requests failed.
    before: T,
    total: T,
    /// The total that is to be accepted with the batch of this number.
    staged: (u64, T),
    last_staged: Timestamp,
}

impl<T: Clone + Default> Totals<T> {
    pub(crate) fn new(initial: InitialCounts) -> Self {
        Self { initial, first: None, batch: 0, series: HashMap::new() }
    }

    /// Begins a batch, before its totals are staged.
    pub(crate) fn begin(&mut self) {
        self.batch += 1;
    }

    /// Stages the total of a series, which has this name and these tags, and returns the total before the change up to `at`.
    pub(crate) fn stage(&mut self, name: &str, tags: &str, total: &T, at: Timestamp) -> &T {
        let is_dropped = self.initial == InitialCounts::Drop && self.first.is_none_or(|first| first == at);
        let series = self.series.entry(stable_id(&[name, tags])).or_insert_with(|| Series {
            at: None,
            before: T::default(),
            total: T::default(),
            staged: (0, T::default()),
            last_staged: at,
        });
        if series.at.is_none() {
            let begin = if is_dropped { total.clone() } else { T::default() };
            series.total = begin;
        }
        (series.staged.0, series.last_staged) = (self.batch, at);
        series.staged.1.clone_from(total);
        if series.at == Some(at) { &series.before } else { &series.total }
    }

    /// Remembers the totals of the batch, which Datadog has accepted.
    pub(crate) fn accept(&mut self, at: Timestamp) {
        self.first.get_or_insert(at);
        for series in self.series.values_mut().filter(|series| series.staged.0 == self.batch) {
            if series.at != Some(at) {
                std::mem::swap(&mut series.before, &mut series.total);
            }
            std::mem::swap(&mut series.total, &mut series.staged.1);
            series.at = Some(at);
        }
        self.series.retain(|_, series| at.since(series.last_staged) < EVICTED_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a total, and returns the change.
    fn send(totals: &mut Totals<f64>, key: &str, total: f64, at: i64, is_accepted: bool) -> f64 {
        let at = Timestamp::from_secs(at);
        totals.begin();
        let before = *totals.stage(key, "", &total, at);
        if is_accepted {
            totals.accept(at);
        }
        total - before
    }

    #[test]
    fn a_failed_request_loses_no_change() {
        let totals = &mut Totals::new(InitialCounts::Keep);
        assert_eq!(send(totals, "a", 7.0, 0, false), 7.0);
        assert_eq!(send(totals, "a", 7.0, 0, true), 7.0);
        assert_eq!(send(totals, "a", 9.0, 60, false), 2.0);
        assert_eq!(send(totals, "a", 10.0, 120, true), 3.0, "with that of the batch before");
        assert_eq!(send(totals, "a", 10.0, 120, true), 3.0, "the same batch has the same change");
        assert_eq!(send(totals, "a", 10.0, 180, true), 0.0);
    }

    #[test]
    fn only_the_totals_of_the_accepted_half_of_a_batch_are_remembered() {
        let totals = &mut Totals::new(InitialCounts::Keep);
        let at = Timestamp::from_secs(60);
        totals.begin();
        for key in ["a", "b"] {
            assert_eq!(*totals.stage(key, "", &7.0, at), 0.0);
        }
        // The batch was too large: its first half is accepted, and its second half is not.
        assert_eq!(send(totals, "a", 7.0, 60, true), 7.0);
        assert_eq!(send(totals, "a", 9.0, 120, true), 2.0);
        assert_eq!(send(totals, "b", 9.0, 120, true), 9.0);
    }

    #[test]
    fn what_was_counted_before_the_first_batch_is_dropped_unless_kept() {
        let totals = &mut Totals::new(InitialCounts::Drop);
        assert_eq!(send(totals, "a", 7.0, 0, true), 0.0);
        assert_eq!(send(totals, "a", 7.0, 0, true), 0.0, "also if it is sent again");
        assert_eq!(send(totals, "b", 5.0, 0, true), 0.0, "the second half of a batch that was too large");
        assert_eq!(send(totals, "a", 9.0, 60, true), 2.0);
        assert_eq!(send(totals, "c", 4.0, 60, true), 4.0, "a series that is new began at 0");
        assert_eq!(send(totals, "c", 4.0, 60 + 86_400, true), 0.0);
        assert_eq!(totals.series.len(), 1, "series that are no longer sent are evicted");
    }
}
