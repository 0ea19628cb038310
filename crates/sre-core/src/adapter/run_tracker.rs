use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::open_runs::{OpenRuns, RunLimits};
use super::{AdapterStats, IngestLimits, OpenRun};
use crate::{StateError, StateReader, StateWriter, Timestamp};

/// The state that all adapters share: open runs, recently ended runs, the time of the input, and counts of unused
/// records.
///
/// `S` is the adapter's own state of a run. Methods that close a run return it with its end time, so that the adapter
/// can emit events for the parts of it that were still open.
///
/// ```
/// use sre_core::adapter::{OpenRun, RunLimits, RunTracker};
/// use sre_core::Timestamp;
/// let mut runs = RunTracker::new(RunLimits::default());
/// let started = Timestamp::from_secs(1_790_000_000);
/// runs.open("run-1", OpenRun::new("support", "run-1", started, ()));
/// let (deadline, run) = runs.expire(Timestamp::from_secs(1_790_001_000)).remove(0);
/// assert!(run.incomplete(deadline).is_incomplete());
/// ```
#[derive(Debug)]
pub struct RunTracker<S> {
    open: OpenRuns<S>,
    ended: OpenRuns<()>,
    /// Counts of unused records.
    pub counts: RecordCounts,
    latest: Timestamp,
    /// The time of a live service's clock; `None` in a recording.
    arrived: Option<Timestamp>,
}

/// Counts of records that an adapter could not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Native events of an unknown kind.
    pub unknown: u64,
    /// Native events that belong to no open run, or to a run that has reached its size limit, and calls without an end in a run that
    /// succeeded.
    pub unmatched: u64,
    /// Invalid parts of records: a span without an id, or one that ends before it starts.
    pub rejected: u64,
    /// Parts of records that were received before, such as a span that was sent again.
    pub repeated: u64,
    /// Strings that were too long, since the start of the process.
    #[serde(skip)]
    pub shortened: u64,
}

impl<S> RunTracker<S> {
    /// Creates a tracker without open runs.
    pub fn new(limits: RunLimits) -> Self {
        Self {
            open: OpenRuns::new(limits),
            ended: OpenRuns::new(limits),
            counts: RecordCounts::default(),
            latest: Timestamp::default(),
            arrived: None,
        }
    }

    /// Advances the time of the input. Returns true if runs may expire by it: in a recording, if `time` is later than all times
    /// before; in a live service never, where runs expire by its clock.
    pub fn advance(&mut self, time: Timestamp, limits: &IngestLimits) -> bool {
        let is_later = time > self.latest;
        self.latest = self.latest.max(time);
        self.arrived = limits.arrived;
        is_later && limits.arrived.is_none()
    }

    /// Returns the latest time of the input.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Opens a run. Returns the run that it displaces, with the time as of which that is incomplete: the one with the same key,
    /// at the start of the new run, or at a limit the oldest of the agent that holds most.
    pub fn open(&mut self, key: &str, run: OpenRun<S>) -> Option<(Timestamp, OpenRun<S>)> {
        let started = run.started;
        let is_same = self.open.get(key).is_some();
        let displaced = self.open.insert(key, run, self.arrived)?;
        let at = match self.arrived {
            // The sender of the new run may have another clock than that of the run that makes room.
            Some(arrived) if !is_same => arrived.max(displaced.started),
            _ => started,
        };
        Some((at, displaced))
    }

    /// Records that the state of a run has grown by `bytes`, or shrunk if negative. Returns the runs, each with its end time, which are
    /// closed if all together are above [`RunLimits::max_open_bytes`]. The run itself may be among them.
    ///
    /// The run's names and ids need not be reported.
    pub fn grow(&mut self, key: &str, bytes: isize) -> Vec<(Timestamp, OpenRun<S>)> {
        let latest = self.arrived.unwrap_or(self.latest);
        self.open.grow(key, bytes).into_iter().map(|run| (latest.max(run.started), run)).collect()
    }

    /// Returns an open run.
    pub fn get(&self, key: &str) -> Option<&OpenRun<S>> {
        self.open.get(key)
    }

