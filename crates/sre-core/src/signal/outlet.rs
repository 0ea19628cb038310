use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use super::{Signal, SignalSink};
use crate::private::lock;

/// Sends an engine's signals in the order in which they were queued, whatever threads they come from. An engine that queues
/// under the lock of the state that a signal reports, and flushes after its release, so sends them in the order of its changes.
///
/// Until a sink is connected, up to 4,096 signals wait, which the engine's next observation or evaluation can take instead.
///
/// ```
/// use sre_core::{Severity, Signal, SignalOutlet, Timestamp};
/// let outlet = SignalOutlet::default();
/// outlet.queue(Signal::one_off("queue", "queue/full", Severity::Warning, Timestamp::default()));
/// let mut taken = Vec::new();
/// outlet.flush_to(&mut |signal| taken.push(signal));
/// assert_eq!(taken.len(), 1);
/// ```
#[derive(Default)]
pub struct SignalOutlet {
    sink: OnceLock<Arc<dyn SignalSink>>,
    queued: Mutex<Queued>,
    /// Held by the thread that sends.
    sending: Mutex<()>,
}

#[derive(Default)]
struct Queued {
    signals: VecDeque<Signal>,
    dropped: u64,
}

const MAX_QUEUED: usize = 4_096;

impl SignalOutlet {
    /// Connects a sink and sends it the queued signals. Returns false, and changes nothing, if a sink is already connected.
    pub fn connect(&self, sink: Arc<dyn SignalSink>) -> bool {
        let is_first = self.sink.set(sink).is_ok();
        if is_first {
            self.flush();
        }
        is_first
    }

    /// Queues a signal. May be called with locks held.
    pub fn queue(&self, signal: Signal) {
        let mut queued = lock(&self.queued);
        if self.sink.get().is_some() || queued.signals.len() < MAX_QUEUED {
            queued.signals.push_back(signal);
        } else {
            queued.dropped += 1;
        }
    }

    /// Queues signals that the caller bounds in number, such as the last of every incident. May be called with locks held.
    pub fn queue_all(&self, signals: impl IntoIterator<Item = Signal>) {
        lock(&self.queued).signals.extend(signals);
    }

    /// Sends the queued signals to the sink, if one is connected. A thread that is sending already sends them, too. Must be
    /// called without holding a lock, because the sink may run any code.
    pub fn flush(&self) {
        let Some(sink) = self.sink.get() else { return };
        // Signals queued by a thread that found another one sending are sent by that one, which looks once more after it has
        // released the lock.
        while !lock(&self.queued).signals.is_empty() {
            let _sending = match self.sending.try_lock() {
                Ok(sending) => sending,
                Err(TryLockError::Poisoned(sending)) => sending.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(signal) = self.next() {
                sink.send(signal);
            }
        }
    }

    /// Sends the queued signals to the sink or, if none is connected, to `signals`.
    pub fn flush_to(&self, signals: &mut dyn FnMut(Signal)) {
        if self.sink.get().is_some() {
            return self.flush();
        }
        while let Some(signal) = self.next() {
            signals(signal);
        }
    }

    fn next(&self) -> Option<Signal> {
        lock(&self.queued).signals.pop_front()
    }

    /// Returns the number of signals dropped because too many were queued.
    pub fn dropped(&self) -> u64 {
        lock(&self.queued).dropped
    }
}

impl std::fmt::Debug for SignalOutlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalOutlet").field("is_connected", &self.sink.get().is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::{Severity, Timestamp};

    fn signal(second: i64) -> Signal {
        Signal::firing("test", "key", Severity::Warning, Timestamp::from_secs(second))
    }

    #[test]
    fn signals_of_many_threads_arrive_in_the_order_of_the_changes_that_they_report() {
        const THREADS: usize = 4;
        const CHANGES: usize = 2_000;
        let (outlet, state, start) = (SignalOutlet::default(), Mutex::new(0_i64), Barrier::new(THREADS));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        outlet.connect(Arc::new(move |signal: Signal| lock(&sink).push(signal.time.as_secs())));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..CHANGES {
                        let mut state = lock(&state);
                        *state += 1;
                        outlet.queue(signal(*state));
                        drop(state);
                        outlet.flush();
                    }
                });
            }
        });
        let expected: Vec<i64> = (1..).take(THREADS * CHANGES).collect();
        assert_eq!(*lock(&seen), expected, "none is lost, and none overtakes another");
    }

    #[test]
    fn a_sink_may_raise_signals_and_panic() {
        let outlet = Arc::new(SignalOutlet::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (raising, sink) = (outlet.clone(), seen.clone());
        outlet.connect(Arc::new(move |signal: Signal| {
            let second = signal.time.as_secs();
            lock(&sink).push(second);
            if second == 1 {
                raising.queue(super::tests::signal(10));
                raising.flush();
            }
            assert_ne!(second, 2, "a mistake of the sink");
        }));
        let send = |second| {
            outlet.queue(signal(second));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| outlet.flush())).is_ok()
        };
        assert_eq!([1, 2, 3].map(send), [true, false, true]);
        assert_eq!(*lock(&seen), [1, 10, 2, 3]);
    }

    #[test]
    fn without_a_sink_a_bounded_number_waits() {
        let outlet = SignalOutlet::default();
        (0..MAX_QUEUED as i64 + 3).for_each(|second| outlet.queue(signal(second)));
        let mut taken = 0;
        outlet.flush_to(&mut |_| taken += 1);
        assert_eq!((taken, outlet.dropped()), (MAX_QUEUED, 3));
    }
}
