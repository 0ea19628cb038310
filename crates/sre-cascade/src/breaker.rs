use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sre_core::{
    BreakerChange, BreakerSnapshot, BreakerState, Clock, RateLimiter, Signal, SignalHandler, SignalKind, SystemClock,
    Target, Timestamp,
};

use crate::cells::{Cells, Tag};
use crate::gate::Gate;
use crate::machine::{Changes, Ended, Machine, Ticket};
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
    /// A [`Gate`]; written under the lock.
    gate: AtomicU64,
    /// When an open breaker opened, and when it lets trial calls through, in nanoseconds; written under the lock.
    opened_at: AtomicI64,
    retry_at: AtomicI64,
    rejected: AtomicU64,
    /// Made by the first call, where a window needs them.
    cells: OnceLock<Box<Cells>>,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Machine,
    limiter: Option<Box<RateLimiter>>,
}

/// What many breakers may share.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: BreakerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watcher: Option<Arc<dyn Watch>>,
    /// Of the window, where that is one of time.
    slot_width: Option<NonZeroU64>,
}

impl Settings {
    pub(crate) fn new(config: BreakerConfig, clock: Arc<dyn Clock>, watcher: Option<Arc<dyn Watch>>) -> Self {
        let slot_width = config.window.as_ref().and_then(SlidingWindow::slot_width);
        Self { config, clock, watcher, slot_width }
    }

    /// In which slot of time a moment is. Where calls are counted there is only one.
    #[inline]
    fn slot_of(&self, now: impl FnOnce(&dyn Clock) -> Timestamp) -> u64 {
        self.slot_width.map_or(0, |width| now(&*self.clock).as_nanos().max(0).unsigned_abs() / width)
    }
}

/// Somebody who is told of failures and changes, after the breaker's lock is released.
pub(crate) trait Watch: Send + Sync {
    fn failed(&self, _id: u32, _at: Timestamp) {}

    fn changed(&self, id: u32, at: Timestamp, change: BreakerChange);
}

struct Forward(Arc<dyn SignalHandler>);

impl Watch for Forward {
    fn changed(&self, _id: u32, at: Timestamp, change: BreakerChange) {
        let agent = change.target.agent_name().to_owned();
        self.0.handle(&Signal { time: at, agent, kind: SignalKind::BreakerChanged(change) });
    }
}

