use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sre_core::private::MAX_SIGNAL_BYTES;
use sre_core::{
    Metric, Phase, Signal, SignalHandler, SignalSink, Spool, StateError, StateReader, StateWriter, StoreError,
    Timestamp,
};

use super::queue::{Queued, SignalQueue, TakenSignal};

/// Hands signals to handlers, each of which has a queue and a thread of its own.
pub(crate) struct Dispatcher {
    queues: Vec<HandlerQueue>,
    taps: Vec<Arc<dyn SignalSink>>,
    spool: Option<Arc<dyn Spool>>,
    one_offs: Mutex<OneOffKeys>,
    /// Signals that wait or are being handled, of all handlers.
    unhandled: Mutex<usize>,
    idle: Condvar,
}

struct HandlerQueue {
    name: String,
    /// The spool's queue of one-offs that do not fit into memory.
    spool_name: String,
    state: Mutex<QueueState>,
    filled: Condvar,
    counts: Counts,
}

/// Counts the one-offs of the latest time, by key.
#[derive(Default)]
struct OneOffKeys {
    time: Timestamp,
    counts: HashMap<String, u32>,
}

impl OneOffKeys {
    /// Numbers the key of a one-off if another at the same time had it, so that handlers do not take them for one.
    fn make_unique(&mut self, signal: &mut Signal) {
        if signal.time != self.time {
            self.time = signal.time;
            self.counts.clear();
        }
        let count = self.counts.entry(signal.key.clone()).or_default();
        *count += 1;
        if *count > 1 {
            signal.key = format!("{}/{count}", signal.key);
        }
    }
}

/// A signal as the spool and the saved state have it.
#[derive(Serialize, Deserialize)]
struct StoredSignal<S> {
    #[serde(flatten)]
    signal: S,
    #[serde(default)]
    depth: u8,
}

impl Queued {
    fn stored(&self) -> StoredSignal<&Signal> {
        StoredSignal { signal: &self.signal, depth: self.depth }
    }
}

impl From<StoredSignal<Signal>> for Queued {
    fn from(stored: StoredSignal<Signal>) -> Self {
        Self::new(Arc::new(stored.signal), stored.depth)
    }
}

#[derive(Default)]
struct QueueState {
    queue: SignalQueue,
    /// The signals that the handler has been given and not returned from.
    in_flight: Vec<Queued>,
    /// One-offs in the spool that were not read back yet.
    spooled: u64,
    /// The last record of the spool that was read back. It stays there until it is handled.
    read_back: Option<u64>,
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

/// Counters of a signal handler since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HandlerStats {
    /// The name of the handler.
    pub name: String,
    /// Signals handled.
    pub handled: u64,
    /// Signals that repeated a waiting state, or belonged to an incident that is over.
    pub coalesced: u64,
    /// One-offs written to the spool.
    pub spooled: u64,
    /// Panics of the handler over a single signal. The signal is handled again, up to ten times.
    pub panicked: u64,
    /// Signals dropped: one-offs when memory was full and there was no spool or it failed, signals over which the handler
    /// panicked ten times, and signals of handlers that raise new ones in response to each other endlessly.
    pub dropped: u64,
    /// Signals waiting now.
    pub queued: u64,
}

/// Maximum number of signals in one call of a handler.
const BATCH: usize = 1_024;
/// Delay until a spool that could not be read is read again.
const SPOOL_RETRY: Duration = Duration::from_secs(1);
/// Maximum number of one-offs in memory.
const MAX_ONE_OFFS: usize = 10_000;
/// How often a handler is given a signal over which it panics. An incident's is given again when it is asserted again.
const MAX_PANICS: u8 = 10;
/// Delay after the first panic over a signal; doubles with each further one.
const PANIC_DELAY: Duration = Duration::from_millis(50);
const MAX_PANIC_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of handlers that raise signals over each other's in turn.
const MAX_DEPTH: u8 = 16;

