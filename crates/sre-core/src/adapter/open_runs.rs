use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::OpenRun;
use crate::{StateError, StateReader, StateWriter, Timestamp};

/// Limits on the number and duration of open runs.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// A run that has not ended this long after its start is closed as incomplete.
    pub task_timeout: Duration,
    /// The maximum number of open runs. The oldest is closed as incomplete to make room.
    pub max_open_runs: usize,
}

impl Default for RunLimits {
    /// Returns limits of ten minutes and 10,000 runs.
    fn default() -> Self {
        Self { task_timeout: Duration::from_secs(600), max_open_runs: 10_000 }
    }
}

/// Open runs by key and by start time.
#[derive(Debug)]
pub(super) struct OpenRuns<S> {
    limits: RunLimits,
    runs: FxHashMap<String, OpenRun<S>>,
    by_start: BTreeSet<(Timestamp, String)>,
    evicted: u64,
}

impl<S> OpenRuns<S> {
    pub(super) fn new(limits: RunLimits) -> Self {
        Self { limits, runs: FxHashMap::default(), by_start: BTreeSet::new(), evicted: 0 }
    }

    /// Inserts a run. Returns the run that it displaces: the one with the same key or, at the limit, the oldest.
    pub(super) fn insert(&mut self, key: &str, run: OpenRun<S>) -> Option<OpenRun<S>> {
        let displaced = if self.runs.contains_key(key) {
            self.remove(key)
        } else if self.runs.len() >= self.limits.max_open_runs.max(1) {
            self.evicted += 1;
            let oldest = self.by_start.first().map(|(_, key)| key.clone());
            oldest.and_then(|key| self.remove(&key))
        } else {
            None
        };
        self.by_start.insert((run.started, key.to_owned()));
        self.runs.insert(key.to_owned(), run);
        displaced
    }

    pub(super) fn get(&self, key: &str) -> Option<&OpenRun<S>> {
        self.runs.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut OpenRun<S>> {
        self.runs.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<OpenRun<S>> {
        let run = self.runs.remove(key)?;
        self.by_start.remove(&(run.started, key.to_owned()));
        Some(run)
    }

    /// Removes the runs whose time-out has passed at `now`, each with the time at which it passed.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<(Timestamp, OpenRun<S>)> {
        let mut expired = Vec::new();
        while let Some((started, _)) = self.by_start.first() {
            let deadline = started.saturating_add(self.limits.task_timeout);
            if deadline >= now {
                break;
            }
            if let Some((_, key)) = self.by_start.pop_first()
                && let Some(run) = self.runs.remove(&key)
            {
                expired.push((deadline, run));
            }
        }
        expired
    }

    /// Removes and returns every run, oldest first.
    pub(super) fn drain(&mut self) -> Vec<OpenRun<S>> {
        std::mem::take(&mut self.by_start).into_iter().filter_map(|(_, key)| self.runs.remove(&key)).collect()
    }

    pub(super) fn save(&self, state: &mut StateWriter)
    where
        S: Serialize,
    {
        let runs = self.by_start.iter().filter_map(|(_, key)| Some((key, self.runs.get(key)?)));
        state.put(&(self.evicted, runs.collect::<Vec<_>>()));
    }

    pub(super) fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>
    where
        S: DeserializeOwned,
    {
        let (evicted, runs): (u64, Vec<(String, OpenRun<S>)>) = state.take()?;
        self.evicted = evicted;
        self.by_start = runs.iter().map(|(key, run)| (run.started, key.clone())).collect();
        self.runs = runs.into_iter().collect();
        Ok(())
    }

    /// Returns the runs in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OpenRun<S>)> {
        self.runs.iter().map(|(key, run)| (key.as_str(), run))
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns the number of runs displaced because of the limit.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started: i64) -> OpenRun<()> {
        OpenRun::new("a", started.to_string(), Timestamp::from_secs(started), ())
    }

    #[test]
    fn runs_time_out_in_the_order_they_started() {
        let mut runs = OpenRuns::new(RunLimits { task_timeout: Duration::from_secs(60), ..Default::default() });
        for started in [30, 10, 20] {
            runs.insert(&started.to_string(), run(started));
        }
        assert!(runs.expire(Timestamp::from_secs(70)).is_empty());
        let expired: Vec<_> =
            runs.expire(Timestamp::from_secs(81)).into_iter().map(|(at, run)| (at, run.task)).collect();
        assert_eq!(expired, [(Timestamp::from_secs(70), "10".into()), (Timestamp::from_secs(80), "20".into())]);
        assert_eq!(runs.drain().len(), 1);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut runs = OpenRuns::new(RunLimits { max_open_runs: 2, ..Default::default() });
        assert!(runs.insert("1", run(1)).is_none() && runs.insert("2", run(2)).is_none());
        assert_eq!(runs.insert("3", run(3)).unwrap().task, "1");
        assert_eq!((runs.len(), runs.evicted()), (2, 1));
    }
}
