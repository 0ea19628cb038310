use std::time::Duration;

use fastrand::Rng;
use sre_core::{BreakerState, Timestamp, WindowedCalls};

use crate::cells::Tag;
use crate::gate::Gate;
use crate::window::Ring;
use crate::{BreakerConfig, SlidingWindow};

/// What a breaker decides, without threads: time and results are handed in, changes of state come out.
///
/// Every change of state begins a new *generation*. A call carries the one it began in, and what it brings counts for no
/// other.
#[derive(Debug)]
pub(crate) struct Machine {
    state: BreakerState,
    generation: u32,
    /// Failures in a row.
    streak: u32,
    /// Since when it is open or half-open.
    since: Timestamp,
    /// How long it stays open, in nanoseconds: half the size of a `Duration`, and breakers are many.
    wait: u64,
    /// Times it opened without closing in between.
    trips: u32,
    /// Trial calls that were let through.
    trials: u32,
    /// Those that are over, and how.
    tried: Trials,
    opened: u32,
    late: u32,
    /// The newest slot of time that was seen.
    slot: u64,
    ring: Option<Box<Ring>>,
    rng: Rng,
}

#[derive(Clone, Copy, Debug, Default)]
struct Trials {
    calls: u32,
    failed: u32,
    slow: u32,
}

/// What a call carries from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) generation: u32,
    pub(crate) is_trial: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It counts, as this.
    Counted { failed: bool, slow: bool },
    /// It says nothing about the callee.
    Ignored,
}

/// A turn to another state, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
    pub(crate) number: u32,
    pub(crate) reason: String,
    pub(crate) wait: Option<Duration>,
}

/// The changes of one call: one, but where the state that time brought is ended at once by the call.
pub(crate) type Changes = Vec<Change>;

impl From<Trials> for WindowedCalls {
    fn from(Trials { calls, failed, slow }: Trials) -> Self {
        Self { calls: calls.into(), failed: failed.into(), slow: slow.into() }
    }
}

