use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_sre::adapter::{Adapter, AdapterStats, IngestLimits, IngestReport, RunLimits};
use agent_sre::private::lock;
use agent_sre::slo::SloEngine;
use agent_sre::{AgentEvent, Format, StateError, StateReader, StateWriter, Timestamp};
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::batch::{Batch, Key};
use crate::engine_set::EngineSet;
use crate::shared::Shared;

/// Takes batches in, in order, and is at any moment what has come of them.
pub(crate) struct Processor {
    pub(crate) shared: Arc<Shared>,
    adapters: Vec<(Format, TimedAdapter)>,
    keys: Keys,
    /// When what indicators measured was last looked at for its course.
    sampled: Option<Timestamp>,
}

/// An adapter, and the time as its input tells it.
///
/// Runs time out by the input's time, which goes on with the service's where the input does not tell of a later one: so a
/// recording of last week can be read as if it were now.
struct TimedAdapter {
    adapter: Box<dyn Adapter>,
    now: Timestamp,
    /// When that was, by the service's clock.
    at: Timestamp,
}

/// What came of a batch.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct BatchReport {
    #[serde(flatten)]
    pub(crate) report: IngestReport,
    /// True for a batch that came before, and counts once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) repeated: bool,
}

/// What was taken in, by how it went.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) batches: AtomicU64,
    pub(crate) repeated_batches: AtomicU64,
    /// Spans, lines and log records, those that could not be read too.
    pub(crate) records: AtomicU64,
    pub(crate) events: AtomicU64,
    /// Records that could not be read.
    pub(crate) rejected: AtomicU64,
    /// Events from further ahead than clocks differ.
    pub(crate) ahead: AtomicU64,
}

/// Clocks of agents may be so much ahead.
const AHEAD: Duration = Duration::from_secs(300);
/// How often objectives are looked at for their course.
const SAMPLE: Duration = Duration::from_secs(30);
/// The state's form; another is not read.
const VERSION: u32 = 2;

impl Processor {
    pub(crate) fn new(shared: Arc<Shared>, limits: RunLimits) -> Self {
        Self {
            shared,
            adapters: Format::all().map(|format| (format, TimedAdapter::new(format.adapter(limits)))).collect(),
            keys: Keys::default(),
            sampled: None,
        }
    }

    /// Takes a batch in.
    pub(crate) fn take(&mut self, batch: Batch) -> BatchReport {
        let Batch { received, key, format, body, .. } = batch;
        let counts = &self.shared.counts;
        counts.batches.fetch_add(1, Ordering::Relaxed);
        if key.is_some_and(|key| !self.keys.is_new(key)) {
            counts.repeated_batches.fetch_add(1, Ordering::Relaxed);
            return BatchReport { repeated: true, ..BatchReport::default() };
        }
        self.shared.clock.set(received);
        let engines = self.shared.engines();
        let limits = IngestLimits::not_after(received.saturating_add(AHEAD));
        let mut sink = |event| accept(event, received, &engines, counts);
        let known = self.adapters.iter_mut().find(|(known, _)| *known == format);
        let (_, timed) = known.expect("every format has an adapter");
        let report = timed.adapter.ingest_body(body, &limits, &mut sink).unwrap_or_else(|error| {
            let mut report = IngestReport::default();
            report.reject(1, error.to_string());
            report
        });
        counts.records.fetch_add(report.accepted + report.rejected, Ordering::Relaxed);
        counts.rejected.fetch_add(report.rejected, Ordering::Relaxed);
        BatchReport { report, repeated: false }
    }

    /// Lets time pass: runs end that have been open for too long, and every engine concludes what time alone can bring.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.shared.clock.set(now);
        let (engines, counts) = (self.shared.engines(), &self.shared.counts);
        let mut sink = |event| accept(event, now, &engines, counts);
        self.adapters.iter_mut().for_each(|(_, timed)| timed.expire(now, &mut sink));
        engines.runtime.evaluate(now);
        *lock(&self.shared.adapters) = self.stats();
        if self.sampled.is_none_or(|sampled| now.since(sampled) >= SAMPLE) {
            self.sampled = Some(now);
            lock(&self.shared.history).sample(&engines.get::<SloEngine>().snapshots(now), now);
        }
    }

    fn stats(&self) -> Vec<(Format, AdapterStats)> {
        self.adapters.iter().map(|(format, timed)| (*format, timed.adapter.stats())).collect()
    }

    /// Everything that must outlive a restart.
    pub(crate) fn save(&self) -> Result<Vec<u8>, StateError> {
        let mut state = StateWriter::default();
        state.put(&VERSION);
        state.section("keys", |state| state.put(&self.keys.order));
        state.section("history", |state| lock(&self.shared.history).save(state));
        for (format, timed) in &self.adapters {
            state.section(format.as_str(), |state| timed.save(state));
        }
        self.shared.engines().runtime.save(&mut state);
        state.finish()
    }

    /// Takes up what was saved. Parts that this version does not know are passed over.
    pub(crate) fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let mut state = StateReader::new(state);
        let version: u32 = state.take()?;
        if version != VERSION {
            return Err(StateError::new(format!("found state of version {version}")));
        }
        let engines = self.shared.engines();
        for section in state.sections() {
            let (name, mut state) = section?;
            if name == "keys" {
                self.keys = Keys::from(state.take::<VecDeque<Key>>()?);
            } else if name == "history" {
                // A course is no count: what cannot be read any more begins anew.
                if let Err(error) = lock(&self.shared.history).restore(&mut state) {
                    tracing::warn!(%error, "the course of indicators begins anew");
                }
            } else if let Some((_, timed)) = self.adapters.iter_mut().find(|(format, _)| format.as_str() == name) {
                timed.restore(&mut state)?;
            } else if !engines.runtime.restore(name, &mut state)? {
                tracing::warn!(part = name, "the saved state has a part that this version does not know");
            }
        }
        Ok(())
    }
}

fn accept(event: AgentEvent, now: Timestamp, engines: &EngineSet, counts: &Counts) {
    if event.time > now.saturating_add(AHEAD) {
        counts.ahead.fetch_add(1, Ordering::Relaxed);
        return;
    }
    counts.events.fetch_add(1, Ordering::Relaxed);
    engines.runtime.record(event);
}

impl TimedAdapter {
    fn new(adapter: Box<dyn Adapter>) -> Self {
        Self { adapter, now: Timestamp::default(), at: Timestamp::default() }
    }

    fn expire(&mut self, now: Timestamp, sink: &mut dyn FnMut(AgentEvent)) {
        let latest = self.adapter.stats().latest;
        if latest == Timestamp::default() {
            return;
        }
        let passed = if self.at == Timestamp::default() { Duration::ZERO } else { now.since(self.at) };
        self.now = self.now.saturating_add(passed).max(latest);
        self.at = now;
        self.adapter.expire(self.now, sink);
    }

    fn save(&self, state: &mut StateWriter) {
        state.put(&(self.now, self.at));
        self.adapter.save(state);
    }

    fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        (self.now, self.at) = state.take()?;
        self.adapter.restore(state)
    }
}

/// The keys of the last batches.
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
