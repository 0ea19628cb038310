use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use sre_core::Timestamp;

use crate::state_machine::{Admission, Outcome};
use crate::{CircuitBreaker, CircuitOpen, ErrorClass};

/// An admitted call, whose result is reported with [`success`](Self::success), [`failure`](Self::failure) or
/// [`error`](Self::error).
///
/// A permit dropped without a result counts as a failure, so that panics and cancelled futures do.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as a failed call"]
pub struct Permit<B: Deref<Target = CircuitBreaker>> {
    breaker: B,
    admission: Admission,
    /// Set when slow calls count.
    started: Option<Timestamp>,
    is_recorded: bool,
}

impl CircuitBreaker {
    /// Admits a call, whose result must be reported to the returned permit. A permit dropped without a result counts as a
    /// failure.
    ///
    /// # Errors
    ///
    /// Returns an error with the time to wait when the call is rejected.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, CircuitOpen> {
        self.admit().map(|admission| Permit::new(self, admission))
    }

    /// Like [`try_acquire`](Self::try_acquire), with a permit that owns its breaker.
    ///
    /// # Errors
    ///
    /// Returns an error with the time to wait when the call is rejected.
    pub fn try_acquire_owned(self: &Arc<Self>) -> Result<Permit<Arc<Self>>, CircuitOpen> {
        self.admit().map(|admission| Permit::new(self.clone(), admission))
    }
}

/// Slow-call thresholds from this length on are measured with the coarse clock.
const COARSE_THRESHOLD: Duration = Duration::from_secs(1);

impl<B: Deref<Target = CircuitBreaker>> Permit<B> {
    #[inline]
    pub(crate) fn new(breaker: B, admission: Admission) -> Self {
        let started = if breaker.window().is_some_and(|window| window.slow_call.is_some()) {
            Some(read_clock(&breaker))
        } else {
            None
        };
        Self { breaker, admission, started, is_recorded: false }
    }

    /// Records that the call succeeded.
    #[inline]
    pub fn success(mut self) {
        self.is_recorded = true;
        let is_slow = self.started.is_some() && self.is_slow();
        if is_slow || !self.breaker.count_success(self.admission) {
            self.record(Outcome::Counted { failed: false, slow: is_slow });
        }
    }

    /// Records that the call failed.
    pub fn failure(self) {
        self.error(ErrorClass::Failure);
    }

    /// Records that the call ended with an error of the given class.
    pub fn error(mut self, class: ErrorClass) {
        self.is_recorded = true;
        let outcome = match self.breaker.outcome_of(class) {
            Outcome::Counted { failed, .. } => Outcome::Counted { failed, slow: self.is_slow() },
            Outcome::Ignored => Outcome::Ignored,
        };
        self.record(outcome);
    }

    fn is_slow(&self) -> bool {
        let duration = self.started.map(|started| read_clock(&self.breaker).since(started));
        self.breaker.window().is_some_and(|window| window.is_slow(duration))
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

/// Reads the cheapest clock that is exact enough to detect slow calls.
fn read_clock(breaker: &CircuitBreaker) -> Timestamp {
    match breaker.window().and_then(|window| window.slow_call) {
        Some(threshold) if threshold < COARSE_THRESHOLD => breaker.clock().now(),
        _ => breaker.clock().coarse_now(),
    }
}
