mod builder;
mod counters;
mod dispatch;
mod queue;

pub use builder::{RuntimeBuilder, RuntimeError};
pub use dispatch::HandlerStats;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sre_core::event::StringLimiter;
use sre_core::{
    AgentEvent, Collect, Event, EventSink, EventStage, Metric, Observe, Persist, Signal, SignalSink, Snapshot,
    StateError, StateReader, StateWriter, Timestamp,
};

use counters::Counters;
use dispatch::Dispatcher;

/// Connects stages, engines, signal handlers, exporters and saved state to one stream of events.
///
/// Engines do not know each other. An event goes through the stages and then to every engine. A signal goes to every
/// handler. Each handler has a thread and a queue of its own: repeats of a state are coalesced by incident, so the queue
/// holds a few signals per incident at most, and one-offs beyond 10,000 wait in the [spool](RuntimeBuilder::spool). A
/// signal over which a handler panics is handled again; a part that panics does not affect the others.
pub struct Runtime {
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

/// The section of the saved state that holds the signals which are not handled yet.
const PENDING_SIGNALS: &str = "signals";
/// Interval at which the signals of incidents are re-sent.
const REASSERT_EVERY: Duration = Duration::from_secs(60);

impl Runtime {
    /// Creates an empty builder.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Passes one event through the stages to every engine. Strings that are too long are
    /// [shortened](AgentEvent::limit_strings) first, because engines keep them.
    pub fn record(&self, mut event: AgentEvent) {
        let mut limiter = StringLimiter::default();
        event.limit_strings(&mut limiter);
        if limiter.shortened > 0 {
            self.counters.shortened.fetch_add(limiter.shortened, Ordering::Relaxed);
        }
        for stage in &self.stages {
            if !self.guarded(|| stage.apply(&mut event)).unwrap_or(true) {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
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

    /// Lets every engine raise signals that depend on time alone, and re-send those of incidents once a minute. Call it every
    /// second, as `sre serve` does: alerts begin and end when it is called.
    pub fn evaluate(&self, now: Timestamp) {
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

    /// Writes what must survive a restart: a section for every part, and the signals that are not handled yet.
    pub fn save(&self, state: &mut StateWriter) {
        self.save_parts(state);
        state.section(PENDING_SIGNALS, |state| self.dispatcher.save(state));
    }

    /// Restores a section that [`save`](Self::save) wrote; false if no part has this name.
    pub fn restore(&self, name: &str, state: &mut StateReader<'_>) -> Result<bool, StateError> {
        if name == PENDING_SIGNALS {
            return self.dispatcher.restore(state).map(|()| true);
        }
        match self.persisted.iter().find(|part| part.name() == name) {
            Some(part) => part.restore(state).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives a runtime that is to replace this one the state of every part, and the signals that are not handled yet. Signals of
    /// a handler that it lacks stay here to be handled, as do those that are being handled.
    pub fn hand_over_to(&self, other: &Self) -> Result<(), StateError> {
        let mut state = StateWriter::default();
        self.save_parts(&mut state);
        let state = state.finish()?;
        for section in StateReader::new(&state).sections() {
            let (name, mut part) = section?;
            other.restore(name, &mut part)?;
        }
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

    /// Returns the number of panics in stages, engines and collectors.
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
            .field("observers", &self.observers.len())
            .field("handlers", &self.handler_stats())
            .finish_non_exhaustive()
    }
}
