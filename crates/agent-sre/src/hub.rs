use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sre_core::{AgentEvent, EventSink, Observer, Signal, SignalHandler, Snapshot, Timestamp, lock};

/// Hands every event to every observer, and every signal to every handler.
///
/// Handlers run on a thread each, behind a queue of 1,024 signals: one that is slow or panics harms neither recording
/// nor the other handlers. A full queue drops signals, and counts them. An observer that panics is passed over for that
/// event, and that is counted too.
pub struct Hub {
    observers: Vec<Arc<dyn Observer>>,
    handlers: Vec<Handler>,
    observer_panics: AtomicU64,
}

/// Sets up a [`Hub`].
#[derive(Default)]
pub struct HubBuilder {
    observers: Vec<Arc<dyn Observer>>,
    handlers: Vec<Arc<dyn SignalHandler>>,
}

/// How a handler is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandlerStats {
    /// Signals it has handled.
    pub handled: u64,
    /// Signals over which it panicked.
    pub panicked: u64,
    /// Signals that its full queue could not take.
    pub dropped: u64,
}

struct Handler {
    queue: Option<SyncSender<Arc<Signal>>>,
    counts: Arc<Counts>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counts {
    handled: AtomicU64,
    panicked: AtomicU64,
    dropped: AtomicU64,
}

const QUEUE: usize = 1_024;

impl HubBuilder {
    /// Adds an engine.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Adds somebody who reacts to signals.
    #[must_use]
    pub fn handle(mut self, handler: Arc<dyn SignalHandler>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Starts the handlers' threads.
    pub fn build(self) -> Hub {
        let handlers = self.handlers.into_iter().map(Handler::start).collect();
        Hub { observers: self.observers, handlers, observer_panics: AtomicU64::new(0) }
    }
}

impl Hub {
    /// A hub to be set up.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }

    /// Hands one event to every observer.
    pub fn record(&self, event: &AgentEvent) {
        for observer in &self.observers {
            self.guarded(|| observer.observe(event, &mut |signal| self.send(signal)));
        }
    }

    /// Lets every observer draw the conclusions that time alone can bring.
    pub fn evaluate(&self, now: Timestamp) {
        for observer in &self.observers {
            self.guarded(|| observer.evaluate(now, &mut |signal| self.send(signal)));
        }
    }

    /// What every observer is at `now`.
    pub fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        let mut snapshots = Vec::new();
        for observer in &self.observers {
            self.guarded(|| snapshots.extend(observer.snapshot(now)));
        }
        snapshots
    }

    /// How the handlers are doing, in the order they were added.
    pub fn handler_stats(&self) -> Vec<HandlerStats> {
        self.handlers.iter().map(Handler::stats).collect()
    }

    /// How often an observer panicked.
    pub fn observer_panics(&self) -> u64 {
        self.observer_panics.load(Ordering::Relaxed)
    }

    /// Waits until every handler has handled what was queued. Dropping the hub does the same.
    pub fn shutdown(self) {
        drop(self);
    }

    fn send(&self, signal: Signal) {
        let signal = Arc::new(signal);
        for handler in &self.handlers {
            handler.send(signal.clone());
        }
    }

    #[inline]
    fn guarded(&self, call: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.observer_panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventSink for Hub {
    fn accept(&self, event: AgentEvent) {
        self.record(&event);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for handler in &mut self.handlers {
            handler.queue = None;
        }
        for handler in &self.handlers {
            let thread = lock(&handler.thread).take();
            if let Some(thread) = thread {
                // The thread contains its handler's panics; it has none of its own to report.
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("observers", &self.observers.len())
            .field("handlers", &self.handler_stats())
            .finish_non_exhaustive()
    }
}

impl Handler {
    fn start(handler: Arc<dyn SignalHandler>) -> Self {
        let (queue, signals) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let of_thread = counts.clone();
        let thread = std::thread::spawn(move || work(&*handler, &signals, &of_thread));
        Self { queue: Some(queue), counts, thread: Mutex::new(Some(thread)) }
    }

    fn send(&self, signal: Arc<Signal>) {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(signal));
        if !matches!(sent, Some(Ok(()))) {
            debug_assert!(!matches!(sent, Some(Err(TrySendError::Disconnected(_)))), "the thread outlives its queue");
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> HandlerStats {
        HandlerStats {
            handled: self.counts.handled.load(Ordering::Relaxed),
            panicked: self.counts.panicked.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
        }
    }
}

fn work(handler: &dyn SignalHandler, signals: &Receiver<Arc<Signal>>, counts: &Counts) {
    for signal in signals {
        match catch_unwind(AssertUnwindSafe(|| handler.handle(&signal))) {
            Ok(()) => counts.handled.fetch_add(1, Ordering::Relaxed),
            Err(_) => counts.panicked.fetch_add(1, Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use sre_core::event::Heartbeat;
    use sre_core::{Severity, SignalKind};

    use super::*;

    /// Signals every event.
    struct Echo;

    impl Observer for Echo {
        fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
            let kind = SignalKind::Custom { name: "echo".into(), severity: Severity::Info, message: String::new() };
            signals(Signal { time: event.time, agent: event.agent.clone(), kind });
        }
    }

    struct Broken;

    impl Observer for Broken {
        fn observe(&self, _: &AgentEvent, _: &mut dyn FnMut(Signal)) {
            panic!("an observer's mistake");
        }
    }

    fn event() -> AgentEvent {
        AgentEvent::new(Timestamp::from_secs(1), "a", Heartbeat::default())
    }

    #[test]
    fn a_handler_that_panics_and_one_that_hangs_harm_nobody() {
        std::panic::set_hook(Box::new(|_| {}));
        let (release, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let seen = Arc::new(AtomicU64::new(0));
        let counter = seen.clone();
        let hub = Hub::builder()
            .observe(Arc::new(Broken))
            .observe(Arc::new(Echo))
            .handle(Arc::new(|_: &Signal| panic!("a handler's mistake")))
            .handle(Arc::new(move |_: &Signal| {
                let _ = gate.lock().unwrap().recv();
            }))
            .handle(Arc::new(move |_: &Signal| {
                counter.fetch_add(1, Ordering::SeqCst);
            }))
            .build();
        // As many as the queues hold: more than that, and even a quick handler may drop some.
        for _ in 0..QUEUE {
            hub.record(&event());
        }
        // The hanging handler holds one signal and its queue is full: of these, at most one more fits.
        while hub.handler_stats()[2].handled < QUEUE as u64 {
            std::thread::yield_now();
        }
        for _ in 0..10 {
            hub.record(&event());
        }
        assert!(hub.handler_stats()[1].dropped >= 9, "{:?}", hub.handler_stats());
        assert_eq!(hub.observer_panics(), QUEUE as u64 + 10);
        drop(release);
        hub.shutdown();
        assert_eq!(seen.load(Ordering::SeqCst), QUEUE as u64 + 10);
    }
}