impl Machine {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        Self {
            state: BreakerState::Closed,
            generation: 0,
            streak: 0,
            since: Timestamp::default(),
            wait: 0,
            trips: 0,
            trials: 0,
            tried: Trials::default(),
            opened: 0,
            late: 0,
            slot: 0,
            ring: None,
            rng: config.seed.map_or_else(Rng::new, Rng::with_seed),
        }
    }

    pub(crate) fn gate(&self, limited: bool) -> Gate {
        Gate::new(self.state, self.generation, self.streak, limited)
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.state
    }

    /// When it opened, and when trial calls are let through; `None` unless it is open.
    pub(crate) fn open_between(&self) -> Option<(Timestamp, Timestamp)> {
        (self.state == BreakerState::Open).then(|| (self.since, self.since.saturating_add(self.wait())))
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.into()
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.into()
    }

    fn wait(&self) -> Duration {
        Duration::from_nanos(self.wait)
    }

    pub(crate) fn counts(&self) -> WindowedCalls {
        self.ring.as_ref().map(|ring| ring.counts()).unwrap_or_default()
    }

    /// What the cells' counts belong to while it is closed.
    pub(crate) fn tag(&self, window: &SlidingWindow) -> Tag {
        Tag::new(self.generation, self.slot, window.is_close(self.counts()))
    }

    /// What the cells are turned to while the lock is held, so that no call is counted meanwhile.
    pub(crate) fn frozen_tag(&self) -> Tag {
        Tag::new(self.generation, self.slot, true)
    }

    /// Adds calls that were counted as good up to now, and moves the window on to `slot`.
    pub(crate) fn slide(&mut self, window: &SlidingWindow, good: u64, slot: u64) {
        let ring = self.ring.get_or_insert_with(|| Box::new(Ring::new(window)));
        ring.add_good(good);
        self.slot = self.slot.max(slot);
        ring.advance(self.slot);
    }

    /// Time has come to `now`: what was open or tried for long enough changes.
    pub(crate) fn ripen(&mut self, config: &BreakerConfig, now: Timestamp, changes: &mut Changes) {
        // A clock that was set back must not keep it open for longer than it was to be.
        self.since = self.since.min(now);
        let passed = now.since(self.since);
        if self.state == BreakerState::Open && passed >= self.wait() {
            self.turn(BreakerState::HalfOpen, now, "the recovery time is over".to_owned(), changes);
        } else if self.state == BreakerState::HalfOpen
            && self.trials > 0
            && config.half_open_timeout.is_some_and(|most| passed >= most)
        {
            self.open(config, now, "trial calls did not end in time".to_owned(), changes);
        }
    }

    /// Lets a call through, or says how long to wait.
    pub(crate) fn admit(&mut self, config: &BreakerConfig, now: Timestamp) -> Result<Ticket, Duration> {
        match self.state {
            BreakerState::Open => Err(self.wait().saturating_sub(now.since(self.since))),
            BreakerState::ForcedOpen => Err(Duration::MAX),
            BreakerState::HalfOpen if self.trials >= config.half_open_max_calls => Err(Duration::ZERO),
            BreakerState::HalfOpen => {
                self.trials += 1;
                Ok(Ticket { generation: self.generation, is_trial: true })
            }
            BreakerState::Closed | BreakerState::Disabled => {
                Ok(Ticket { generation: self.generation, is_trial: false })
            }
        }
    }

    /// The ticket of a call that had none: it counts for the state it ends in.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { generation: self.generation, is_trial: false }
    }

    /// A call is over.
    pub(crate) fn settle(
        &mut self,
        config: &BreakerConfig,
        ticket: Ticket,
        ended: Ended,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        if ticket.generation != self.generation {
            self.late = self.late.saturating_add(1);
            return;
        }
        match (self.state, ended) {
            (BreakerState::Closed, Ended::Counted { failed, slow }) => {
                self.count(config, failed, slow, now, changes);
            }
            (BreakerState::HalfOpen, Ended::Counted { failed, slow }) => {
                self.tried.calls += 1;
                self.tried.failed += u32::from(failed);
                self.tried.slow += u32::from(slow);
                self.judge_trials(config, now, changes);
            }
            (BreakerState::HalfOpen, Ended::Ignored) => {
                self.trials = self.trials.saturating_sub(u32::from(ticket.is_trial));
            }
            (BreakerState::Open | BreakerState::ForcedOpen, _) => self.late = self.late.saturating_add(1),
            (BreakerState::Closed | BreakerState::Disabled, _) => {}
        }
    }

    fn count(&mut self, config: &BreakerConfig, failed: bool, slow: bool, now: Timestamp, changes: &mut Changes) {
        if let Some(window) = &config.window {
            let ring = self.ring.get_or_insert_with(|| Box::new(Ring::new(window)));
            ring.add(failed, slow);
            if let Some(reason) = window.verdict(ring.counts()) {
                self.open(config, now, reason, changes);
            }
        } else if failed {
            self.streak += 1;
            if self.streak >= config.failure_threshold {
                let reason = format!("{} failures in a row", self.streak);
                self.open(config, now, reason, changes);
            }
        } else {
            self.streak = 0;
        }
    }

    fn judge_trials(&mut self, config: &BreakerConfig, now: Timestamp, changes: &mut Changes) {
        let are_all_in = self.tried.calls >= config.half_open_max_calls;
        let fault = match &config.window {
            None if self.tried.failed > 0 => Some("a trial call failed".to_owned()),
            Some(window) if are_all_in => {
                let judge = SlidingWindow { minimum_calls: 1, ..window.clone() };
                judge.verdict(self.tried.into()).map(|reason| format!("on trial, {reason}"))
            }
            _ => None,
        };
        if let Some(reason) = fault {
            self.open(config, now, reason, changes);
        } else if are_all_in {
            self.turn(BreakerState::Closed, now, "the trial calls succeeded".to_owned(), changes);
        }
    }

    /// Opens for the recovery time, which grows with each time in a row.
    pub(crate) fn open(&mut self, config: &BreakerConfig, now: Timestamp, reason: String, changes: &mut Changes) {
        let longest = config.max_recovery_timeout.as_secs_f64();
        let exponent = i32::try_from(self.trips).unwrap_or(i32::MAX);
        let seconds = config.recovery_timeout.as_secs_f64() * config.recovery_multiplier.powi(exponent);
        let chance = 1.0 + config.recovery_jitter * (2.0 * self.rng.f64() - 1.0);
        // Without growth and chance it is the time that was set, to the nanosecond.
        let wait = if config.recovery_multiplier == 1.0 && config.recovery_jitter == 0.0 {
            config.recovery_timeout
        } else {
            Duration::from_secs_f64((seconds.min(longest) * chance).clamp(0.0, longest))
        };
        self.wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.trips = self.trips.saturating_add(1);
        self.opened = self.opened.saturating_add(1);
        self.turn(BreakerState::Open, now, reason, changes);
    }

    /// Turns to a state and begins it anew, also the one it is in.
    pub(crate) fn turn(&mut self, to: BreakerState, now: Timestamp, reason: String, changes: &mut Changes) {
        let from = std::mem::replace(&mut self.state, to);
        self.generation = self.generation.wrapping_add(1);
        self.streak = 0;
        self.since = now;
        (self.trials, self.tried) = (0, Trials::default());
        if let Some(ring) = &mut self.ring {
            ring.clear();
        }
        if to == BreakerState::Closed {
            self.trips = 0;
        }
        if from != to {
            let wait = (to == BreakerState::Open).then_some(self.wait());
            changes.push(Change { from, to, number: self.generation, reason, wait });
        }
    }
}
