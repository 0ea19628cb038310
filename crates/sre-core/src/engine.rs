use std::borrow::Cow;
use std::sync::Arc;

use crate::{AgentEvent, Metric, Signal, SignalSink, Snapshot, StateError, StateReader, StateWriter, Timestamp};

/// An engine: observes the stream of events and raises signals.
///
/// Signals of one incident count in the order in which they are raised, whatever their [`time`](Signal::time)s are; one with the state and
/// the time of an earlier one repeats it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sre_core::{AgentEvent, EventKind, Observe, Severity, Signal};
///
/// /// Raises a signal for every tenth handoff.
/// #[derive(Default)]
/// struct Handoffs(AtomicU64);
///
/// impl Observe for Handoffs {
///     fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
///         if event.event.kind() == EventKind::Handoff {
///             let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
///             if count % 10 == 0 {
///                 let key = format!("handoffs/{count}");
///                 signals(Signal::one_off("handoffs", key, Severity::Info, event.time).with_agent(&event.agent));
///             }
///         }
///     }
/// }
/// ```
pub trait Observe: Send + Sync {
    /// Processes one event. Must be quick and cannot fail. Signals that cannot wait are sent to `signals` immediately.
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal));

    /// Raises signals that depend on time alone. Called every second.
    fn evaluate(&self, _now: Timestamp, _signals: &mut dyn FnMut(Signal)) {}

    /// Re-sends the last signal of every incident, unchanged. Called after a restart and every minute, to replace
    /// lost signals. Receivers recognise repeats by [`Signal::repeats`]. An engine whose signals come from several threads
    /// sends them and these in the order of its changes, as [`SignalOutlet`](crate::SignalOutlet) does.
    fn reassert(&self, _signals: &mut dyn FnMut(Signal)) {}

    /// Connects a sink for signals raised outside of these calls, such as on a caller's thread. Called once, before the
    /// first event.
    fn connect(&self, _signals: Arc<dyn SignalSink>) {}
}

/// Provides metrics and snapshots of a stateful component: an engine, an alert manager or an exporter.
///
/// ```
/// use sre_core::{Collect, Metric, Timestamp};
///
/// struct Queue(Vec<u8>);
///
/// impl Collect for Queue {
///     fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
///         emit(Metric::gauge("app.queue.length", self.0.len() as f64).with_help("Items waiting."));
///     }
/// }
/// ```
pub trait Collect: Send + Sync {
    /// Returns typed snapshots of the state at `now`.
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        Vec::new()
    }

    /// Emits all metrics at `now`; by default, those of the snapshots.
    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        self.snapshots(now).iter().for_each(|snapshot| snapshot.metrics(emit));
    }
}

/// Collects from several sources, in their order.
impl<const N: usize> Collect for [&dyn Collect; N] {
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        self.iter().flat_map(|source| source.snapshots(now)).collect()
    }

    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        self.iter().for_each(|source| source.metrics(now, emit));
    }
}

/// State that survives a restart, saved and restored by name.
///
/// ```
/// # use std::borrow::Cow;
/// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use sre_core::{Persist, StateError, StateReader, StateWriter};
///
/// struct Handoffs(AtomicU64);
///
/// impl Persist for Handoffs {
///     fn name(&self) -> Cow<'_, str> { "handoffs".into() }
///
///     fn save(&self, state: &mut StateWriter) { state.section("count", |state| state.put(&self.0.load(Relaxed))); }
///
///     fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
///         for section in state.sections() {
///             // A section of a later version is skipped.
///             if let ("count", mut state) = section? { self.0.store(state.take()?, Relaxed); }
///         }
///         Ok(())
///     }
/// }
/// # let (saved, restored, mut state) = (Handoffs(7.into()), Handoffs(0.into()), StateWriter::default());
/// # saved.save(&mut state);
/// # restored.restore(&mut StateReader::new(&state.finish()?))?;
/// # assert_eq!(restored.0.into_inner(), 7);
/// # Ok::<(), StateError>(())
/// ```
pub trait Persist: Send + Sync {
    /// Returns the name under which the state is saved. It is unique among all saved states and never changes.
    fn name(&self) -> Cow<'_, str>;

    /// Saves the state.
    fn save(&self, state: &mut StateWriter);

    /// Restores state saved by this version or an earlier one. Called before the first event. Raises no signal: those that an
    /// earlier run has not handled are restored later, and come first.
    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError>;
}

/// Reacts to signals: sends alerts, opens breakers, freezes deployments.
///
/// A closure that takes a signal, such as `|signal: &Signal| println!("{}", signal.title)`, is a handler, too.
///
/// ```
/// # use std::collections::BTreeSet;
/// # use std::sync::Mutex;
/// use sre_core::{Phase, Signal, SignalHandler};
///
/// /// Keys of the incidents that are open. A repeated signal changes nothing.
/// struct OpenIncidents(Mutex<BTreeSet<String>>);
///
/// impl SignalHandler for OpenIncidents {
///     fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
///         let mut open = self.0.lock().unwrap();
///         for signal in signals {
///             match signal.phase {
///                 Phase::Firing => _ = open.insert(signal.key.clone()),
///                 Phase::Resolved => _ = open.remove(&signal.key),
///                 Phase::OneOff => {}
///             }
///         }
///     }
/// }
/// # use sre_core::{Severity, Timestamp};
/// # let (incidents, at) = (OpenIncidents(Mutex::default()), Timestamp::from_secs(1_790_000_000));
/// # let signal = Signal::firing("queue", "queue/ingest", Severity::Warning, at);
/// # incidents.handle(&[signal.clone(), signal], &mut |_| {});
/// # assert_eq!(incidents.0.lock().unwrap().len(), 1);
/// # incidents.handle(&[Signal::resolved("queue", "queue/ingest", at)], &mut |_| {});
/// # assert!(incidents.0.lock().unwrap().is_empty());
/// ```
pub trait SignalHandler: Send + Sync {
    /// Handles signals in the order in which they were raised. May be slow; the caller catches panics.
    ///
    /// Signals that the handler itself raises go to `emit`, which passes them to every other handler. A signal that
    /// [repeats](Signal::repeats) an earlier one must change nothing.
    fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal));
}

impl<F: Fn(&Signal) + Send + Sync> SignalHandler for F {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        signals.iter().for_each(self);
    }
}

/// Changes events before engines observe them: adds prices, hides what engines may not see, drops events.
///
/// ```
/// use sre_core::{AgentEvent, EventStage};
///
/// // Drops the events of test agents.
/// let stage = |event: &mut AgentEvent| !event.agent.starts_with("test-");
/// let mut event = AgentEvent::from_json(br#"{"event":"heartbeat","time":1790000000,"agent":"test-1"}"#)?;
/// assert!(!stage.apply(&mut event));
/// # Ok::<(), sre_core::InvalidEvent>(())
/// ```
pub trait EventStage: Send + Sync {
    /// Changes the event. Returns false to drop it; dropped events are counted.
    fn apply(&self, event: &mut AgentEvent) -> bool;
}

impl<F: Fn(&mut AgentEvent) -> bool + Send + Sync> EventStage for F {
    fn apply(&self, event: &mut AgentEvent) -> bool {
        self(event)
    }
}