impl Dispatcher {
    pub(crate) fn start(
        handlers: Vec<(String, Arc<dyn SignalHandler>)>,
        taps: Vec<Arc<dyn SignalSink>>,
        spool: Option<Arc<dyn Spool>>,
    ) -> std::io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let queues: Vec<_> = handlers.iter().map(|(name, _)| HandlerQueue::new(name, spool.as_deref())).collect();
        let spooled = queues.iter().map(|queue| queue.state().spooled as usize).sum();
        let dispatcher = Arc::new(Self {
            queues,
            taps,
            spool,
            one_offs: Mutex::default(),
            unhandled: Mutex::new(spooled),
            idle: Condvar::new(),
        });
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

    /// Waits until every signal is handled; false after the timeout.
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

    /// Writes the signals that are not handled yet, by handler. Those in the spool stay there.
    pub(crate) fn save(&self, state: &mut StateWriter) {
        for queue in &self.queues {
            let pending = queue.pending();
            if !pending.is_empty() {
                // Signals are JSON, which may get more fields.
                let pending = pending.iter().filter_map(|queued| serde_json::to_string(&queued.stored()).ok());
                state.put(&(&queue.name, pending.collect::<Vec<String>>()));
            }
        }
    }

    /// Queues the signals that an earlier run has not handled, for handlers that still exist.
    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        while !state.is_empty() {
            let (name, pending): (String, Vec<String>) = state.take()?;
            let Some(queue) = self.queues.iter().find(|queue| queue.name == name) else { continue };
            for json in pending {
                if json.len() > MAX_SIGNAL_BYTES {
                    queue.counts.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let stored: StoredSignal<Signal> =
                    serde_json::from_str(&json).map_err(|error| StateError::new(error.to_string()))?;
                self.push(queue, stored.into());
            }
        }
        Ok(())
    }

    /// Moves the signals that are not handled to the handlers of the same names of another dispatcher. A signal that is being
    /// handled here is handled there again, since what the handler does to the state here may come too late.
    pub(crate) fn hand_over_to(&self, other: &Self) {
        for queue in &self.queues {
            let Some(successor) = other.queues.iter().find(|successor| successor.name == queue.name) else { continue };
            let moved = {
                let mut state = queue.state();
                let before = state.waiting();
                let in_flight = state.in_flight.clone();
                let moved: Vec<Queued> = in_flight.into_iter().chain(state.queue.drain()).collect();
                // What the spool holds is read by the other.
                (state.spooled, state.read_back) = (0, None);
                self.change_unhandled(before, state.waiting());
                moved
            };
            for queued in moved.into_iter().filter(|queued| !queued.is_spooled) {
                other.push(successor, queued);
            }
            let mut state = successor.state();
            let before = state.waiting();
            state.spooled = successor.spooled(other.spool.as_deref());
            other.change_unhandled(before, state.waiting());
            drop(state);
            successor.filled.notify_one();
        }
    }

    /// Hands a signal to every handler but the one that raises it; `from` has that one's number and the signal's depth.
    fn dispatch(&self, mut signal: Signal, from: Option<(usize, u8)>) {
        if signal.phase == Phase::OneOff {
            self.one_offs.lock().unwrap_or_else(PoisonError::into_inner).make_unique(&mut signal);
        }
        self.taps.iter().for_each(|tap| tap.send(signal.clone()));
        let signal = Arc::new(signal);
        let depth = from.map_or(0, |(_, depth)| depth);
        for (number, queue) in self.queues.iter().enumerate() {
            if from.is_none_or(|(from, _)| from != number) {
                self.push(queue, Queued::new(signal.clone(), depth));
            }
        }
    }

    fn push(&self, queue: &HandlerQueue, queued: Queued) {
        let mut state = queue.state();
        let before = state.waiting();
        queue.push(&mut state, queued, self.spool.as_deref());
        // Counted before the lock is released, so that `flush` does not return early.
        self.change_unhandled(before, state.waiting());
        drop(state);
        queue.filled.notify_one();
    }

