use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::OpenRun;
use super::agent_usage::{AgentUsage, RunPlace};
use crate::event::{MAX_NAME_BYTES, StringLimiter};
use crate::{StateError, StateReader, StateWriter, Timestamp};

/// Limits on the number, size and duration of open runs.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// A run that has not ended this long after its start is closed as incomplete. In a live service, this long after its start
    /// arrived, so that a backlog is not cut short.
    pub task_timeout: Duration,
    /// The maximum number of open runs. To make room, the oldest of the agent that has most is closed as incomplete.
    pub max_open_runs: usize,
    /// The maximum size of all open runs in bytes, approximately. To make room, the oldest of the agent with the largest is closed as
    /// incomplete.
    pub max_open_bytes: usize,
}

impl Default for RunLimits {
    /// Returns limits of ten minutes, 10,000 runs and 128 MiB.
    fn default() -> Self {
        Self { task_timeout: Duration::from_secs(600), max_open_runs: 10_000, max_open_bytes: 128 << 20 }
    }
}

/// Open runs by key and by the time from which their time-out counts.
#[derive(Debug)]
pub(super) struct OpenRuns<S> {
    limits: RunLimits,
    runs: FxHashMap<Arc<str>, Opened<S>>,
    by_time: BTreeSet<RunPlace>,
    usage: AgentUsage,
    /// The size of all runs.
    bytes: usize,
    evicted: u64,
}

/// A run, and the time from which its time-out counts: its start or, in a live service, its later arrival.
#[derive(Debug)]
struct Opened<S> {
    at: Timestamp,
    run: OpenRun<S>,
}

impl<S> OpenRuns<S> {
    pub(super) fn new(limits: RunLimits) -> Self {
        let (runs, by_time, usage) = (FxHashMap::default(), BTreeSet::new(), AgentUsage::default());
        Self { limits, runs, by_time, usage, bytes: 0, evicted: 0 }
    }

    /// Inserts a run, which has `arrived` by the clock of a live service. Returns the run that it displaces: the one with the
    /// same key or, at a limit, the oldest of the agent that holds most.
    pub(super) fn insert(&mut self, key: &str, run: OpenRun<S>, arrived: Option<Timestamp>) -> Option<OpenRun<S>> {
        let displaced = if self.runs.contains_key(key) {
            self.remove(key)
        } else if self.runs.len() >= self.limits.max_open_runs.max(1) {
            self.evict(self.usage.oldest_of_most_runs())
        } else if self.bytes > self.limits.max_open_bytes {
            self.evict(self.usage.oldest_of_most_bytes())
        } else {
            None
        };
        self.add(key, run.started.max(arrived.unwrap_or(run.started)), run);
        displaced
    }

    /// Removes the run of the agent that holds most or, if none holds much, the oldest of all.
    fn evict(&mut self, of_most: Option<RunPlace>) -> Option<OpenRun<S>> {
        let (_, key) = of_most.or_else(|| self.by_time.first().cloned())?;
        self.evicted += 1;
        self.remove(&key)
    }

    /// Changes the size of a run. Returns the runs, the oldest of the agents with the largest, that were removed because all together
    /// are too large.
    pub(super) fn grow(&mut self, key: &str, bytes: isize) -> Vec<OpenRun<S>> {
        if let Some(Opened { run, .. }) = self.runs.get_mut(key) {
            let before = run.state_bytes;
            run.state_bytes = before.saturating_add_signed(bytes);
            self.bytes = self.bytes.saturating_sub(before) + run.state_bytes;
            self.usage.resize(&run.agent, before, run.state_bytes, &self.limits);
        }
        let is_above = |runs: &Self| runs.bytes > runs.limits.max_open_bytes;
        let largest = |runs: &mut Self| runs.evict(runs.usage.oldest_of_most_bytes());
        std::iter::from_fn(|| is_above(self).then(|| largest(self)).flatten()).collect()
    }

    fn add(&mut self, key: &str, at: Timestamp, run: OpenRun<S>) {
        let bytes = run.bytes(key);
        self.bytes += bytes;
        let key: Arc<str> = key.into();
        self.by_time.insert((at, key.clone()));
        self.usage.add(&run.agent, (at, key.clone()), bytes, &self.limits);
        self.runs.insert(key, Opened { at, run });
    }