    /// Returns an open run, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut OpenRun<S>> {
        self.open.get_mut(key)
    }

    /// Closes a run and returns it. Counts an unmatched record if the run is not open.
    pub fn end(&mut self, key: &str) -> Option<OpenRun<S>> {
        let run = self.close(key);
        self.counts.unmatched += u64::from(run.is_none());
        run
    }

    /// Closes a run and returns it.
    pub fn close(&mut self, key: &str) -> Option<OpenRun<S>> {
        self.open.remove(key)
    }

    /// Closes the runs whose time-out has passed at `now`. Returns each with the time as of which it is incomplete: its start
    /// plus the time-out.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(Timestamp, OpenRun<S>)> {
        self.arrived = self.arrived.map(|_| now);
        self.open.expire(now)
    }

    /// Closes every run, oldest first, at the latest time of the input. Returns each with its end time.
    pub fn drain(&mut self) -> Vec<(Timestamp, OpenRun<S>)> {
        self.open.drain().into_iter().map(|run| (self.latest.max(run.started), run)).collect()
    }

    /// Remembers a run that has ended, so that late records of it are recognised. As many runs are remembered as may be
    /// open; the oldest are evicted first.
    pub fn remember(&mut self, key: &str, run: OpenRun<()>) {
        self.ended.insert(key, run, self.arrived);
    }

    /// Returns a remembered run that has ended.
    pub fn remembered(&self, key: &str) -> Option<&OpenRun<()>> {
        self.ended.get(key)
    }

    /// Forgets a run that has ended. Returns true if it was remembered.
    pub fn forget(&mut self, key: &str) -> bool {
        self.ended.remove(key).is_some()
    }

    /// Returns the open runs with their keys, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OpenRun<S>)> {
        self.open.iter()
    }

    /// Saves open runs, remembered runs and counts.
    pub fn save(&self, state: &mut StateWriter)
    where
        S: Serialize,
    {
        state.section("runs", |state| {
            state.section("open", |state| self.open.save(state));
            state.section("sizes", |state| state.put(&self.open.sizes()));
            state.section("ended", |state| self.ended.save(state));
            state.section("arrived", |state| state.put(&(self.arrived, self.open.times(), self.ended.times())));
            state.section("counts", |state| state.put(&(self.latest, self.counts)));
        });
    }

    /// Restores saved state.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>
    where
        S: DeserializeOwned,
    {
        let (_, runs) = state.section()?;
        let (mut open, mut ended) = (Vec::new(), Vec::new());
        for section in runs.sections() {
            match section? {
                ("open", mut state) => open = self.open.restore(&mut state)?,
                ("sizes", mut state) => self.open.restore_sizes(&open, &state.take::<Vec<usize>>()?),
                ("ended", mut state) => ended = self.ended.restore(&mut state)?,
                // Comes after both; version 0.1.0 has not saved it.
                ("arrived", mut state) => {
                    let (arrived, of_open, of_ended) = state.take()?;
                    self.arrived = arrived;
                    self.open.restore_times(&open, of_open)?;
                    self.ended.restore_times(&ended, of_ended)?;
                }
                ("counts", mut state) => (self.latest, self.counts) = state.take()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the number of open runs and the counts of unused records.
    pub fn stats(&self) -> AdapterStats {
        let RecordCounts { unknown, unmatched, rejected, repeated, shortened } = self.counts;
        AdapterStats {
            latest: self.latest,
            open_runs: self.open.len(),
            evicted_runs: self.open.evicted(),
            unknown,
            unmatched,
            rejected,
            repeated,
            shortened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_runs_to_end_are_remembered() {
        let mut runs = RunTracker::<()>::new(RunLimits { max_open_runs: 2, ..RunLimits::default() });
        for second in 1..=3 {
            let key = second.to_string();
            runs.remember(&key, OpenRun::new("a", key.clone(), Timestamp::from_secs(second), ()));
        }
        assert!(runs.remembered("1").is_none() && runs.remembered("2").is_some());
        assert!(runs.forget("3") && !runs.forget("3"));
    }

    #[test]
    fn the_end_of_no_run_is_unmatched() {
        let mut runs = RunTracker::<()>::new(RunLimits::default());
        assert!(runs.end("1").is_none());
        let recording = IngestLimits::default();
        assert!(runs.advance(Timestamp::from_secs(2), &recording));
        assert!(!runs.advance(Timestamp::from_secs(1), &recording));
        assert_eq!((runs.stats().unmatched, runs.latest()), (1, Timestamp::from_secs(2)));
    }
}
