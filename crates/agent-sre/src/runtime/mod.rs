mod adapters;
mod builder;
mod counters;
mod dispatch;
mod queue;

pub use adapters::IngestError;
pub use builder::{RuntimeBuilder, RuntimeError};
pub use dispatch::HandlerStats;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sre_core::adapter::{AdapterError, AdapterStats, Body, Decoder, IngestLimits, IngestReport};
use sre_core::event::StringLimiter;
use sre_core::{
    Adapter, AgentEvent, Collect, Event, EventSink, EventStage, Metric, Observe, Persist, Signal, SignalSink, Snapshot,
    StateError, StateReader, StateWriter, Timestamp,
};

use adapters::{Adapters, NamedAdapter};
use builder::AdapterStage;
use counters::Counters;
use dispatch::Dispatcher;

/// Connects adapters, stages, engines, signal handlers, exporters and saved state to one stream of events.
///
/// An adapter turns the records of a framework into events. An event goes through the stages and then to every engine;
/// engines do not know each other. A signal goes to every handler. Each handler has a thread and a queue of its own: repeats of a state are coalesced by incident, so the queue
/// holds a few signals per incident at most, and one-offs beyond 10,000 wait in the [spool](RuntimeBuilder::spool). A
/// signal over which a handler panics is handled again; a part that panics does not affect the others.
///
/// ```
/// use agent_sre::adapter::{Body, BodyKind, IngestLimits};
/// use agent_sre::{AgentTotals, RunLimits, Runtime, Timestamp};
///
/// let totals = std::sync::Arc::new(AgentTotals::new(1_000));
/// let runtime = Runtime::builder().formats(RunLimits::default()).engine(totals.clone()).build().unwrap();
/// let lines = concat!(
///     r#"{"event":"task_started","time":1790000000,"agent":"support","task":"1"}"#, "\n",
///     r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"1","success":true}"#, "\n",
/// );
/// let report = runtime.ingest_body("sre", Body::new(BodyKind::Lines, lines), &IngestLimits::default()).unwrap();
/// assert_eq!((report.accepted, totals.totals().tasks), (2, 1));
/// runtime.evaluate(Timestamp::from_secs(1_790_000_004));
/// ```
pub struct Runtime {
    adapters: Arc<Adapters>,
    adapter_stages: Vec<Box<AdapterStage>>,
    stages: Vec<Arc<dyn EventStage>>,
    observers: Vec<Arc<dyn Observe>>,
    collectors: Vec<Arc<dyn Collect>>,
    persisted: Vec<Arc<dyn Persist>>,
    #[cfg(feature = "http")]
    outboxes: Vec<Arc<sre_http::Outbox>>,
    parts: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    dispatcher: Arc<Dispatcher>,
    threads: Vec<JoinHandle<()>>,
    counters: Arc<Counters>,
    /// When the signals of incidents were last re-sent, in nanoseconds.
    reasserted: AtomicI64,
}

/// The section of the saved state that holds the open runs, with a section for each adapter.
const ADAPTERS: &str = "adapters";
/// The section of the saved state that holds the signals which are not handled yet.
const PENDING_SIGNALS: &str = "signals";
/// Interval at which the signals of incidents are re-sent.
const REASSERT_EVERY: Duration = Duration::from_secs(60);

/// Takes the events of an adapter.
type Emit<'a> = &'a mut dyn FnMut(AgentEvent);

impl Runtime {
    /// Creates an empty builder.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Reads a request body with the adapter of this name, and [records](Self::record) its events. The report lists the
    /// rejected lines; all others are ingested. For a live service, the limits are [`IngestLimits::live`]; then
    /// [`evaluate`](Self::evaluate) closes runs that never end.
    ///
    /// Other callers wait while an adapter reads, so that its events stay in order: a stage or an engine must neither ingest
    /// nor evaluate.
    pub fn ingest_body(&self, adapter: &str, body: Body, limits: &IngestLimits) -> Result<IngestReport, IngestError> {
        self.ingest(adapter, |adapter, emit| adapter.ingest_body(body, limits, emit))
    }

    /// Reads one record, as [`ingest_body`](Self::ingest_body) does a body.
    pub fn ingest_record(
        &self,
        adapter: &str,
        record: &[u8],
        limits: &IngestLimits,
    ) -> Result<IngestReport, IngestError> {
        self.ingest(adapter, |adapter, emit| adapter.ingest_record(record, limits, emit))
    }

    /// Closes every open run as incomplete, at the end of a recording.
    pub fn finish(&self) {
        self.for_each_adapter(|adapter, emit| adapter.finish(emit));
    }

    /// Returns the function of the adapter with this name that decodes a body ahead of [`ingest_body`](Self::ingest_body),
    /// on any thread; `None` if there is no such adapter, or its decoding is cheap.
    pub fn decoder(&self, adapter: &str) -> Option<Decoder> {
        self.adapters.get(adapter)?.decoder
    }

