use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use sre_core::{CostAlert, Signal, SignalHandler, SignalKind, lock};

/// Where alerts go: the last ones are kept, and each is a signal.
#[derive(Default)]
pub(crate) struct Told {
    state: Mutex<State>,
    handler: OnceLock<Arc<dyn SignalHandler>>,
}

#[derive(Default)]
struct State {
    alerts: VecDeque<CostAlert>,
    /// What no handler has taken.
    pending: Vec<Signal>,
    lost: u64,
}

const MAX_ALERTS: usize = 1_000;
const MAX_PENDING: usize = 4_096;

impl Told {
    pub(crate) fn set_handler(&self, handler: Arc<dyn SignalHandler>) -> bool {
        self.handler.set(handler).is_ok()
    }

    /// Only where no lock is held: a handler is a user's code.
    #[inline]
    pub(crate) fn tell(&self, alerts: &[CostAlert]) {
        if !alerts.is_empty() {
            self.tell_all(alerts);
        }
    }

    #[cold]
    fn tell_all(&self, alerts: &[CostAlert]) {
        let signals = alerts.iter().map(|alert| Signal {
            time: alert.at,
            agent: alert.scope.agent_name().to_owned(),
            kind: SignalKind::Cost(alert.clone()),
        });
        let mut state = self.state();
        state.alerts.extend(alerts.iter().cloned());
        let too_many = state.alerts.len().saturating_sub(MAX_ALERTS);
        state.alerts.drain(..too_many);
        if let Some(handler) = self.handler.get() {
            drop(state);
            signals.for_each(|signal| handler.handle(&signal));
            return;
        }
        for signal in signals {
            if state.pending.len() < MAX_PENDING {
                state.pending.push(signal);
            } else {
                state.lost += 1;
            }
        }
    }

    /// The last thousand, the oldest first.
    pub(crate) fn alerts(&self) -> Vec<CostAlert> {
        self.state().alerts.iter().cloned().collect()
    }

    pub(crate) fn take_pending(&self) -> Vec<Signal> {
        std::mem::take(&mut self.state().pending)
    }

    /// Signals that nobody took in time.
    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
