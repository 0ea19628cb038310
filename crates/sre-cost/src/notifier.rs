use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use sre_core::{CostAlert, Signal, SignalHandler, SignalKind, lock};

/// Keeps the most recent alerts, and sends each as a signal.
#[derive(Default)]
pub(crate) struct Notifier {
    state: Mutex<State>,
    handler: OnceLock<Arc<dyn SignalHandler>>,
}

#[derive(Default)]
struct State {
    alerts: VecDeque<CostAlert>,
    /// Signals for the next caller of `take_pending`, while there is no handler.
    pending: Vec<Signal>,
    lost: u64,
}

const MAX_ALERTS: usize = 1_000;
const MAX_PENDING: usize = 4_096;

impl Notifier {
    pub(crate) fn set_handler(&self, handler: Arc<dyn SignalHandler>) -> bool {
        self.handler.set(handler).is_ok()
    }

    /// Records and sends alerts. Must be called without a lock held: a handler is the user's code.
    #[inline]
    pub(crate) fn notify(&self, alerts: &[CostAlert]) {
        if !alerts.is_empty() {
            self.notify_all(alerts);
        }
    }

    #[cold]
    fn notify_all(&self, alerts: &[CostAlert]) {
        let signals = alerts.iter().map(|alert| Signal {
            time: alert.at,
            agent: alert.scope.agent_name().to_owned(),
            kind: SignalKind::Cost(alert.clone()),
        });
        let mut state = self.state();
        state.alerts.extend(alerts.iter().cloned());
        let excess = state.alerts.len().saturating_sub(MAX_ALERTS);
        state.alerts.drain(..excess);
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

    /// Returns the most recent alerts, oldest first.
    pub(crate) fn alerts(&self) -> Vec<CostAlert> {
        self.state().alerts.iter().cloned().collect()
    }

    pub(crate) fn take_pending(&self) -> Vec<Signal> {
        std::mem::take(&mut self.state().pending)
    }

    /// Returns how many signals were dropped because too many were pending.
    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
