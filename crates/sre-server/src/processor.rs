use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_sre::adapter::{IngestLimits, IngestReport};
use agent_sre::private::lock;
use agent_sre::slo::SloEngine;
use agent_sre::{Clock, Format, StateError, StateReader, StateWriter, Timestamp};
use rustc_hash::FxHashSet;
use serde::Serialize;
use utoipa::ToSchema;

use crate::batch::{Batch, Key};
use crate::event_checks::MAX_AHEAD;
use crate::service_time::ServiceTime;
use crate::shared::Shared;

/// Passes batches to the runtime, in order and each once, and time.
pub(crate) struct Processor {
    pub(crate) shared: Arc<Shared>,
    keys: Keys,
    pub(crate) time: ServiceTime,
}

/// The outcome of a batch.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct BatchReport {
    #[serde(flatten)]
    pub(crate) report: IngestReport,
    /// Whether the batch was received before; it counts once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) repeated: bool,
}

/// Time between two samples of the indicators, in seconds.
const SAMPLE_INTERVAL: i64 = 30;
/// The version of the list of sections, and the only one so far. Once it is raised, `restore` must still read the one before.
const VERSION: u32 = 2;

impl Processor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, keys: Keys::default(), time: ServiceTime::default() }
    }

    /// Returns the time of the last batch or tick.
    pub(crate) fn now(&self) -> Timestamp {
        self.time.now
    }

    /// Processes a batch, at the time at which it was received.
    pub(crate) fn process(&mut self, batch: Batch) -> BatchReport {
        let Batch { received, key, format, body, .. } = batch;
        self.advance_to(received);
        let counters = &self.shared.counters;
        counters.batches.fetch_add(1, Ordering::Relaxed);
        if key.is_some_and(|key| !self.keys.is_new(key)) {
            counters.repeated_batches.fetch_add(1, Ordering::Relaxed);
            return BatchReport { repeated: true, ..BatchReport::default() };
        }
        let limits = IngestLimits::live(self.time.now, MAX_AHEAD);
        let ingested = self.shared.engines().runtime.ingest_body(format.as_str(), body, &limits);
        let report = ingested.unwrap_or_else(|error| {
            let mut report = IngestReport::default();
            report.reject(1, error.to_string());
            report
        });
        counters.records.fetch_add(report.accepted + report.rejected, Ordering::Relaxed);
        counters.rejected.fetch_add(report.rejected, Ordering::Relaxed);
        BatchReport { report, repeated: false }
    }

    /// Advances time, and second by second what depends on time alone: open runs may time out, and engines evaluate.
    pub(crate) fn advance_to(&mut self, time: Timestamp) {
        self.advance(time, |_| {});
    }

    fn advance(&mut self, time: Timestamp, after_tick: impl Fn(&Shared)) {
        let is_first = self.time == ServiceTime::default();
        for tick in self.time.advance_to(time) {
            self.tick(tick);
            after_tick(&self.shared);
        }
        self.shared.clocks.engines.set(self.time.now);
        if is_first {
            // The batch that is received at this time may end the runs that a service of version 0.1.0 has left open.
            self.shared.engines().runtime.evaluate_engines(self.time.now);
        }
    }

    fn tick(&mut self, now: Timestamp) {
        self.shared.clocks.engines.set(now);
        let engines = self.shared.engines();
        engines.runtime.evaluate(now);
        if now.as_secs() % SAMPLE_INTERVAL == 0 {
            lock(&self.shared.history).sample(&engines.get::<SloEngine>().snapshots(now), now);
        }
    }

    /// Returns all state that must survive a restart.
    pub(crate) fn save(&self) -> Result<Vec<u8>, StateError> {
        let mut state = StateWriter::default();
        state.put(&VERSION);
        // First, since the engines restore their state by this time.
        state.section("time", |state| state.put(&(self.time.now, self.time.ticked)));
        state.section("keys", |state| state.put(&self.keys.order));
        state.section("history", |state| lock(&self.shared.history).save(state));
        self.shared.engines().runtime.save(&mut state);
        state.finish()
    }

    /// Restores saved state. Unknown sections are skipped.
    pub(crate) fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let mut state = StateReader::new(state);
        let version: u32 = state.take()?;
        if version != VERSION {
            return Err(StateError::new(format!("found state of version {version}, expected version {VERSION}")));
        }
        let engines = self.shared.engines();
        let runtime = &engines.runtime;
        // Version 0.1.0 has not saved its time.
        self.shared.clocks.engines.set(self.shared.clocks.wall.now());
        for section in state.sections() {
            let (name, mut state) = section?;
            if name == "time" {
                (self.time.now, self.time.ticked) = state.take()?;
                self.shared.clocks.engines.set(self.time.now);
            } else if name == "keys" {
                self.keys = Keys::from(state.take::<VecDeque<Key>>()?);
            } else if name == "history" {
                // Only charts depend on the history, so a damaged one is discarded.
                if let Err(error) = lock(&self.shared.history).restore(&mut state) {
                    tracing::warn!(%error, "Cannot restore the history of indicators; starting an empty one");
                }
            } else if name.parse::<Format>().is_ok() {
                // Version 0.1.0: the time of the input, and the service's time then, come before the state of the adapter.
                state.take::<(Timestamp, Timestamp)>()?;
                runtime.restore_adapter(name, &mut state)?;
            } else if !runtime.restore(name, &mut state)? {
                tracing::warn!(section = name, "Skipping what is unknown of this section of the saved state");
            }
        }
        Ok(())
    }
}

/// The keys of the latest batches.
#[derive(Debug, Default)]
struct Keys {
    order: VecDeque<Key>,
    known: FxHashSet<Key>,
}

const MAX_KEYS: usize = 16_384;

impl Keys {
    fn is_new(&mut self, key: Key) -> bool {
        if !self.known.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl From<VecDeque<Key>> for Keys {
    fn from(order: VecDeque<Key>) -> Self {
        Self { known: order.iter().copied().collect(), order }
    }
}

#[cfg(test)]
mod replay_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::key_of;

    #[test]
    fn the_oldest_key_is_evicted() {
        let key = |number: usize| key_of(&[&number.to_le_bytes()]);
        let mut keys = Keys::default();
        assert!((0..=MAX_KEYS).all(|number| keys.is_new(key(number))));
        assert!(!keys.is_new(key(1)) && keys.is_new(key(0)));
    }
}
