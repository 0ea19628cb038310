use std::ops::Deref;
use std::time::Duration;

use sre_core::Timestamp;

use crate::state_machine::{Admission, Outcome};
use crate::{CircuitBreaker, ErrorClass};

/// A call that a breaker let through. Tell it how the call ended; dropped without a word, the call has failed: that is what
/// a panic or a cancelled future does to it.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as a failed call"]
pub struct Permit<B: Deref<Target = CircuitBreaker>> {
    breaker: B,
    admission: Admission,
    /// Where slow calls count.
    started: Option<Timestamp>,
    is_recorded: bool,
}

/// From this length on, what is slow is measured by the coarse clock.
const COARSE: Duration = Duration::from_secs(1);

impl<B: Deref<Target = CircuitBreaker>> Permit<B> {
    #[inline]
    pub(crate) fn new(breaker: B, admission: Admission) -> Self {
        let started = if breaker.window().is_some_and(|window| window.slow_call.is_some()) {
            Some(watch(&breaker))
        } else {
            None
        };
        Self { breaker, admission, started, is_recorded: false }
    }

    /// The call succeeded.
    #[inline]
    pub fn success(mut self) {
        self.is_recorded = true;
        let is_slow = self.started.is_some() && self.is_slow();
        if is_slow || !self.breaker.count_success(self.admission) {
            self.record(Outcome::Counted { failed: false, slow: is_slow });
        }
    }

    /// The call failed.
    pub fn failure(self) {
        self.error(ErrorClass::Failure);
    }

    /// The call brought an error of that class.
    pub fn error(mut self, class: ErrorClass) {
        self.is_recorded = true;
        let outcome = match self.breaker.outcome_of(class) {
            Outcome::Counted { failed, .. } => Outcome::Counted { failed, slow: self.is_slow() },
            Outcome::Ignored => Outcome::Ignored,
        };
        self.record(outcome);
    }

    fn is_slow(&self) -> bool {
        let took = self.started.map(|started| watch(&self.breaker).since(started));
        self.breaker.window().is_some_and(|window| window.is_slow(took))
    }

    #[cold]
    fn record(&self, outcome: Outcome) {
        self.breaker.record(Some(self.admission), outcome, self.breaker.clock().now());
    }
}

impl<B: Deref<Target = CircuitBreaker>> Drop for Permit<B> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_recorded {
            self.record(Outcome::Counted { failed: true, slow: self.is_slow() });
        }
    }
}

/// The time, as exact as telling slow calls needs it.
fn watch(breaker: &CircuitBreaker) -> Timestamp {
    match breaker.window().and_then(|window| window.slow_call) {
        Some(most) if most < COARSE => breaker.clock().now(),
        _ => breaker.clock().coarse_now(),
    }
}