    pub(super) fn get(&self, key: &str) -> Option<&OpenRun<S>> {
        self.runs.get(key).map(|opened| &opened.run)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut OpenRun<S>> {
        self.runs.get_mut(key).map(|opened| &mut opened.run)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<OpenRun<S>> {
        let (key, Opened { at, run }) = self.runs.remove_entry(key)?;
        let place = (at, key);
        self.by_time.remove(&place);
        self.release(&place, &run);
        Some(run)
    }

    /// No longer counts a run that was removed.
    fn release(&mut self, place: &RunPlace, run: &OpenRun<S>) {
        let bytes = run.bytes(&place.1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.usage.remove(&run.agent, place, bytes, &self.limits);
    }

    /// Removes the runs whose time-out has passed at `now`, each with its start plus the time-out.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<(Timestamp, OpenRun<S>)> {
        let timeout = self.limits.task_timeout;
        let mut expired = Vec::new();
        while self.by_time.first().is_some_and(|(at, _)| at.saturating_add(timeout) < now) {
            if let Some(place) = self.by_time.pop_first()
                && let Some(Opened { run, .. }) = self.runs.remove(&place.1)
            {
                self.release(&place, &run);
                expired.push((run.started.saturating_add(timeout), run));
            }
        }
        expired
    }

    /// Removes and returns every run, oldest first.
    pub(super) fn drain(&mut self) -> Vec<OpenRun<S>> {
        self.bytes = 0;
        self.usage.clear();
        let keys = std::mem::take(&mut self.by_time).into_iter();
        keys.filter_map(|(_, key)| self.runs.remove(&key)).map(|opened| opened.run).collect()
    }

    pub(super) fn save(&self, state: &mut StateWriter)
    where
        S: Serialize,
    {
        state.put(&(self.evicted, self.iter().collect::<Vec<_>>()));
    }

    /// Returns the times from which the time-outs count, in the order in which the runs are saved.
    pub(super) fn times(&self) -> Vec<Timestamp> {
        self.by_time.iter().map(|(at, _)| *at).collect()
    }

    /// Restores saved runs, with time-outs that count from their start. Returns their keys as they were saved.
    pub(super) fn restore(&mut self, state: &mut StateReader<'_>) -> Result<Vec<String>, StateError>
    where
        S: DeserializeOwned,
    {
        let (evicted, runs): (u64, Vec<(String, OpenRun<S>)>) = state.take()?;
        self.evicted = evicted;
        let mut keys = Vec::with_capacity(runs.len());
        for (mut key, mut run) in runs {
            run.limit_names();
            // The key may be made of two names.
            if key.len() > 2 * MAX_NAME_BYTES + 1 {
                StringLimiter::default().name(&mut key);
            }
            self.add(&key, run.started, run);
            keys.push(key);
        }
        Ok(keys)
    }

    /// Restores the times from which the time-outs of the runs with these keys count.
    pub(super) fn restore_times(&mut self, keys: &[String], times: Vec<Timestamp>) -> Result<(), StateError> {
        if keys.len() != times.len() {
            let found = times.len();
            return Err(StateError::new(format!("found {found} times of open runs, expected {}", keys.len())));
        }
        for (key, at) in keys.iter().zip(times) {
            if let Some(run) = self.remove(key) {
                self.add(key, at, run);
            }
        }
        Ok(())
    }

    /// Returns the sizes of the states, in the order in which the runs are saved.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.iter().map(|(_, run)| run.state_bytes).collect()
    }

    /// Restores the sizes of the states of the runs with these keys.
    pub(super) fn restore_sizes(&mut self, keys: &[String], sizes: &[usize]) {
        for (key, size) in keys.iter().zip(sizes) {
            if let Some(Opened { run, .. }) = self.runs.get_mut(key.as_str()) {
                run.state_bytes = *size;
                self.bytes += size;
                self.usage.resize(&run.agent, 0, *size, &self.limits);
            }
        }
    }

    /// Returns the runs, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OpenRun<S>)> {
        self.by_time.iter().filter_map(|(_, key)| Some((&**key, self.get(key)?)))
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns the number of runs displaced because of the limits.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(started: i64) -> OpenRun<()> {
        OpenRun::new("a", started.to_string(), Timestamp::from_secs(started), ())
    }

    #[test]
    fn runs_time_out_in_the_order_they_started() {
        let mut runs = OpenRuns::new(RunLimits { task_timeout: Duration::from_secs(60), ..Default::default() });
        for started in [30, 10, 20] {
            runs.insert(&started.to_string(), run(started), None);
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
        assert!(runs.insert("1", run(1), None).is_none() && runs.insert("2", run(2), None).is_none());
        assert_eq!(runs.insert("3", run(3), None).unwrap().task, "1");
        assert_eq!((runs.len(), runs.evicted()), (2, 1));
    }

    #[test]
    fn the_oldest_make_room_for_one_that_grows() {
        let size = run(1).bytes("1");
        let mut runs = OpenRuns::new(RunLimits { max_open_bytes: 3 * size + 1_000, ..Default::default() });
        (1..=3).for_each(|started| drop(runs.insert(&started.to_string(), run(started), None)));
        assert!(runs.grow("3", 1_000).is_empty());
        let grown: Vec<_> = runs.grow("3", 50).into_iter().map(|run| run.task).collect();
        assert_eq!((grown, runs.bytes), (vec!["1".to_owned()], 2 * size + 1_050));
        assert!(runs.grow("3", -50).is_empty());
        // A run that is too large alone goes too.
        let grown: Vec<_> = runs.grow("3", 1 << 20).into_iter().map(|run| run.task).collect();
        assert_eq!((grown, runs.bytes, runs.evicted()), (vec!["2".to_owned(), "3".to_owned()], 0, 3));
    }

    #[test]
    fn an_agent_that_floods_makes_room_itself() {
        let of =
            |agent: &str, started: i64| OpenRun::new(agent, started.to_string(), Timestamp::from_secs(started), ());
        let mut runs = OpenRuns::new(RunLimits { max_open_runs: 10, ..Default::default() });
        let mut insert = |agent: &str, started: i64| runs.insert(&started.to_string(), of(agent, started), None);
        assert!(insert("calm", 1).is_none() && insert("other", 2).is_none());
        let evicted: Vec<_> = (10..1_000).filter_map(|started| insert("flood", started)).map(|run| run.task).collect();
        assert_eq!(evicted, (10..992).map(|started| started.to_string()).collect::<Vec<_>>());
        // In bytes, too, where the number of runs does not count.
        let size = of("flood", 1).bytes("1");
        let mut runs = OpenRuns::new(RunLimits { max_open_bytes: 100 * size + (1 << 20), ..Default::default() });
        (1..=50).for_each(|started| drop(runs.insert(&started.to_string(), of("calm", started), None)));
        (51..=55).for_each(|started| drop(runs.insert(&started.to_string(), of("flood", started), None)));
        let grown: Vec<_> = (51..=55).flat_map(|started| runs.grow(&started.to_string(), 300 << 10)).collect();
        assert_eq!(grown.iter().map(|run| &*run.task).collect::<Vec<_>>(), ["51", "52"]);
        assert_eq!(runs.len(), 53);
    }

    proptest! {
        /// Whatever was inserted, grown, removed and expired, what the agents hold is what is open.
        #[test]
        fn what_agents_hold_is_what_is_open(
            steps in prop::collection::vec((0..5_u8, 0..12_i64, 0..3_usize, -200_000..200_000_isize), 0..200),
        ) {
            let limits = RunLimits { max_open_runs: 6, max_open_bytes: 400_000, ..Default::default() };
            let mut runs = OpenRuns::new(RunLimits { task_timeout: Duration::from_secs(3), ..limits });
            for (step, number, agent, bytes) in steps {
                let key = number.to_string();
                match step {
                    0 | 1 => {
                        let agent = ["a", "b", "c"][agent];
                        runs.insert(&key, OpenRun::new(agent, key.clone(), Timestamp::from_secs(number), ()), None);
                    }
                    2 => drop(runs.grow(&key, bytes)),
                    3 => drop(runs.remove(&key)),
                    _ => drop(runs.expire(Timestamp::from_secs(number))),
                }
                let mut usage = AgentUsage::default();
                for ((at, key), run) in runs.by_time.iter().map(|place| (place, runs.get(&place.1).unwrap())) {
                    usage.add(&run.agent, (*at, key.clone()), run.bytes(key), &runs.limits);
                }
                prop_assert_eq!(&runs.usage, &usage);
                prop_assert_eq!(runs.bytes, runs.iter().map(|(key, run)| run.bytes(key)).sum::<usize>());
            }
        }
    }

    #[test]
    fn sizes_survive_a_restart() {
        let mut runs = OpenRuns::new(RunLimits::default());
        [2, 1].iter().for_each(|started| drop(runs.insert(&started.to_string(), run(*started), None)));
        runs.grow("1", 100);
        runs.grow("2", 200);
        let mut state = StateWriter::default();
        runs.save(&mut state);
        let mut restored = OpenRuns::<()>::new(RunLimits::default());
        let keys = restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        restored.restore_sizes(&keys, &runs.sizes());
        assert_eq!(restored.bytes, runs.bytes);
        restored.remove("2");
        restored.expire(Timestamp::from_secs(i64::MAX / 2_000_000_000));
        assert_eq!(restored.bytes, 0);
    }

    #[test]
    fn a_run_of_a_live_service_times_out_after_its_arrival_and_ends_at_its_own_time() {
        let mut runs = OpenRuns::new(RunLimits { task_timeout: Duration::from_secs(60), ..Default::default() });
        runs.insert("late", run(10), Some(Timestamp::from_secs(1_000)));
        runs.insert("ahead", run(1_200), Some(Timestamp::from_secs(1_001)));
        assert!(runs.expire(Timestamp::from_secs(1_060)).is_empty());
        let mut expire = |now| runs.expire(Timestamp::from_secs(now)).pop().map(|(at, run)| (at.as_secs(), run.task));
        assert_eq!(expire(1_061), Some((70, "10".into())));
        assert_eq!((expire(1_260), expire(1_261)), (None, Some((1_260, "1200".into()))));
    }
}
