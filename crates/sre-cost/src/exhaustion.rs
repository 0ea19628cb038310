use sre_core::private::lock;
use sre_core::{
    ExhaustionAction, Signal, SignalHandler, SignalKind, StateError, StateReader, StateWriter, Status, Timestamp,
};

use crate::guard::{CostGuard, Exhausted};

/// Throttles the agent of an objective whose error budget is exhausted, if its exhaustion action is `throttle`: until every
/// such objective recovers, the next day, or [`CostGuard::reset_daily`].
impl SignalHandler for CostGuard {
    fn handle(&self, signals: &[Signal], _emit: &mut dyn FnMut(Signal)) {
        for signal in signals {
            let SignalKind::SloStatusChanged(change) = &signal.kind else { continue };
            if (change.to, change.exhaustion_action) == (Status::Exhausted, ExhaustionAction::Throttle) {
                self.throttle(signal);
            } else {
                self.end_throttle(signal);
            }
        }
    }
}

impl CostGuard {
    fn throttle(&self, signal: &Signal) {
        let now = self.ledger.clock.now();
        self.evaluate_at(now);
        let mut exhausted = lock(&self.exhausted);
        if exhausted.insert(signal.key.clone(), signal.time) == Some(signal.time) {
            return;
        }
        let alerts = self.ledger.throttle(&signal.agent, &signal.key, &signal.slo, now);
        drop(exhausted);
        self.notifier.notify(&alerts);
    }

    fn end_throttle(&self, signal: &Signal) {
        let mut exhausted = lock(&self.exhausted);
        if exhausted.remove(&signal.key).is_none() {
            return;
        }
        let alerts = self.ledger.end_throttle(&signal.agent, &signal.key, self.ledger.clock.now());
        drop(exhausted);
        self.notifier.notify(&alerts);
    }

    pub(crate) fn save_exhausted(&self, state: &mut StateWriter) {
        let exhausted = lock(&self.exhausted);
        state.put(&(self.ledger.period().day, &*exhausted, self.ledger.throttled_by()));
    }

    /// Restores what [`Self::save_exhausted`] wrote. The agents that it throttles were reported then.
    pub(crate) fn restore_exhausted(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let (day, exhausted, throttled_by): (Timestamp, Exhausted, Vec<(String, String)>) = state.take()?;
        if day == self.ledger.period().day {
            for (agent, key) in &throttled_by {
                self.ledger.throttle(agent, key, "", day);
            }
        }
        *lock(&self.exhausted) = exhausted;
        Ok(())
    }
}