    fn work(&self, number: usize, handler: &dyn SignalHandler) {
        let queue = &self.queues[number];
        let spool_changed = |before, after| self.change_unhandled(before, after);
        while let Some((depth, batch)) = queue.next_batch(self.spool.as_deref(), spool_changed) {
            let depth = depth + 1;
            let mut emit = |signal| match depth {
                0..=MAX_DEPTH => self.dispatch(signal, Some((number, depth))),
                _ => drop(queue.counts.dropped.fetch_add(1, Ordering::Relaxed)),
            };
            let signals: Vec<Signal> = batch.iter().map(|(_, queued)| (*queued.signal).clone()).collect();
            let mut is_handled =
                |signals: &[Signal]| catch_unwind(AssertUnwindSafe(|| handler.handle(signals, &mut emit))).is_ok();
            let failed = if is_handled(&signals) {
                Vec::new()
            } else {
                // Which of them caused the panic is unknown, so each is handled alone.
                let alone = signals.chunks(1).zip(batch.iter().cloned());
                alone.filter(|(signal, _)| !is_handled(signal)).map(|(_, taken)| taken).collect()
            };
            let again = queue.finish(batch.len(), failed);
            self.change_unhandled(batch.len(), again);
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
        let queue = Self {
            name: name.to_owned(),
            spool_name,
            state: Mutex::default(),
            filled: Condvar::new(),
            counts: Counts::default(),
        };
        queue.state().spooled = queue.spooled(spool);
        queue
    }

    /// Returns the number of signals in the spool. If it cannot be read, the spool is read once the next one-off is written to it.
    fn spooled(&self, spool: Option<&dyn Spool>) -> u64 {
        spool.and_then(|spool| spool.size(&self.spool_name).ok()).map_or(0, |size| size.records)
    }

    fn push(&self, state: &mut QueueState, queued: Queued, spool: Option<&dyn Spool>) {
        let is_one_off = queued.signal.phase == Phase::OneOff;
        if is_one_off && (state.spooled > 0 || state.queue.one_offs() >= MAX_ONE_OFFS) {
            let stored = spool.map(|spool| {
                let json = serde_json::to_vec(&queued.stored()).unwrap_or_default();
                spool.append(&self.spool_name, &[&json])
            });
            if matches!(stored, Some(Ok(_))) {
                state.spooled += 1;
                self.counts.spooled.fetch_add(1, Ordering::Relaxed);
            } else {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        } else if !state.queue.push(queued) {
            self.counts.coalesced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the batch in flight. Signals over which the handler panicked are put back, up to a number of times, and their
    /// number is returned; then the queue pauses.
    fn finish(&self, batch: usize, failed: Vec<TakenSignal>) -> usize {
        let count = |counter: &AtomicU64, number: usize| counter.fetch_add(number as u64, Ordering::Relaxed);
        count(&self.counts.handled, batch - failed.len());
        count(&self.counts.panicked, failed.len());
        let (mut again, mut panics) = (0, 0);
        let mut state = self.state();
        state.in_flight.clear();
        // In reverse, since each is put before the signals of its incident that wait.
        for (number, mut queued) in failed.into_iter().rev() {
            queued.panics += 1;
            if queued.panics < MAX_PANICS {
                (again, panics) = (again + 1, queued.panics.max(panics));
                state.queue.put_back((number, queued));
            } else {
                count(&self.counts.dropped, 1);
                state.queue.forget(&queued.signal);
            }
        }
        if again > 0 {
            let delay = MAX_PANIC_DELAY.min(PANIC_DELAY * 2_u32.pow(u32::from(panics) - 1));
            let paused = self.filled.wait_timeout_while(state, delay, |state| !state.is_closed);
            drop(paused.unwrap_or_else(PoisonError::into_inner));
        }
        again
    }

    /// Returns the signals in memory that are not handled, oldest first, without those that the spool still holds.
    fn pending(&self) -> Vec<Queued> {
        let state = self.state();
        let pending = state.in_flight.iter().chain(state.queue.iter()).filter(|queued| !queued.is_spooled);
        pending.cloned().collect()
    }

    /// Waits for signals and returns a batch of one depth; `None` once the queue is closed and empty. Calls `changed` with the
    /// number of waiting signals before and after reading the spool.
    fn next_batch(&self, spool: Option<&dyn Spool>, changed: impl Fn(usize, usize)) -> Option<(u8, Vec<TakenSignal>)> {
        let mut state = self.state();
        let mut is_locked_out = false;
        loop {
            let is_due = state.queue.one_offs() == 0 && (state.spooled > 0 || state.read_back.is_some());
            if let Some(spool) = spool.filter(|_| is_due) {
                let before = state.waiting();
                is_locked_out = self.refill(&mut state, spool).is_err();
                changed(before, state.waiting());
            }
            if !state.queue.is_empty() {
                state.queue.trim();
                let (depth, batch) = state.queue.take(BATCH);
                state.in_flight = batch.iter().map(|(_, queued)| queued.clone()).collect();
                return Some((depth, batch));
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

    /// Removes the one-offs from the spool that were handled, and reads the next ones back into memory. Unreadable ones are
    /// dropped and counted.
    fn refill(&self, state: &mut QueueState, spool: &dyn Spool) -> Result<(), StoreError> {
        if let Some(last) = state.read_back {
            spool.remove(&self.spool_name, last)?;
            state.read_back = None;
        }
        if state.spooled == 0 {
            return Ok(());
        }
        let records = spool.peek(&self.spool_name, BATCH, usize::MAX)?;
        state.read_back = records.last().map(|last| last.id);
        state.spooled = if records.is_empty() { 0 } else { state.spooled.saturating_sub(records.len() as u64) };
        for record in &records {
            match serde_json::from_slice::<StoredSignal<Signal>>(&record.bytes) {
                Ok(stored) => {
                    state.queue.push(Queued { is_spooled: true, ..stored.into() });
                }
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
            (
                "sre.signal_handler.coalesced",
                self.coalesced,
                "Signals that repeated a waiting state, or came after the end.",
            ),
            ("sre.signal_handler.spooled", self.spooled, "One-off signals written to the spool."),
            ("sre.signal_handler.panics", self.panicked, "Panics of the handler over a single signal."),
            ("sre.signal_handler.dropped", self.dropped, "Signals dropped."),
        ] {
            emit(Metric::counter(name, count as f64).with_label("handler", self.name.as_str()).with_help(help));
        }
        let queued = Metric::gauge("sre.signal_handler.queue_length", self.queued as f64);
        emit(queued.with_label("handler", self.name.as_str()).with_help("Signals waiting for the handler."));
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{MemorySpool, Severity, SpoolSize, SpooledRecord, Timestamp};

    use super::*;

    fn one_off(second: i64) -> Signal {
        Signal::one_off("test", "one", Severity::Info, Timestamp::from_secs(second))
    }

    #[test]
    fn one_offs_stay_in_the_spool_until_they_are_handled() {
        let (spool, changed) = (MemorySpool::default(), |_, _| {});
        let queue = HandlerQueue::new("test", Some(&spool));
        for second in 0..(MAX_ONE_OFFS + 3) as i64 {
            queue.push(&mut queue.state(), Queued::new(Arc::new(one_off(second)), 0), Some(&spool));
        }
        let spooled = || spool.size(&queue.spool_name).unwrap().records;
        let mut handled = 0;
        while handled < MAX_ONE_OFFS {
            let (_, batch) = queue.next_batch(Some(&spool), changed).unwrap();
            handled += batch.len();
            queue.finish(batch.len(), Vec::new());
        }
        let (_, last) = queue.next_batch(Some(&spool), changed).unwrap();
        assert_eq!((last.len(), spooled()), (3, 3), "a kill now loses none of them");
        assert!(queue.pending().is_empty(), "what is in the spool needs no other copy");
        queue.finish(last.len(), Vec::new());
        queue.state().is_closed = true;
        assert!(queue.next_batch(Some(&spool), changed).is_none());
        assert_eq!(spooled(), 0);
    }

    #[test]
    fn a_signal_given_up_is_counted_as_dropped() {
        let queue = HandlerQueue::new("test", None);
        let begin = Signal::firing("test", "a", Severity::Critical, Timestamp::from_secs(1));
        queue.push(&mut queue.state(), Queued::new(Arc::new(begin), 0), None);
        queue.state().is_closed = true;
        for _ in 0..MAX_PANICS {
            let (_, batch) = queue.next_batch(None, |_, _| {}).unwrap();
            queue.finish(1, batch);
        }
        assert_eq!((queue.stats().panicked, queue.stats().dropped), (u64::from(MAX_PANICS), 1));
    }

    #[test]
    fn the_spool_and_the_saved_state_keep_the_depth_of_a_signal() {
        let spool = MemorySpool::default();
        let queue = HandlerQueue::new("test", Some(&spool));
        queue.state().spooled = 1;
        queue.push(&mut queue.state(), Queued::new(Arc::new(one_off(1)), 5), Some(&spool));
        let (depth, batch) = queue.next_batch(Some(&spool), |_, _| {}).unwrap();
        assert_eq!((depth, batch.len()), (5, 1));
        let json = serde_json::to_string(&Queued::new(Arc::new(one_off(1)), 5).stored()).unwrap();
        let stored: StoredSignal<Signal> = serde_json::from_str(&json).unwrap();
        assert_eq!((stored.depth, stored.signal), (5, one_off(1)));
        let before_depth = serde_json::to_string(&one_off(1)).unwrap();
        assert_eq!(serde_json::from_str::<StoredSignal<Signal>>(&before_depth).unwrap().depth, 0);
    }

    /// Its size cannot be read.
    struct Sizeless(MemorySpool);

    impl Spool for Sizeless {
        fn append(&self, queue: &str, records: &[&[u8]]) -> Result<u64, StoreError> {
            self.0.append(queue, records)
        }

        fn peek(&self, queue: &str, limit: usize, bytes: usize) -> Result<Vec<SpooledRecord>, StoreError> {
            self.0.peek(queue, limit, bytes)
        }

        fn remove(&self, queue: &str, up_to: u64) -> Result<(), StoreError> {
            self.0.remove(queue, up_to)
        }

        fn size(&self, _queue: &str) -> Result<SpoolSize, StoreError> {
            Err(StoreError::unavailable("spool", "busy"))
        }

        fn queues(&self) -> Result<Vec<String>, StoreError> {
            self.0.queues()
        }
    }

    #[test]
    fn a_spool_with_more_than_was_known_is_read_to_its_end() {
        let spool = Arc::new(Sizeless(MemorySpool::default()));
        let earlier: Vec<Vec<u8>> = (0..5).map(|second| serde_json::to_vec(&one_off(second)).unwrap()).collect();
        let earlier: Vec<&[u8]> = earlier.iter().map(Vec::as_slice).collect();
        spool.append("signals/slow", &earlier).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (gate, seen) = (Mutex::new(gate), Arc::new(AtomicU64::new(0)));
        let count = seen.clone();
        let handler = move |_: &Signal| {
            let _ = gate.lock().unwrap().recv();
            count.fetch_add(1, Ordering::SeqCst);
        };
        let handlers: Vec<(String, Arc<dyn SignalHandler>)> = vec![("slow".to_owned(), Arc::new(handler))];
        let (dispatcher, threads) = Dispatcher::start(handlers, Vec::new(), Some(spool)).unwrap();
        let total = (BATCH + MAX_ONE_OFFS + 1) as i64;
        (0..total).for_each(|second| dispatcher.send(one_off(second)));
        drop(open);
        assert!(dispatcher.flush(Some(Duration::from_secs(60))));
        dispatcher.close();
        threads.into_iter().for_each(|thread| thread.join().expect("the thread ends without a panic"));
        assert_eq!(seen.load(Ordering::SeqCst), total.cast_unsigned() + 5);
    }
}
