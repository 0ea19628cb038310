use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sre_core::{Metric, Phase, Signal, SignalHandler, SignalSink, Spool, StoreError};

use super::queue::SignalQueue;

/// Hands signals to handlers, each of which has a queue and a thread of its own.
pub(crate) struct Dispatcher {
    queues: Vec<HandlerQueue>,
    taps: Vec<Arc<dyn SignalSink>>,
    spool: Option<Arc<dyn Spool>>,
    /// Signals that wait or are being handled, of all handlers.
    unhandled: Mutex<usize>,
    idle: Condvar,
}

struct HandlerQueue {
    name: String,
    /// Where one-offs wait that memory has no room for.
    spool_name: String,
    state: Mutex<QueueState>,
    filled: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct QueueState {
    queue: SignalQueue,
    /// One-offs in the spool.
    spooled: u64,
    is_closed: bool,
}

#[derive(Default)]
struct Counts {
    handled: AtomicU64,
    coalesced: AtomicU64,
    spooled: AtomicU64,
    panicked: AtomicU64,
    dropped: AtomicU64,
}

/// How a handler is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerStats {
    /// Its name.
    pub name: String,
    /// Signals handled.
    pub handled: u64,
    /// Signals that repeated a state which was known or waiting.
    pub coalesced: u64,
    /// One-offs that waited in the spool.
    pub spooled: u64,
    /// Signals over which it panicked. Those of incidents are tried again when they are asserted again.
    pub panicked: u64,
    /// One-offs lost because memory was full and there was no spool, or it failed.
    pub dropped: u64,
    /// Signals waiting now.
    pub queued: u64,
}

/// Maximum number of signals in one call of a handler.
const BATCH: usize = 1_024;
/// How soon a spool that could not be read is read again.
const SPOOL_RETRY: Duration = Duration::from_secs(1);
/// So many one-offs wait in memory.
const MAX_ONE_OFFS: usize = 10_000;

