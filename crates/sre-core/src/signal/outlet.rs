use std::sync::{Arc, Mutex, OnceLock};

use super::{Signal, SignalSink};
use crate::private::lock;

/// Buffers an engine's signals until a sink is connected, then forwards them. Signals may come from any thread. The
/// buffer holds up to 4,096 signals, which the engine's next observation or evaluation can take instead.
///
/// ```
/// use sre_core::{Severity, Signal, SignalOutlet, Timestamp};
/// let outlet = SignalOutlet::default();
/// outlet.send(Signal::one_off("queue", "queue/full", Severity::Warning, Timestamp::default()));
/// assert_eq!(outlet.take_pending().len(), 1);
/// ```
#[derive(Default)]
pub struct SignalOutlet {
    sink: OnceLock<Arc<dyn SignalSink>>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    signals: Vec<Signal>,
    dropped: u64,
}

const MAX_PENDING: usize = 4_096;

impl SignalOutlet {
    /// Connects a sink and sends it the buffered signals. Returns false, and changes nothing, if a sink is already
    /// connected.
    pub fn connect(&self, sink: Arc<dyn SignalSink>) -> bool {
        let is_first = self.sink.set(sink.clone()).is_ok();
        if is_first {
            self.take_pending().into_iter().for_each(|signal| sink.send(signal));
        }
        is_first
    }

    /// Sends a signal. Must be called without holding a lock, because the sink may run any code.
    pub fn send(&self, signal: Signal) {
        if let Some(sink) = self.sink.get() {
            return sink.send(signal);
        }
        let mut pending = lock(&self.pending);
        if pending.signals.len() < MAX_PENDING {
            pending.signals.push(signal);
        } else {
            pending.dropped += 1;
        }
    }

    /// Removes and returns the buffered signals, oldest first.
    pub fn take_pending(&self) -> Vec<Signal> {
        std::mem::take(&mut lock(&self.pending).signals)
    }

    /// Returns the number of signals dropped because the buffer was full.
    pub fn dropped(&self) -> u64 {
        lock(&self.pending).dropped
    }
}

impl std::fmt::Debug for SignalOutlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalOutlet").field("is_connected", &self.sink.get().is_some()).finish_non_exhaustive()
    }
}
