use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sre_core::{
    BreakerChange, BreakerSnapshot, BreakerState, Clock, RateLimiter, Signal, SignalHandler, SignalKind, SystemClock,
    Target, Timestamp,
};

use crate::packed_state::PackedState;
use crate::state_machine::{Admission, Outcome, StateMachine, Transition};
use crate::striped_counter::{StripedCounter, Tag};
use crate::sync::{AtomicI64, AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::{BreakerConfig, CircuitOpen, ErrorClass, InvalidConfig, Permit, SlidingWindow};

/// Lets calls through while the callee is well, and refuses them for a while when it is not, so that callers fail at once
/// instead of waiting and the callee gets a rest (M. Nygard, *Release It!*).
///
/// While all is well a call costs a read before it, and after it another read (or, with a sliding window, a write to memory
/// that no other thread touches). Failures and changes of state take a lock, and are exact: a result counts for the state its
/// call began in, and for no other.
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
    /// What its watcher calls it.
    id: u32,
    settings: Arc<Settings>,
    /// A [`PackedState`]; written under the lock.
    packed: AtomicU64,
    /// When an open breaker opened, and when it lets trial calls through, in nanoseconds; written under the lock.
    opened_at: AtomicI64,
    retry_at: AtomicI64,
    rejected: AtomicU64,
    /// Made by the first call, where a window needs them.
    counter: OnceLock<Box<StripedCounter>>,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: StateMachine,
    limiter: Option<Box<RateLimiter>>,
}

/// What many breakers may share.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: BreakerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listener: Option<Arc<dyn BreakerListener>>,
    /// Of the window, where that is one of time.
    slot_width: Option<NonZeroU64>,
}

impl Settings {
    pub(crate) fn new(
        config: BreakerConfig,
        clock: Arc<dyn Clock>,
        listener: Option<Arc<dyn BreakerListener>>,
    ) -> Self {
        let slot_width = config.window.as_ref().and_then(SlidingWindow::slot_width);
        Self { config, clock, listener, slot_width }
    }

    /// In which slot of time a moment is. Where calls are counted there is only one.
    #[inline]
    fn slot_of(&self, now: impl FnOnce(&dyn Clock) -> Timestamp) -> u64 {
        self.slot_width.map_or(0, |width| now(&*self.clock).as_nanos().max(0).unsigned_abs() / width)
    }
}

/// Somebody who is told of failures and changes, after the breaker's lock is released.
pub(crate) trait BreakerListener: Send + Sync {
    fn failed(&self, _id: u32, _at: Timestamp) {}

    fn changed(&self, id: u32, at: Timestamp, change: BreakerChange);
}

struct SignalForwarder(Arc<dyn SignalHandler>);

impl BreakerListener for SignalForwarder {
    fn changed(&self, _id: u32, at: Timestamp, change: BreakerChange) {
        let agent = change.target.agent_name().to_owned();
        self.0.handle(&Signal { time: at, agent, kind: SignalKind::BreakerChanged(change) });
    }
}

/// How far the coarse clock may be behind.
const MAX_COARSE_CLOCK_LAG: Duration = Duration::from_millis(10);

impl CircuitBreaker {
    /// A breaker with the defaults: five failures in a row open it for 30 s, then one trial call decides.
    pub fn new(target: impl Into<Target>) -> Self {
        let settings = Settings::new(BreakerConfig::default(), Arc::new(SystemClock), None);
        Self::shared(target.into(), 0, Arc::new(settings))
    }

