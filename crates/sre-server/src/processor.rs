use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_sre::adapter::{Adapter, AdapterStats, IngestLimits, IngestReport, RunLimits};
use agent_sre::private::lock;
use agent_sre::slo::SloEngine;
use agent_sre::{AgentEvent, Event, Format, StateError, StateReader, StateWriter, Timestamp};
use rustc_hash::FxHashSet;
use serde::Serialize;
use utoipa::ToSchema;

use crate::batch::{Batch, Key};
use crate::engine_set::EngineSet;
use crate::shared::Shared;

/// Processes batches in order: adapters turn them into events, and the engines observe these.
pub(crate) struct Processor {
    pub(crate) shared: Arc<Shared>,
    adapters: Vec<(Format, TimedAdapter)>,
    keys: Keys,
    /// When the indicators were last sampled for their history.
    sampled_at: Option<Timestamp>,
}

/// An adapter with the time of its input.
///
/// Runs time out by the time of the input, which advances with the service's clock between inputs. So a recording of last week
/// is processed like live telemetry.
struct TimedAdapter {
    adapter: Box<dyn Adapter>,
    now: Timestamp,
    /// The time of the service's clock at `now`.
    at: Timestamp,
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

/// How much the clock of a sender may be ahead.
const MAX_AHEAD: Duration = Duration::from_secs(300);
/// Time between two samples of the indicators.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(30);
/// The version of the state's format; other versions are refused.
const VERSION: u32 = 2;

impl Processor {
    pub(crate) fn new(shared: Arc<Shared>, limits: RunLimits) -> Self {
        Self {
            shared,
            adapters: Format::all().map(|format| (format, TimedAdapter::new(format.adapter(limits)))).collect(),
            keys: Keys::default(),
            sampled_at: None,
        }
    }

    /// Processes a batch.
    pub(crate) fn process(&mut self, batch: Batch) -> BatchReport {
        let Batch { received, key, format, body, .. } = batch;
        let counters = &self.shared.counters;
        counters.batches.fetch_add(1, Ordering::Relaxed);
        if key.is_some_and(|key| !self.keys.is_new(key)) {
            counters.repeated_batches.fetch_add(1, Ordering::Relaxed);
            return BatchReport { repeated: true, ..BatchReport::default() };
        }
        self.shared.clock.set(received);
        let engines = self.shared.engines();
        let limits = IngestLimits::not_after(received.saturating_add(MAX_AHEAD));
        let mut sink = |event| accept(event, format, received, &engines, &self.shared);
        let found = self.adapters.iter_mut().find(|(known, _)| *known == format);
        let (_, timed) = found.expect("every format has an adapter");
        let report = timed.adapter.ingest_body(body, &limits, &mut sink).unwrap_or_else(|error| {
            let mut report = IngestReport::default();
            report.reject(1, error.to_string());
            report
        });
        counters.records.fetch_add(report.accepted + report.rejected, Ordering::Relaxed);
        counters.rejected.fetch_add(report.rejected, Ordering::Relaxed);
        BatchReport { report, repeated: false }
    }

    /// Advances time: open runs may time out, and engines evaluate what depends on time alone.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.shared.clock.set(now);
        let engines = self.shared.engines();
        for (format, timed) in &mut self.adapters {
            timed.expire(now, &mut |event| accept(event, *format, now, &engines, &self.shared));
        }
        engines.runtime.evaluate(now);
        *lock(&self.shared.adapters) = self.stats();
        if self.sampled_at.is_none_or(|at| now.since(at) >= SAMPLE_INTERVAL) {
            self.sampled_at = Some(now);
            lock(&self.shared.history).sample(&engines.get::<SloEngine>().snapshots(now), now);
        }
    }

    fn stats(&self) -> Vec<(Format, AdapterStats)> {
        self.adapters.iter().map(|(format, timed)| (*format, timed.adapter.stats())).collect()
    }

    /// Returns all state that must survive a restart.
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

    /// Restores saved state. Sections that this version does not know are skipped.
    pub(crate) fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let mut state = StateReader::new(state);
        let version: u32 = state.take()?;
        if version != VERSION {
            return Err(StateError::new(format!("found state of version {version}, expected version {VERSION}")));
        }
        let engines = self.shared.engines();
        for section in state.sections() {
            let (name, mut state) = section?;
            if name == "keys" {
                self.keys = Keys::from(state.take::<VecDeque<Key>>()?);
            } else if name == "history" {
                // Only charts depend on the history, so a damaged one is discarded.
                if let Err(error) = lock(&self.shared.history).restore(&mut state) {
                    tracing::warn!(%error, "Cannot restore the history of indicators; starting an empty one");
                }
            } else if let Some((_, timed)) = self.adapters.iter_mut().find(|(format, _)| format.as_str() == name) {
                timed.restore(&mut state)?;
            } else if !engines.runtime.restore(name, &mut state)? {
                tracing::warn!(section = name, "Skipping a section of the saved state that this version does not know");
            }
        }
        Ok(())
    }
}

fn accept(event: AgentEvent, format: Format, now: Timestamp, engines: &EngineSet, shared: &Shared) {
    let counters = &shared.counters;
    if event.time > now.saturating_add(MAX_AHEAD) {
        counters.ahead.fetch_add(1, Ordering::Relaxed);
        return;
    }
    counters.events.fetch_add(1, Ordering::Relaxed);
    if matches!(event.event, Event::TaskFinished(_))
        && let Some(overlap) = lock(&shared.overlaps).record(&event.agent, format, event.time)
    {
        let (agent, formats) = (&event.agent, overlap.formats.join(", "));
        tracing::warn!(%agent, formats, "The agent's tasks arrive in several formats, and each counts twice; choose one source");
    }
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