    /// Returns the names and the counters of the adapters, in the order in which they were added. It waits for none that reads.
    pub fn adapter_stats(&self) -> impl Iterator<Item = (&str, AdapterStats)> {
        self.adapters.iter().map(|adapter| (&*adapter.name, adapter.stats()))
    }

    fn ingest(
        &self,
        name: &str,
        read: impl FnOnce(&mut dyn Adapter, Emit<'_>) -> Result<IngestReport, AdapterError>,
    ) -> Result<IngestReport, IngestError> {
        let report = self.call(self.adapters.find(name)?, read);
        Ok(report.ok_or_else(|| IngestError::Panicked(name.to_owned()))??)
    }

    fn for_each_adapter(&self, call: impl Fn(&mut dyn Adapter, Emit<'_>)) {
        for adapter in self.adapters.iter() {
            self.call(adapter, &call);
        }
    }

    /// Calls an adapter, and records its events. Returns `None` if it panics.
    fn call<T>(&self, adapter: &NamedAdapter, call: impl FnOnce(&mut dyn Adapter, Emit<'_>) -> T) -> Option<T> {
        let mut emit = |event| self.record_from(&adapter.name, event);
        self.guarded(|| adapter.call(|adapter| call(adapter, &mut emit)))
    }

    fn record_from(&self, adapter: &str, mut event: AgentEvent) {
        if self.passes(&self.adapter_stages, |stage| stage(adapter, &mut event)) {
            self.record(event);
        }
    }

    /// Passes one event through the stages to every engine. Strings that are too long are
    /// [shortened](AgentEvent::limit_strings) first, because engines keep them.
    pub fn record(&self, mut event: AgentEvent) {
        let mut limiter = StringLimiter::default();
        event.limit_strings(&mut limiter);
        if limiter.shortened > 0 {
            self.counters.shortened.fetch_add(limiter.shortened, Ordering::Relaxed);
        }
        if !self.passes(&self.stages, |stage| stage.apply(&mut event)) {
            return;
        }
        // It completes a trace, and is of no use to exporters.
        let is_span = matches!(event.event, Event::SpanFinished(_));
        self.counters.events.fetch_add(u64::from(!is_span), Ordering::Relaxed);
        for observer in &self.observers {
            self.guarded(|| observer.observe(&event, &mut |signal| self.dispatcher.send(signal)));
        }
        #[cfg(feature = "http")]
        if !is_span && !self.outboxes.is_empty() {
            let event = Arc::new(event);
            self.outboxes.iter().for_each(|outbox| outbox.push(event.clone()));
        }
    }

    /// Applies stages in their order. Returns false, and counts the event, if one of them drops it.
    #[inline]
    fn passes<S>(&self, stages: &[S], mut apply: impl FnMut(&S) -> bool) -> bool {
        let passes = stages.iter().all(|stage| self.guarded(|| apply(stage)).unwrap_or(true));
        if !passes {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// Closes the runs of adapters that have timed out, lets every engine raise signals that depend on time alone, and re-sends those
    /// of incidents once a minute. Call it every second, as `sre serve` does: alerts begin and end when it is called.
    pub fn evaluate(&self, now: Timestamp) {
        self.for_each_adapter(|adapter, emit| adapter.expire(now, emit));
        self.evaluate_engines(now);
    }

    /// Does what [`evaluate`](Self::evaluate) does, but closes no runs. After a restart, what ends them may be about to arrive.
    pub fn evaluate_engines(&self, now: Timestamp) {
        let mut signals = Vec::new();
        for observer in &self.observers {
            self.guarded(|| observer.evaluate(now, &mut |signal| signals.push(signal)));
        }
        // After all engines have evaluated, so that no handler runs between two engines.
        let mut send = |signal| self.dispatcher.send(signal);
        signals.into_iter().for_each(&mut send);
        let last = Timestamp::from_nanos(self.reasserted.load(Ordering::Relaxed).max(0));
        // Also after the clock was set back.
        if now < last || now.since(last) >= REASSERT_EVERY {
            self.reasserted.store(now.as_nanos(), Ordering::Relaxed);
            for observer in &self.observers {
                self.guarded(|| observer.reassert(&mut send));
            }
        }
    }

    /// Sends a signal to every handler.
    pub fn signal(&self, signal: Signal) {
        self.dispatcher.send(signal);
    }

    /// Returns the sink for signals that are raised outside of events.
    pub fn signal_sink(&self) -> Arc<dyn SignalSink> {
        self.dispatcher.clone()
    }

    /// Returns the first part of that type that was added or [provided](RuntimeBuilder::provide).
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.parts.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// Writes what must survive a restart: the open runs of every adapter, a section for every part, and the signals that are not
    /// handled yet.
    ///
    /// Meanwhile nothing may be ingested or recorded, since a part that is saved before it would lack what a later one has.
    pub fn save(&self, state: &mut StateWriter) {
        if !self.adapters.is_empty() {
            state.section(ADAPTERS, |state| self.adapters.save(state));
        }
        self.save_parts(state);
        state.section(PENDING_SIGNALS, |state| self.dispatcher.save(state));
    }

    /// Restores a section that [`save`](Self::save) wrote. Returns false if no part has this name, or if an adapter of the section does
    /// not exist any more: its runs are skipped.
    pub fn restore(&self, name: &str, state: &mut StateReader<'_>) -> Result<bool, StateError> {
        match name {
            ADAPTERS => {
                let mut are_known = true;
                for section in state.sections() {
                    let (name, mut state) = section?;
                    are_known &= self.restore_adapter(name, &mut state)?;
                }
                Ok(are_known)
            }
            PENDING_SIGNALS => self.dispatcher.restore(state).map(|()| true),
            _ => self.restore_part(name, state),
        }
    }

    /// Restores what an adapter has saved; false if none has this name.
    pub fn restore_adapter(&self, name: &str, state: &mut StateReader<'_>) -> Result<bool, StateError> {
        self.adapters.restore(name, state)
    }

    fn restore_part(&self, name: &str, state: &mut StateReader<'_>) -> Result<bool, StateError> {
        match self.persisted.iter().find(|part| part.name() == name) {
            Some(part) => part.restore(state).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives a runtime that is to replace this one the state of every part, the signals that are not handled yet, and the adapters
    /// themselves, with their open runs and limits, in exchange for its own of the same names and types. Signals of a handler that it
    /// lacks stay here to be handled, as do those that are being handled. After an error, this runtime still has everything.
    pub fn hand_over_to(&self, other: &Self) -> Result<(), StateError> {
        let mut state = StateWriter::default();
        self.save_parts(&mut state);
        let state = state.finish()?;
        for section in StateReader::new(&state).sections() {
            let (name, mut part) = section?;
            other.restore_part(name, &mut part)?;
        }
        self.adapters.exchange(&other.adapters);
        self.dispatcher.hand_over_to(&other.dispatcher);
        Ok(())
    }

    fn save_parts(&self, state: &mut StateWriter) {
        for part in &self.persisted {
            state.section(&part.name(), |state| part.save(state));
        }
    }

    /// Returns the counters of the handlers, in the order in which they were added.
    pub fn handler_stats(&self) -> Vec<HandlerStats> {
        self.dispatcher.stats()
    }

    /// Returns the outboxes of the exporters, in the order in which they were added.
    #[cfg(feature = "http")]
    pub fn exporters(&self) -> &[Arc<sre_http::Outbox>] {
        &self.outboxes
    }

    /// Starts the exporters that were to [wait](RuntimeBuilder::start_exporters_later).
    #[cfg(feature = "http")]
    pub fn start_exporters(&self) -> Result<(), sre_http::OutboxError> {
        self.outboxes.iter().try_for_each(|outbox| outbox.start_thread())
    }

    /// Returns the number of panics in adapters, stages, engines and collectors.
    pub fn panics(&self) -> u64 {
        self.counters.panics.load(Ordering::Relaxed)
    }

    /// Waits until every signal is handled, for at most `timeout`. Returns false if the time ran out.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.dispatcher.flush(Some(timeout))
    }

    /// Waits until every signal is handled, and lets the exporters send what they have. Dropping the runtime does the same.
    pub fn shutdown(self) {
        drop(self);
    }

    #[inline]
    fn guarded<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(call)).ok();
        if result.is_none() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

/// Collects from every part, and from the runtime itself.
impl Collect for Runtime {
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        self.collectors.iter().filter_map(|part| self.guarded(|| part.snapshots(now))).flatten().collect()
    }

    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        for part in &self.collectors {
            self.guarded(|| part.metrics(now, emit));
        }
    }
}

impl EventSink for Runtime {
    fn accept(&self, event: AgentEvent) {
        self.record(event);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.dispatcher.flush(None);
        self.dispatcher.close();
        for thread in self.threads.drain(..) {
            // The thread catches panics of its handler, and does not panic itself.
            let _ = thread.join();
        }
        // In parallel, so that unresponsive backends delay the shutdown only once.
        #[cfg(feature = "http")]
        std::thread::scope(|scope| {
            for outbox in &self.outboxes {
                scope.spawn(|| outbox.shutdown(outbox.shutdown_timeout()));
            }
        });
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("adapters", &self.adapter_stats().map(|(name, _)| name).collect::<Vec<_>>())
            .field("observers", &self.observers.len())
            .field("handlers", &self.handler_stats())
            .finish_non_exhaustive()
    }
}