    /// A breaker of other settings; the error names the one that cannot be.
    pub fn with_config(target: impl Into<Target>, config: BreakerConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self::shared(target.into(), 0, Arc::new(Settings::new(config, Arc::new(SystemClock), None))))
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        Arc::make_mut(&mut self.settings).clock = clock;
        self
    }

    /// The same, which tells `handler` of every change of state, as a [`SignalKind::BreakerChanged`]. It is called by the
    /// thread that brought the change about, after the change.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn SignalHandler>) -> Self {
        Arc::make_mut(&mut self.settings).listener = Some(Arc::new(SignalForwarder(handler)));
        self
    }

    pub(crate) fn shared(target: Target, id: u32, settings: Arc<Settings>) -> Self {
        let machine = StateMachine::new(&settings.config);
        Self {
            target,
            id,
            packed: AtomicU64::new(machine.packed(false).0),
            opened_at: AtomicI64::new(0),
            retry_at: AtomicI64::new(0),
            rejected: AtomicU64::new(0),
            counter: OnceLock::new(),
            inner: Mutex::new(Inner { machine, limiter: None }),
            settings,
        }
    }

    /// Whose breaker it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it does with calls now. An open breaker whose recovery time is over is half-open, although it turns to that
    /// (and says so) only with the next call.
    pub fn state(&self) -> BreakerState {
        match self.packed().state() {
            BreakerState::Open if self.time_left().is_none() => BreakerState::HalfOpen,
            state => state,
        }
    }

    /// Failures in a row; 0 where a sliding window decides.
    pub fn failure_count(&self) -> u32 {
        self.packed().consecutive_failures()
    }

    /// Lets a call through: its outcome goes to the permit. A permit that is dropped without one counts as a failure.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, CircuitOpen> {
        self.admit().map(|admission| Permit::new(self, admission))
    }

    /// The same for a permit that must outlive the borrow.
    pub fn try_acquire_owned(self: &Arc<Self>) -> Result<Permit<Arc<Self>>, CircuitOpen> {
        self.admit().map(|admission| Permit::new(self.clone(), admission))
    }

    /// A call that was made without asking succeeded.
    pub fn record_success(&self) {
        let packed = self.packed();
        let admission = Admission { generation: packed.generation(), is_probe: false };
        if packed.state() != BreakerState::Closed || !self.count_success(admission) {
            self.record(None, Outcome::Counted { failed: false, slow: false }, self.settings.clock.now());
        }
    }

    /// A call that was made without asking failed.
    pub fn record_failure(&self) {
        self.record(None, Outcome::Counted { failed: true, slow: false }, self.settings.clock.now());
    }

    /// Closes it and forgets everything, also where it was forced open, disabled or limited.
    pub fn reset(&self) {
        self.command(|inner, now, changes| {
            inner.limiter = None;
            inner.machine.transition(BreakerState::Closed, now, "reset".to_owned(), changes);
        });
    }

    /// Opens it now, for the recovery time, as failures would. Nothing happens where it refuses calls already, or is disabled.
    pub fn trip(&self, reason: &str) {
        self.command(|inner, now, changes| {
            if matches!(inner.machine.state(), BreakerState::Closed | BreakerState::HalfOpen) {
                inner.machine.open(&self.settings.config, now, reason.to_owned(), changes);
            }
        });
    }

    /// Refuses every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.command(|inner, now, changes| {
            inner.machine.transition(BreakerState::ForcedOpen, now, "forced open".to_owned(), changes);
        });
    }

    /// Lets every call through, and counts nothing, until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.command(|inner, now, changes| {
            inner.machine.transition(BreakerState::Disabled, now, "disabled".to_owned(), changes);
        });
    }

    /// While it is closed, lets one call through every so often (`None`: as many as come). A rate below once a nanosecond
    /// is none.
    pub fn limit(&self, every: Option<Duration>) {
        let clock = self.settings.clock.clone();
        self.command(|inner, _, _| {
            let limiter = every.and_then(|every| RateLimiter::new(every, std::num::NonZeroU32::MIN, clock));
            inner.limiter = limiter.map(Box::new);
        });
    }

    /// What it is at the moment.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.snapshot_at(self.settings.clock.now())
    }

    pub(crate) fn snapshot_at(&self, now: Timestamp) -> BreakerSnapshot {
        let mut inner = lock(&self.inner);
        self.take_counts(&mut inner, now);
        let machine = &inner.machine;
        let left = machine.open_period().map(|(_, until)| until.since(now)).filter(|left| !left.is_zero());
        let snapshot = BreakerSnapshot {
            target: self.target.clone(),
            state: if machine.state() == BreakerState::Open && left.is_none() {
                BreakerState::HalfOpen
            } else {
                machine.state()
            },
            failure_count: machine.packed(false).consecutive_failures(),
            window: self.settings.config.window.is_some().then(|| machine.counts()),
            retry_after_s: left.map(|left| left.as_secs_f64()),
            opened: machine.opened(),
            rejected: self.rejected.load(Ordering::Relaxed),
            late: machine.late(),
        };
        self.publish(inner);
        snapshot
    }

    fn packed(&self) -> PackedState {
        PackedState(self.packed.load(Ordering::Acquire))
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.settings.clock
    }

    pub(crate) fn window(&self) -> Option<&SlidingWindow> {
        self.settings.config.window.as_ref()
    }

    #[inline]
    fn admit(&self) -> Result<Admission, CircuitOpen> {
        let packed = self.packed();
        if packed.admits_all() {
            return Ok(Admission { generation: packed.generation(), is_probe: false });
        }
        self.admit_slowly(packed)
    }

    #[cold]
    fn admit_slowly(&self, packed: PackedState) -> Result<Admission, CircuitOpen> {
        // Under a storm of calls, an open breaker refuses without its lock.
        let refused = match packed.state() {
            BreakerState::Open => self.time_left(),
            BreakerState::ForcedOpen => Some(Duration::MAX),
            _ => None,
        };
        let admitted = match refused {
            Some(retry_after) => Err(retry_after),
            None => self.locked(self.settings.clock.now(), |inner, now, changes| {
                inner.machine.advance(&self.settings.config, now, changes);
                match &inner.limiter {
                    Some(limiter) if inner.machine.state() == BreakerState::Closed => limiter.check()?,
                    _ => {}
                }
                inner.machine.admit(&self.settings.config, now)
            }),
        };
        admitted.map_err(|retry_after| {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            CircuitOpen { retry_after }
        })
    }

    /// How long an open breaker stays so; `None` where it is time for trial calls, and where the clock was set back, which
    /// is seen to under the lock.
    fn time_left(&self) -> Option<Duration> {
        let now = self.settings.clock.coarse_now();
        // The coarse clock may lag behind the one that opened it.
        let was_set_back = now.saturating_add(MAX_COARSE_CLOCK_LAG).as_nanos() < self.opened_at.load(Ordering::Relaxed);
        let left = Timestamp::from_nanos(self.retry_at.load(Ordering::Relaxed)).since(now);
        (!left.is_zero() && !was_set_back).then_some(left)
    }

    /// What an error of that class is to it.
    pub(crate) fn outcome_of(&self, class: ErrorClass) -> Outcome {
        match class {
            ErrorClass::Failure => Outcome::Counted { failed: true, slow: false },
            ErrorClass::RateLimit if self.settings.config.count_rate_limits => {
                Outcome::Counted { failed: true, slow: false }
            }
            ErrorClass::RateLimit | ErrorClass::Caller => Outcome::Ignored,
        }
    }

    /// Counts a call that went well without the lock; false where that takes the lock.
    #[inline]
    pub(crate) fn count_success(&self, admission: Admission) -> bool {
        if self.settings.config.window.is_none() {
            return self.packed().ignores_success(admission.generation);
        }
        let slot = self.settings.slot_of(|clock| clock.coarse_now());
        self.counter.get().is_some_and(|counter| counter.add(Tag::new(admission.generation, slot, false)))
    }

    /// Takes the outcome of a call in; one without a ticket counts for the state it ends in.
    pub(crate) fn record(&self, admission: Option<Admission>, outcome: Outcome, now: Timestamp) {
        self.locked(now, |inner, now, changes| {
            let machine = &mut inner.machine;
            machine.advance(&self.settings.config, now, changes);
            let admission = admission.unwrap_or_else(|| machine.admission());
            machine.record(&self.settings.config, admission, outcome, now, changes);
        });
        if let (Some(listener), Outcome::Counted { failed: true, .. }) = (&self.settings.listener, outcome) {
            listener.failed(self.id, now);
        }
    }

    /// Takes in the result of a call that somebody else made and told of later.
    pub(crate) fn record_observed(&self, fault: Option<ErrorClass>, took: Option<Duration>, at: Timestamp) {
        let slow = self.window().is_some_and(|window| window.is_slow(took));
        let outcome = match fault.map(|class| self.outcome_of(class)) {
            None => Outcome::Counted { failed: false, slow },
            Some(Outcome::Counted { failed, .. }) => Outcome::Counted { failed, slow },
            Some(Outcome::Ignored) => Outcome::Ignored,
        };
        self.record(None, outcome, at);
    }

    /// Turns to what time alone brings.
    pub(crate) fn advance_to(&self, now: Timestamp) {
        if !matches!(self.packed().state(), BreakerState::Closed | BreakerState::Disabled | BreakerState::ForcedOpen) {
            self.locked(now, |inner, now, changes| inner.machine.advance(&self.settings.config, now, changes));
        }
    }

    fn command(&self, act: impl FnOnce(&mut Inner, Timestamp, &mut Vec<Transition>)) {
        self.locked(self.settings.clock.now(), act);
    }

    /// Acts on the machine, publishes what came of it, and tells of the changes once the lock is released.
    fn locked<R>(&self, now: Timestamp, act: impl FnOnce(&mut Inner, Timestamp, &mut Vec<Transition>) -> R) -> R {
        let mut inner = lock(&self.inner);
        self.take_counts(&mut inner, now);
        let mut changes = Vec::new();
        let result = act(&mut inner, now, &mut changes);
        self.publish(inner);
        if let Some(listener) = &self.settings.listener {
            for change in changes {
                let retry_after_s = change.wait.map(|wait| wait.as_secs_f64());
                let (from, to, number, reason) = (change.from, change.to, change.number, change.reason);
                let target = self.target.clone();
                listener.changed(self.id, now, BreakerChange { target, from, to, number, reason, retry_after_s });
            }
        }
        result
    }

    /// Brings the calls that threads have counted into the machine, and lets none be counted until [`Self::publish`].
    fn take_counts(&self, inner: &mut Inner, now: Timestamp) {
        if let Some(window) = &self.settings.config.window
            && inner.machine.state() == BreakerState::Closed
        {
            let good = self.counter.get().map_or(0, |counter| counter.transition(inner.machine.locked_tag()));
            inner.machine.advance_window(window, good, self.settings.slot_of(|_| now));
        }
    }

    /// Shows the machine's state to those who come without the lock, and releases it.
    fn publish(&self, inner: MutexGuard<'_, Inner>) {
        let machine = &inner.machine;
        if let Some((opened_at, retry_at)) = machine.open_period() {
            self.opened_at.store(opened_at.as_nanos(), Ordering::Relaxed);
            self.retry_at.store(retry_at.as_nanos(), Ordering::Relaxed);
        }
        self.packed.store(machine.packed(inner.limiter.is_some()).0, Ordering::Release);
        if let Some(window) = &self.settings.config.window
            && machine.state() == BreakerState::Closed
        {
            let tag = machine.tag(window);
            match self.counter.get() {
                Some(counter) => {
                    counter.transition(tag);
                }
                None => {
                    self.counter.get_or_init(|| Box::new(StripedCounter::new(tag)));
                }
            }
        }
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