/// How far the coarse clock may be behind.
const LAG: Duration = Duration::from_millis(10);

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
        Arc::make_mut(&mut self.settings).watcher = Some(Arc::new(Forward(handler)));
        self
    }

    pub(crate) fn shared(target: Target, id: u32, settings: Arc<Settings>) -> Self {
        let machine = Machine::new(&settings.config);
        Self {
            target,
            id,
            gate: AtomicU64::new(machine.gate(false).0),
            opened_at: AtomicI64::new(0),
            retry_at: AtomicI64::new(0),
            rejected: AtomicU64::new(0),
            cells: OnceLock::new(),
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
        match self.gate().state() {
            BreakerState::Open if self.time_left().is_none() => BreakerState::HalfOpen,
            state => state,
        }
    }

    /// Failures in a row; 0 where a sliding window decides.
    pub fn failure_count(&self) -> u32 {
        self.gate().streak()
    }

    /// Lets a call through: its outcome goes to the permit. A permit that is dropped without one counts as a failure.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, CircuitOpen> {
        self.admit().map(|ticket| Permit::new(self, ticket))
    }

    /// The same for a permit that must outlive the borrow.
    pub fn try_acquire_owned(self: &Arc<Self>) -> Result<Permit<Arc<Self>>, CircuitOpen> {
        self.admit().map(|ticket| Permit::new(self.clone(), ticket))
    }

    /// A call that was made without asking succeeded.
    pub fn record_success(&self) {
        let gate = self.gate();
        let ticket = Ticket { generation: gate.generation(), is_trial: false };
        if gate.state() != BreakerState::Closed || !self.note_well(ticket) {
            self.settle(None, Ended::Counted { failed: false, slow: false }, self.settings.clock.now());
        }
    }

    /// A call that was made without asking failed.
    pub fn record_failure(&self) {
        self.settle(None, Ended::Counted { failed: true, slow: false }, self.settings.clock.now());
    }

    /// Closes it and forgets everything, also where it was forced open, disabled or limited.
    pub fn reset(&self) {
        self.order(|inner, now, changes| {
            inner.limiter = None;
            inner.machine.turn(BreakerState::Closed, now, "reset".to_owned(), changes);
        });
    }

    /// Opens it now, for the recovery time, as failures would. Nothing happens where it refuses calls already, or is disabled.
    pub fn trip(&self, reason: &str) {
        self.order(|inner, now, changes| {
            if matches!(inner.machine.state(), BreakerState::Closed | BreakerState::HalfOpen) {
                inner.machine.open(&self.settings.config, now, reason.to_owned(), changes);
            }
        });
    }

    /// Refuses every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.order(|inner, now, changes| {
            inner.machine.turn(BreakerState::ForcedOpen, now, "forced open".to_owned(), changes);
        });
    }

    /// Lets every call through, and counts nothing, until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.order(|inner, now, changes| {
            inner.machine.turn(BreakerState::Disabled, now, "disabled".to_owned(), changes);
        });
    }

    /// While it is closed, lets one call through every so often (`None`: as many as come). A rate below once a nanosecond
    /// is none.
    pub fn limit(&self, every: Option<Duration>) {
        let clock = self.settings.clock.clone();
        self.order(|inner, _, _| {
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
        self.freeze(&mut inner, now);
        let machine = &inner.machine;
        let left = machine.open_between().map(|(_, until)| until.since(now)).filter(|left| !left.is_zero());
        let snapshot = BreakerSnapshot {
            target: self.target.clone(),
            state: if machine.state() == BreakerState::Open && left.is_none() {
                BreakerState::HalfOpen
            } else {
                machine.state()
            },
            failure_count: machine.gate(false).streak(),
            window: self.settings.config.window.is_some().then(|| machine.counts()),
            retry_after_s: left.map(|left| left.as_secs_f64()),
            opened: machine.opened(),
            rejected: self.rejected.load(Ordering::Relaxed),
            late: machine.late(),
        };
        self.publish(inner);
        snapshot
    }

    fn gate(&self) -> Gate {
        Gate(self.gate.load(Ordering::Acquire))
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.settings.clock
    }

    pub(crate) fn window(&self) -> Option<&SlidingWindow> {
        self.settings.config.window.as_ref()
    }

    #[inline]
    fn admit(&self) -> Result<Ticket, CircuitOpen> {
        let gate = self.gate();
        if gate.is_free() {
            return Ok(Ticket { generation: gate.generation(), is_trial: false });
        }
        self.admit_slowly(gate)
    }

    #[cold]
    fn admit_slowly(&self, gate: Gate) -> Result<Ticket, CircuitOpen> {
        // Under a storm of calls, an open breaker refuses without its lock.
        let refused = match gate.state() {
            BreakerState::Open => self.time_left(),
            BreakerState::ForcedOpen => Some(Duration::MAX),
            _ => None,
        };
        let admitted = match refused {
            Some(retry_after) => Err(retry_after),
            None => self.locked(self.settings.clock.now(), |inner, now, changes| {
                inner.machine.ripen(&self.settings.config, now, changes);
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
        let was_set_back = now.saturating_add(LAG).as_nanos() < self.opened_at.load(Ordering::Relaxed);
        let left = Timestamp::from_nanos(self.retry_at.load(Ordering::Relaxed)).since(now);
        (!left.is_zero() && !was_set_back).then_some(left)
    }

    /// What an error of that class is to it.
    pub(crate) fn ended_by(&self, class: ErrorClass) -> Ended {
        match class {
            ErrorClass::Failure => Ended::Counted { failed: true, slow: false },
            ErrorClass::RateLimit if self.settings.config.count_rate_limits => {
                Ended::Counted { failed: true, slow: false }
            }
            ErrorClass::RateLimit | ErrorClass::Caller => Ended::Ignored,
        }
    }

    /// Counts a call that went well without the lock; false where that takes the lock.
    #[inline]
    pub(crate) fn note_well(&self, ticket: Ticket) -> bool {
        if self.settings.config.window.is_none() {
            return self.gate().is_well(ticket.generation);
        }
        let slot = self.settings.slot_of(|clock| clock.coarse_now());
        self.cells.get().is_some_and(|cells| cells.add(Tag::new(ticket.generation, slot, false)))
    }

    /// Takes the outcome of a call in; one without a ticket counts for the state it ends in.
    pub(crate) fn settle(&self, ticket: Option<Ticket>, ended: Ended, now: Timestamp) {
        self.locked(now, |inner, now, changes| {
            let machine = &mut inner.machine;
            machine.ripen(&self.settings.config, now, changes);
            let ticket = ticket.unwrap_or_else(|| machine.ticket());
            machine.settle(&self.settings.config, ticket, ended, now, changes);
        });
        if let (Some(watcher), Ended::Counted { failed: true, .. }) = (&self.settings.watcher, ended) {
            watcher.failed(self.id, now);
        }
    }

    /// Takes in the result of a call that somebody else made and told of later.
    pub(crate) fn record_observed(&self, fault: Option<ErrorClass>, took: Option<Duration>, at: Timestamp) {
        let slow = self.window().is_some_and(|window| window.is_slow(took));
        let ended = match fault.map(|class| self.ended_by(class)) {
            None => Ended::Counted { failed: false, slow },
            Some(Ended::Counted { failed, .. }) => Ended::Counted { failed, slow },
            Some(Ended::Ignored) => Ended::Ignored,
        };
        self.settle(None, ended, at);
    }

    /// Turns to what time alone brings.
    pub(crate) fn ripen_at(&self, now: Timestamp) {
        if !matches!(self.gate().state(), BreakerState::Closed | BreakerState::Disabled | BreakerState::ForcedOpen) {
            self.locked(now, |inner, now, changes| inner.machine.ripen(&self.settings.config, now, changes));
        }
    }

    fn order(&self, act: impl FnOnce(&mut Inner, Timestamp, &mut Changes)) {
        self.locked(self.settings.clock.now(), act);
    }

    /// Acts on the machine, publishes what came of it, and tells of the changes once the lock is released.
    fn locked<R>(&self, now: Timestamp, act: impl FnOnce(&mut Inner, Timestamp, &mut Changes) -> R) -> R {
        let mut inner = lock(&self.inner);
        self.freeze(&mut inner, now);
        let mut changes = Changes::new();
        let result = act(&mut inner, now, &mut changes);
        self.publish(inner);
        if let Some(watcher) = &self.settings.watcher {
            for change in changes {
                let retry_after_s = change.wait.map(|wait| wait.as_secs_f64());
                let (from, to, number, reason) = (change.from, change.to, change.number, change.reason);
                let target = self.target.clone();
                watcher.changed(self.id, now, BreakerChange { target, from, to, number, reason, retry_after_s });
            }
        }
        result
    }

    /// Brings the calls that threads have counted into the machine, and lets none be counted until [`Self::publish`].
    fn freeze(&self, inner: &mut Inner, now: Timestamp) {
        if let Some(window) = &self.settings.config.window
            && inner.machine.state() == BreakerState::Closed
        {
            let good = self.cells.get().map_or(0, |cells| cells.turn(inner.machine.frozen_tag()));
            inner.machine.slide(window, good, self.settings.slot_of(|_| now));
        }
    }

    /// Shows the machine's state to those who come without the lock, and releases it.
    fn publish(&self, inner: MutexGuard<'_, Inner>) {
        let machine = &inner.machine;
        if let Some((opened_at, retry_at)) = machine.open_between() {
            self.opened_at.store(opened_at.as_nanos(), Ordering::Relaxed);
            self.retry_at.store(retry_at.as_nanos(), Ordering::Relaxed);
        }
        self.gate.store(machine.gate(inner.limiter.is_some()).0, Ordering::Release);
        if let Some(window) = &self.settings.config.window
            && machine.state() == BreakerState::Closed
        {
            let tag = machine.tag(window);
            match self.cells.get() {
                Some(cells) => {
                    cells.turn(tag);
                }
                None => {
                    self.cells.get_or_init(|| Box::new(Cells::new(tag)));
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
