use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sre_core::{
    BreakerChange, BreakerSnapshot, BreakerState, Clock, RateLimiter, SignalSink, SystemClock, Target, Timestamp,
};

use crate::settings::{Settings, SignalSender};
use crate::shared_machine::{Guarded, SharedMachine};
use crate::state_machine::{Admission, Outcome, StateMachine, Transition};
use crate::sync::{AtomicU64, Ordering};
use crate::{BreakerConfig, CircuitOpen, ErrorClass, InvalidConfig, SlidingWindow};

/// A circuit breaker: admits calls while the callee is healthy and rejects them for a while when it fails, so that callers
/// fail fast and the callee can recover (M. Nygard, *Release It!*).
///
/// A successful call through a closed breaker takes no lock. Failures and state transitions take one, and are counted exactly:
/// a result counts only for the state in which its call began.
///
/// ```
/// use sre_cascade::{CallError, CircuitBreaker};
/// let breaker = CircuitBreaker::new("planner");
/// for _ in 0..5 {
///     let answer: Result<(), _> = breaker.call(|| Err("no answer"));
///     assert_eq!(answer, Err(CallError::Inner("no answer")));
/// }
/// assert!(matches!(breaker.call(|| Ok::<_, &str>("fine")), Err(CallError::Open { .. })));
/// assert_eq!(breaker.call_or(|| Ok::<_, &str>("fine"), |_| Ok("from the cache")), Ok("from the cache"));
/// ```
pub struct CircuitBreaker {
    target: Target,
    /// Identifies this breaker to its listener.
    id: u32,
    settings: Arc<Settings>,
    machine: SharedMachine,
    rejected: AtomicU64,
}

/// The part of a breaker that outlives a restart.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedBreaker {
    machine: StateMachine,
    rejected: u64,
}

impl SavedBreaker {
    /// Returns whether its window has no calls.
    pub(crate) fn is_idle(&self) -> bool {
        self.machine.counts().calls == 0
    }
}

impl CircuitBreaker {
    /// Creates a breaker with the default configuration: it opens for 30 s after five consecutive failures, and then one
    /// probe call decides whether it closes.
    pub fn new(target: impl Into<Target>) -> Self {
        let settings = Settings::new(BreakerConfig::default(), Arc::new(SystemClock), None);
        Self::from_settings(target.into(), 0, Arc::new(settings))
    }

    /// Creates a breaker with the given configuration.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first invalid field of `config`.
    pub fn with_config(target: impl Into<Target>, config: BreakerConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let settings = Settings::new(config, Arc::new(SystemClock), None);
        Ok(Self::from_settings(target.into(), 0, Arc::new(settings)))
    }