impl Dispatcher {
    pub(crate) fn start(
        handlers: Vec<(String, Arc<dyn SignalHandler>)>,
        taps: Vec<Arc<dyn SignalSink>>,
        spool: Option<Arc<dyn Spool>>,
    ) -> std::io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let queues: Vec<_> = handlers.iter().map(|(name, _)| HandlerQueue::new(name, spool.as_deref())).collect();
        let spooled = queues.iter().map(|queue| queue.state().spooled as usize).sum();
        let dispatcher = Arc::new(Self { queues, taps, spool, unhandled: Mutex::new(spooled), idle: Condvar::new() });
        let spawn = |(number, (name, handler)): (usize, (String, Arc<dyn SignalHandler>))| {
            let dispatcher = dispatcher.clone();
            let thread = std::thread::Builder::new().name(format!("sre-{name}"));
            thread.spawn(move || dispatcher.work(number, &*handler))
        };
        let threads = handlers.into_iter().enumerate().map(spawn).collect::<Result<_, _>>();
        if threads.is_err() {
            dispatcher.close();
        }
        Ok((dispatcher, threads?))
    }

    pub(crate) fn stats(&self) -> Vec<HandlerStats> {
        self.queues.iter().map(HandlerQueue::stats).collect()
    }

    /// Waits until every signal is handled, at most so long; false when time ran out.
    pub(crate) fn flush(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut unhandled = self.unhandled();
        while *unhandled > 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            unhandled = match left {
                Some(left) if left.is_zero() => return false,
                Some(left) => self.idle.wait_timeout(unhandled, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.idle.wait(unhandled).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Lets the threads end once their queues are empty.
    pub(crate) fn close(&self) {
        for queue in &self.queues {
            queue.state().is_closed = true;
            queue.filled.notify_one();
        }
    }

    fn dispatch(&self, signal: Signal, from: Option<usize>) {
        self.taps.iter().for_each(|tap| tap.send(signal.clone()));
        let signal = Arc::new(signal);
        for (_, queue) in self.queues.iter().enumerate().filter(|(number, _)| Some(*number) != from) {
            let mut state = queue.state();
            let before = state.waiting();
            queue.push(&mut state, signal.clone(), self.spool.as_deref());
            // Counted before the lock is released, so that nobody finds nothing to do in between.
            self.change_unhandled(before, state.waiting());
            drop(state);
            queue.filled.notify_one();
        }
    }

    fn work(&self, number: usize, handler: &dyn SignalHandler) {
        let queue = &self.queues[number];
        let mut emit = |signal| self.dispatch(signal, Some(number));
        while let Some(batch) = queue.next_batch(self.spool.as_deref(), |lost| self.change_unhandled(lost, 0)) {
            let signals: Vec<Signal> = batch.into_iter().map(Arc::unwrap_or_clone).collect();
            if catch_unwind(AssertUnwindSafe(|| handler.handle(&signals, &mut emit))).is_ok() {
                queue.counts.handled.fetch_add(signals.len() as u64, Ordering::Relaxed);
            } else {
                // Which of them it was is not known: each is tried alone.
                for signal in &signals {
                    let one = std::slice::from_ref(signal);
                    if catch_unwind(AssertUnwindSafe(|| handler.handle(one, &mut emit))).is_ok() {
                        queue.counts.handled.fetch_add(1, Ordering::Relaxed);
                    } else {
                        queue.counts.panicked.fetch_add(1, Ordering::Relaxed);
                        queue.state().queue.forget(signal);
                    }
                }
            }
            self.change_unhandled(signals.len(), 0);
        }
    }

    fn change_unhandled(&self, before: usize, after: usize) {
        let mut unhandled = self.unhandled();
        *unhandled = (*unhandled + after).saturating_sub(before);
        if *unhandled == 0 {
            self.idle.notify_all();
        }
    }

    fn unhandled(&self) -> MutexGuard<'_, usize> {
        self.unhandled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignalSink for Dispatcher {
    fn send(&self, signal: Signal) {
        self.dispatch(signal, None);
    }
}

impl HandlerQueue {
    fn new(name: &str, spool: Option<&dyn Spool>) -> Self {
        let spool_name = format!("signals/{name}");
        // If reading the spool fails, it is read again when the next one-off is written to it.
        let spooled = spool.and_then(|spool| spool.size(&spool_name).ok()).map_or(0, |size| size.records);
        Self {
            name: name.to_owned(),
            spool_name,
            state: Mutex::new(QueueState { spooled, ..QueueState::default() }),
            filled: Condvar::new(),
            counts: Counts::default(),
        }
    }

    fn push(&self, state: &mut QueueState, signal: Arc<Signal>, spool: Option<&dyn Spool>) {
        let is_one_off = signal.phase == Phase::OneOff;
        if is_one_off && (state.spooled > 0 || state.queue.one_offs() >= MAX_ONE_OFFS) {
            let stored = spool.map(|spool| {
                let json = serde_json::to_vec(&*signal).unwrap_or_default();
                spool.append(&self.spool_name, &[&json])
            });
            if matches!(stored, Some(Ok(_))) {
                state.spooled += 1;
                self.counts.spooled.fetch_add(1, Ordering::Relaxed);
            } else {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        } else if !state.queue.push(signal) {
            self.counts.coalesced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for signals; `None` once the queue is closed and empty. Calls `lost` with the number that could not be read back.
    fn next_batch(&self, spool: Option<&dyn Spool>, lost: impl Fn(usize)) -> Option<Vec<Arc<Signal>>> {
        let mut state = self.state();
        let mut is_locked_out = false;
        loop {
            let is_due = state.spooled > 0 && state.queue.one_offs() == 0;
            if let Some(spool) = spool.filter(|_| is_due) {
                let before = state.waiting();
                is_locked_out = self.refill(&mut state, spool).is_err();
                lost(before - state.waiting());
            }
            if !state.queue.is_empty() {
                state.queue.trim();
                return Some(state.queue.take(BATCH));
            }
            if state.is_closed {
                return None;
            }
            state = if is_locked_out {
                self.filled.wait_timeout(state, SPOOL_RETRY).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.filled.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Moves one-offs from the spool into memory; unreadable ones are dropped and counted.
    fn refill(&self, state: &mut QueueState, spool: &dyn Spool) -> Result<(), StoreError> {
        let records = spool.peek(&self.spool_name, BATCH, usize::MAX)?;
        let Some(last) = records.last() else {
            state.spooled = 0;
            return Ok(());
        };
        spool.remove(&self.spool_name, last.id)?;
        state.spooled = state.spooled.saturating_sub(records.len() as u64);
        for record in &records {
            match serde_json::from_slice(&record.bytes) {
                Ok(signal) => drop(state.queue.push(Arc::new(signal))),
                Err(_) => drop(self.counts.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
        Ok(())
    }

    fn stats(&self) -> HandlerStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HandlerStats {
            name: self.name.clone(),
            handled: count(&self.counts.handled),
            coalesced: count(&self.counts.coalesced),
            spooled: count(&self.counts.spooled),
            panicked: count(&self.counts.panicked),
            dropped: count(&self.counts.dropped),
            queued: self.state().waiting() as u64,
        }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn waiting(&self) -> usize {
        self.queue.len() + self.spooled as usize
    }
}

impl HandlerStats {
    /// Emits the handler's metrics, labelled with its name.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for (name, count, help) in [
            ("sre.signal_handler.handled", self.handled, "Signals handled."),
            ("sre.signal_handler.coalesced", self.coalesced, "Signals that repeated a known state."),
            ("sre.signal_handler.spooled", self.spooled, "One-off signals written to the spool."),
            ("sre.signal_handler.panics", self.panicked, "Signals over which the handler panicked."),
            ("sre.signal_handler.dropped", self.dropped, "One-off signals lost."),
        ] {
            emit(Metric::counter(name, count as f64).with_label("handler", self.name.as_str()).with_help(help));
        }
        let queued = Metric::gauge("sre.signal_handler.queue_length", self.queued as f64);
        emit(queued.with_label("handler", self.name.as_str()).with_help("Signals waiting for the handler."));
    }
}
