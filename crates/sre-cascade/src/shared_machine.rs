use std::sync::OnceLock;
use std::time::Duration;

use sre_core::{BreakerState, Clock, RateLimiter, Timestamp};

use crate::BreakerConfig;
use crate::packed_state::PackedState;
use crate::settings::Settings;
use crate::state_machine::{Admission, StateMachine, Transition};
use crate::striped_counter::{StripedCounter, Tag};
use crate::sync::{AtomicI64, AtomicU64, Mutex, MutexGuard, Ordering, lock};

/// A [`StateMachine`] shared by threads. While it is closed, calls are admitted and successes counted without the lock.
pub(crate) struct SharedMachine {
    /// A [`PackedState`]; written under the lock.
    packed: AtomicU64,
    /// When an open breaker opened and when it admits probe calls, in nanoseconds; written under the lock.
    opened_at: AtomicI64,
    retry_at: AtomicI64,
    /// Successes since the lock was last held. Created by the first call, and only when a sliding window is configured.
    successes: OnceLock<Box<StripedCounter>>,
    guarded: Mutex<Guarded>,
}

/// The part protected by the lock.
pub(crate) struct Guarded {
    pub(crate) machine: StateMachine,
    pub(crate) limiter: Option<Box<RateLimiter>>,
}

/// The most that the coarse clock lags behind the exact one.
const MAX_COARSE_CLOCK_LAG: Duration = Duration::from_millis(10);

impl SharedMachine {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        let machine = StateMachine::new(config);
        Self {
            packed: AtomicU64::new(machine.packed(false).0),
            opened_at: AtomicI64::new(0),
            retry_at: AtomicI64::new(0),
            successes: OnceLock::new(),
            guarded: Mutex::new(Guarded { machine, limiter: None }),
        }
    }

    #[inline]
    pub(crate) fn packed(&self) -> PackedState {
        PackedState(self.packed.load(Ordering::Acquire))
    }

    /// Returns how long an open breaker keeps rejecting calls. `None` means that the state must be determined under the lock:
    /// the recovery timeout has elapsed, or the clock was set back.
    pub(crate) fn time_left(&self, clock: &dyn Clock) -> Option<Duration> {
        let now = clock.coarse_now();
        // The time of opening was read from the exact clock.
        let was_set_back = now.saturating_add(MAX_COARSE_CLOCK_LAG).as_nanos() < self.opened_at.load(Ordering::Relaxed);
        let left = Timestamp::from_nanos(self.retry_at.load(Ordering::Relaxed)).since(now);
        (!left.is_zero() && !was_set_back).then_some(left)
    }

    /// Counts a success without the lock. Returns false if the success must be recorded under the lock instead.
    #[inline]
    pub(crate) fn count_success(&self, settings: &Settings, admission: Admission) -> bool {
        if settings.config.window.is_none() {
            return self.packed().ignores_success(admission.generation);
        }
        let bucket = settings.bucket_at(|clock| clock.coarse_now());
        self.successes.get().is_some_and(|successes| successes.add(Tag::new(admission.generation, bucket, false)))
    }

    /// Runs `act` under the lock. Returns its result and the transitions it made.
    pub(crate) fn update<R>(
        &self,
        settings: &Settings,
        now: Timestamp,
        act: impl FnOnce(&mut Guarded, Timestamp, &mut Vec<Transition>) -> R,
    ) -> (R, Vec<Transition>) {
        let mut guarded = lock(&self.guarded);
        self.collect_successes(&mut guarded, settings, now);
        let mut transitions = Vec::new();
        let result = act(&mut guarded, now, &mut transitions);
        self.publish(guarded, settings);
        (result, transitions)
    }

    /// Moves the successes counted without the lock into the machine. Until [`Self::publish`] every success needs the lock.
    fn collect_successes(&self, guarded: &mut Guarded, settings: &Settings, now: Timestamp) {
        let machine = &mut guarded.machine;
        if let Some(window) = &settings.config.window
            && machine.state() == BreakerState::Closed
        {
            let count = self.successes.get().map_or(0, |successes| successes.take(machine.locked_tag()));
            machine.advance_window(window, count, settings.bucket_at(|_| now));
        }
    }

    /// Makes the machine's state visible to threads without the lock, then releases the lock.
    fn publish(&self, guarded: MutexGuard<'_, Guarded>, settings: &Settings) {
        let machine = &guarded.machine;
        if let Some((opened_at, retry_at)) = machine.open_period() {
            self.opened_at.store(opened_at.as_nanos(), Ordering::Relaxed);
            self.retry_at.store(retry_at.as_nanos(), Ordering::Relaxed);
        }
        self.packed.store(machine.packed(guarded.limiter.is_some()).0, Ordering::Release);
        if let Some(window) = &settings.config.window
            && machine.state() == BreakerState::Closed
        {
            // Empty since `collect_successes`: a success under the lock's tag is never counted there.
            let tag = machine.tag(window);
            match self.successes.get() {
                Some(successes) => {
                    successes.take(tag);
                }
                None => {
                    self.successes.get_or_init(|| Box::new(StripedCounter::new(tag)));
                }
            }
        }
    }
}