    /// Replaces the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        Arc::make_mut(&mut self.settings).clock = clock;
        self
    }

    /// Sends every state transition to `signals`, as a [`SignalKind::BreakerChanged`](sre_core::SignalKind::BreakerChanged),
    /// on the thread that causes it.
    #[must_use]
    pub fn with_signals(mut self, signals: Arc<dyn SignalSink>) -> Self {
        Arc::make_mut(&mut self.settings).listener = Some(Arc::new(SignalSender(signals)));
        self
    }

    pub(crate) fn from_settings(target: Target, id: u32, settings: Arc<Settings>) -> Self {
        let machine = SharedMachine::new(&settings.config);
        Self { target, id, settings, machine, rejected: AtomicU64::new(0) }
    }

    /// Returns the callee that this breaker protects.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the current state. An open breaker whose recovery timeout has elapsed is reported as half-open, although the
    /// transition happens, and is signalled, with the next call.
    pub fn state(&self) -> BreakerState {
        match self.machine.packed().state() {
            BreakerState::Open if self.machine.time_left(self.clock()).is_none() => BreakerState::HalfOpen,
            state => state,
        }
    }

    /// Returns the number of consecutive failures, or of failures in the sliding window; while the breaker is open, of those that
    /// opened it, and while it is half-open, of failed probe calls.
    pub fn failure_count(&self) -> u32 {
        let packed = self.machine.packed();
        match packed.state() {
            BreakerState::Closed if self.window().is_some() => {
                self.update(self.clock().now(), |guarded, _, _| guarded.machine.failure_count())
            }
            _ => packed.failures(),
        }
    }

    /// Records the success of a call made without a permit.
    pub fn record_success(&self) {
        let packed = self.machine.packed();
        let admission = Admission { generation: packed.generation(), is_probe: false };
        if packed.state() != BreakerState::Closed || !self.count_success(admission) {
            self.record(None, Outcome::Counted { failed: false, slow: false }, self.clock().now());
        }
    }

    /// Records the failure of a call made without a permit.
    pub fn record_failure(&self) {
        self.record(None, Outcome::Counted { failed: true, slow: false }, self.clock().now());
    }

    /// Closes the breaker and clears its counts, also when it is forced open, disabled or rate limited.
    pub fn reset(&self) {
        self.update(self.clock().now(), |guarded, now, transitions| {
            guarded.limiter = None;
            guarded.machine.transition_to(BreakerState::Closed, now, "reset".to_owned(), transitions);
        });
    }

    /// Opens a closed or half-open breaker for the recovery timeout, as failures would. Other states stay as they are.
    pub fn trip(&self, reason: &str) {
        self.update(self.clock().now(), |guarded, now, transitions| {
            if matches!(guarded.machine.state(), BreakerState::Closed | BreakerState::HalfOpen) {
                guarded.machine.open(&self.settings.config, now, reason.to_owned(), transitions);
            }
        });
    }

    /// Rejects every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.update(self.clock().now(), |guarded, now, transitions| {
            guarded.machine.transition_to(BreakerState::ForcedOpen, now, "forced open".to_owned(), transitions);
        });
    }

    /// Admits every call and counts no results until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.update(self.clock().now(), |guarded, now, transitions| {
            guarded.machine.transition_to(BreakerState::Disabled, now, "disabled".to_owned(), transitions);
        });
    }

    /// Limits a closed breaker to one call per `interval`. `None` and intervals below 1 ns remove the limit.
    pub fn limit(&self, interval: Option<Duration>) {
        let clock = self.settings.clock.clone();
        self.update(self.clock().now(), |guarded, _, _| {
            let limiter = interval.and_then(|interval| RateLimiter::new(interval, NonZeroU32::MIN, clock));
            guarded.limiter = limiter.map(Box::new);
        });
    }

    /// Returns the current state and counters.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.snapshot_at(self.clock().now())
    }

    pub(crate) fn snapshot_at(&self, now: Timestamp) -> BreakerSnapshot {
        self.update(now, |Guarded { machine, .. }, now, _| {
            let left = machine.open_period().map(|(_, until)| until.since(now)).filter(|left| !left.is_zero());
            let state = match machine.state() {
                BreakerState::Open if left.is_none() => BreakerState::HalfOpen,
                state => state,
            };
            let mut snapshot = BreakerSnapshot::new(self.target.clone(), state);
            snapshot.failure_count = machine.failure_count();
            snapshot.window = self.window().map(|_| machine.counts());
            snapshot.retry_after_s = left.map(|left| left.as_secs_f64());
            snapshot.opened = machine.opened();
            snapshot.rejected = self.rejected.load(Ordering::Relaxed);
            snapshot.late = machine.late();
            snapshot
        })
    }

    /// Returns what a restart must not change.
    pub(crate) fn save(&self) -> SavedBreaker {
        let machine =
            self.machine.update(&self.settings, self.clock().now(), |guarded, _, _| guarded.machine.clone()).0;
        SavedBreaker { machine, rejected: self.rejected.load(Ordering::Relaxed) }
    }

    /// Restores what was saved, perhaps under another configuration, without signals.
    pub(crate) fn restore(&self, saved: SavedBreaker) {
        let config = &self.settings.config;
        self.machine
            .update(&self.settings, self.clock().now(), |guarded, _, _| guarded.machine.restore(saved.machine, config));
        self.rejected.store(saved.rejected, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.settings.clock
    }

    pub(crate) fn window(&self) -> Option<&SlidingWindow> {
        self.settings.config.window.as_ref()
    }

    /// Admits a call, or rejects it with the time to wait.
    #[inline]
    pub(crate) fn admit(&self) -> Result<Admission, CircuitOpen> {
        let packed = self.machine.packed();
        if packed.admits_all() {
            return Ok(Admission { generation: packed.generation(), is_probe: false });
        }
        self.admit_slow(packed.state())
    }

    #[cold]
    fn admit_slow(&self, state: BreakerState) -> Result<Admission, CircuitOpen> {
        // An open breaker rejects without the lock, so that many rejected callers do not contend for it.
        let retry_after = match state {
            BreakerState::Open => self.machine.time_left(self.clock()),
            BreakerState::ForcedOpen => Some(Duration::MAX),
            _ => None,
        };
        let admitted = match retry_after {
            Some(retry_after) => Err(retry_after),
            None => self.update(self.clock().now(), |guarded, now, transitions| {
                guarded.machine.advance(&self.settings.config, now, transitions);
                match &guarded.limiter {
                    Some(limiter) if guarded.machine.state() == BreakerState::Closed => limiter.check()?,
                    _ => {}
                }
                guarded.machine.admit(&self.settings.config, now)
            }),
        };
        admitted.map_err(|retry_after| {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            CircuitOpen { retry_after }
        })
    }

    /// Returns how an error of `class` counts.
    pub(crate) fn outcome_of(&self, class: ErrorClass) -> Outcome {
        match class {
            ErrorClass::RateLimit if !self.settings.config.count_rate_limits => Outcome::Ignored,
            ErrorClass::Caller => Outcome::Ignored,
            ErrorClass::Failure | ErrorClass::RateLimit => Outcome::Counted { failed: true, slow: false },
        }
    }

    /// Counts a success without the lock. Returns false if the success must be recorded under the lock instead.
    #[inline]
    pub(crate) fn count_success(&self, admission: Admission) -> bool {
        self.machine.count_success(&self.settings, admission)
    }

    /// Records the outcome of a call. Without an admission it counts for the current state.
    pub(crate) fn record(&self, admission: Option<Admission>, outcome: Outcome, now: Timestamp) {
        self.update(now, |Guarded { machine, .. }, now, transitions| {
            machine.advance(&self.settings.config, now, transitions);
            let admission = admission.unwrap_or_else(|| machine.unguarded_admission());
            machine.record(&self.settings.config, admission, outcome, now, transitions);
        });
        if let (Some(listener), Outcome::Counted { failed: true, .. }) = (&self.settings.listener, outcome) {
            listener.on_failure(self.id, now);
        }
    }

    /// Records the result of a call that was made elsewhere and reported later; `error` is `None` for a success.
    pub(crate) fn record_observed(&self, error: Option<ErrorClass>, duration: Option<Duration>, at: Timestamp) {
        let slow = self.window().is_some_and(|window| window.is_slow(duration));
        let outcome = match error.map(|class| self.outcome_of(class)) {
            None => Outcome::Counted { failed: false, slow },
            Some(Outcome::Counted { failed, .. }) => Outcome::Counted { failed, slow },
            Some(Outcome::Ignored) => Outcome::Ignored,
        };
        self.record(None, outcome, at);
    }

    /// Makes the transitions that are due at `now`.
    pub(crate) fn advance_to(&self, now: Timestamp) {
        if matches!(self.machine.packed().state(), BreakerState::Open | BreakerState::HalfOpen) {
            self.update(now, |guarded, now, transitions| {
                guarded.machine.advance(&self.settings.config, now, transitions);
            });
        }
    }

    /// Runs `act` under the lock, then reports the transitions it made.
    fn update<R>(&self, now: Timestamp, act: impl FnOnce(&mut Guarded, Timestamp, &mut Vec<Transition>) -> R) -> R {
        let (result, transitions) = self.machine.update(&self.settings, now, act);
        if let Some(listener) = &self.settings.listener {
            for Transition { from, to, number, reason, open_for } in transitions {
                let mut change = BreakerChange::new(self.target.clone(), from, to, number, reason);
                change.retry_after_s = open_for.map(|open_for| open_for.as_secs_f64());
                listener.on_change(self.id, now, change);
            }
        }
        result
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("target", &self.target)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
