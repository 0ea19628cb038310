use std::collections::HashMap;

use sre_core::Timestamp;

use crate::event::FORGOTTEN_AFTER;
use crate::settings::InitialCounts;

/// The last total of each series that Datadog has accepted. Counts are the changes since then.
#[derive(Debug)]
pub(crate) struct Totals<T> {
    initial: InitialCounts,
    /// The time of the first accepted batch.
    first: Option<Timestamp>,
    last: HashMap<String, Last<T>>,
}

#[derive(Debug)]
struct Last<T> {
    at: Timestamp,
    /// The total before, for a batch that is sent again because another of its requests failed.
    before: T,
    total: T,
}

/// A total that is to be accepted.
pub(crate) struct Change<T> {
    pub(crate) key: String,
    pub(crate) before: T,
    pub(crate) total: T,
}

impl<T: Clone + Default> Totals<T> {
    pub(crate) fn new(initial: InitialCounts) -> Self {
        Self { initial, first: None, last: HashMap::new() }
    }

    /// Returns the total before the change up to `at`.
    pub(crate) fn before(&self, key: &str, total: &T, at: Timestamp) -> T {
        match self.last.get(key) {
            Some(last) if last.at == at => last.before.clone(),
            Some(last) => last.total.clone(),
            None if self.initial == InitialCounts::Drop && self.first.is_none_or(|first| first == at) => total.clone(),
            None => T::default(),
        }
    }

    /// Remembers totals that Datadog has accepted.
    pub(crate) fn accept(&mut self, changes: Vec<Change<T>>, at: Timestamp) {
        self.first.get_or_insert(at);
        for Change { key, before, total } in changes {
            self.last.insert(key, Last { at, before, total });
        }
        self.last.retain(|_, last| at.since(last.at) < FORGOTTEN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a total, and returns the change.
    fn send(totals: &mut Totals<f64>, key: &str, total: f64, at: i64, is_accepted: bool) -> f64 {
        let at = Timestamp::from_secs(at);
        let before = totals.before(key, &total, at);
        if is_accepted {
            totals.accept(vec![Change { key: key.to_owned(), before, total }], at);
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
    fn what_was_counted_before_the_first_batch_is_dropped_unless_kept() {
        let totals = &mut Totals::new(InitialCounts::Drop);
        assert_eq!(send(totals, "a", 7.0, 0, true), 0.0);
        assert_eq!(send(totals, "a", 7.0, 0, true), 0.0, "also if it is sent again");
        assert_eq!(send(totals, "b", 5.0, 0, true), 0.0, "the second half of a batch that was too large");
        assert_eq!(send(totals, "a", 9.0, 60, true), 2.0);
        assert_eq!(send(totals, "c", 4.0, 60, true), 4.0, "a series that is new began at 0");
        assert_eq!(send(totals, "c", 4.0, 60 + 86_400, true), 0.0);
        assert_eq!(totals.last.len(), 1, "series that are no longer sent are forgotten");
    }
}
