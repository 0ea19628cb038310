use std::time::Duration;

use fastrand::Rng;
use sre_core::{BreakerState, Timestamp, WindowedCalls};

use crate::packed_state::PackedState;
use crate::striped_counter::Tag;
use crate::window::WindowCounts;
use crate::{BreakerConfig, SlidingWindow};

/// What a breaker decides, without threads: time and results are handed in, changes of state come out.
///
/// Every change of state begins a new *generation*. A call carries the one it began in, and what it brings counts for no
/// other.
#[derive(Debug)]
pub(crate) struct StateMachine {
    state: BreakerState,
    generation: u32,
    /// Failures in a row.
    consecutive_failures: u32,
    /// Since when it is open or half-open.
    since: Timestamp,
    /// How long it stays open, in nanoseconds: half the size of a `Duration`, and breakers are many.
    wait: u64,
    /// Times it opened without closing in between.
    consecutive_opens: u32,
    /// Trial calls that were let through.
    probes: u32,
    /// Those that are over, and how.
    probe_counts: ProbeCounts,
    opened: u32,
    late: u32,
    /// The newest slot of time that was seen.
    slot: u64,
    ring: Option<Box<WindowCounts>>,
    rng: Rng,
}

#[derive(Clone, Copy, Debug, Default)]
struct ProbeCounts {
    calls: u32,
    failed: u32,
    slow: u32,
}

/// What a call carries from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) generation: u32,
    pub(crate) is_probe: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It counts, as this.
    Counted { failed: bool, slow: bool },
    /// It says nothing about the callee.
    Ignored,
}

/// A turn to another state, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transition {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
    pub(crate) number: u32,
    pub(crate) reason: String,
    pub(crate) wait: Option<Duration>,
}

impl From<ProbeCounts> for WindowedCalls {
    fn from(ProbeCounts { calls, failed, slow }: ProbeCounts) -> Self {
        Self { calls: calls.into(), failed: failed.into(), slow: slow.into() }
    }
}

impl StateMachine {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        Self {
            state: BreakerState::Closed,
            generation: 0,
            consecutive_failures: 0,
            since: Timestamp::default(),
            wait: 0,
            consecutive_opens: 0,
            probes: 0,
            probe_counts: ProbeCounts::default(),
            opened: 0,
            late: 0,
            slot: 0,
            ring: None,
            rng: config.seed.map_or_else(Rng::new, Rng::with_seed),
        }
    }

    pub(crate) fn packed(&self, limited: bool) -> PackedState {
        PackedState::new(self.state, self.generation, self.consecutive_failures, limited)
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.state
    }

    /// When it opened, and when trial calls are let through; `None` unless it is open.
    pub(crate) fn open_period(&self) -> Option<(Timestamp, Timestamp)> {
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
        Tag::new(self.generation, self.slot, window.must_check_success(self.counts()))
    }

    /// What the cells are turned to while the lock is held, so that no call is counted meanwhile.
    pub(crate) fn locked_tag(&self) -> Tag {
        Tag::new(self.generation, self.slot, true)
    }

    /// Adds calls that were counted as good up to now, and moves the window on to `slot`.
    pub(crate) fn advance_window(&mut self, window: &SlidingWindow, good: u64, slot: u64) {
        let ring = self.ring.get_or_insert_with(|| Box::new(WindowCounts::new(window)));
        ring.add_good(good);
        self.slot = self.slot.max(slot);
        ring.advance(self.slot);
    }

    /// Time has come to `now`: what was open or tried for long enough changes.
    pub(crate) fn advance(&mut self, config: &BreakerConfig, now: Timestamp, changes: &mut Vec<Transition>) {
        // A clock that was set back must not keep it open for longer than it was to be.
        self.since = self.since.min(now);
        let passed = now.since(self.since);
        if self.state == BreakerState::Open && passed >= self.wait() {
            self.transition(BreakerState::HalfOpen, now, "the recovery time is over".to_owned(), changes);
        } else if self.state == BreakerState::HalfOpen
            && self.probes > 0
            && config.half_open_timeout.is_some_and(|most| passed >= most)
        {
            self.open(config, now, "trial calls did not end in time".to_owned(), changes);
        }
    }

    /// Lets a call through, or says how long to wait.
    pub(crate) fn admit(&mut self, config: &BreakerConfig, now: Timestamp) -> Result<Admission, Duration> {
        match self.state {
            BreakerState::Open => Err(self.wait().saturating_sub(now.since(self.since))),
            BreakerState::ForcedOpen => Err(Duration::MAX),
            BreakerState::HalfOpen if self.probes >= config.half_open_max_calls => Err(Duration::ZERO),
            BreakerState::HalfOpen => {
                self.probes += 1;
                Ok(Admission { generation: self.generation, is_probe: true })
            }
            BreakerState::Closed | BreakerState::Disabled => {
                Ok(Admission { generation: self.generation, is_probe: false })
            }
        }
    }

    /// The ticket of a call that had none: it counts for the state it ends in.
    pub(crate) fn admission(&self) -> Admission {
        Admission { generation: self.generation, is_probe: false }
    }

    /// A call is over.
    pub(crate) fn record(
        &mut self,
        config: &BreakerConfig,
        admission: Admission,
        outcome: Outcome,
        now: Timestamp,
        changes: &mut Vec<Transition>,
    ) {
        if admission.generation != self.generation {
            self.late = self.late.saturating_add(1);
            return;
        }
        match (self.state, outcome) {
            (BreakerState::Closed, Outcome::Counted { failed, slow }) => {
                self.count(config, failed, slow, now, changes);
            }
            (BreakerState::HalfOpen, Outcome::Counted { failed, slow }) => {
                self.probe_counts.calls += 1;
                self.probe_counts.failed += u32::from(failed);
                self.probe_counts.slow += u32::from(slow);
                self.evaluate_probes(config, now, changes);
            }
            (BreakerState::HalfOpen, Outcome::Ignored) => {
                self.probes = self.probes.saturating_sub(u32::from(admission.is_probe));
            }
            (BreakerState::Open | BreakerState::ForcedOpen, _) => self.late = self.late.saturating_add(1),
            (BreakerState::Closed | BreakerState::Disabled, _) => {}
        }
    }

    fn count(
        &mut self,
        config: &BreakerConfig,
        failed: bool,
        slow: bool,
        now: Timestamp,
        changes: &mut Vec<Transition>,
    ) {
        if let Some(window) = &config.window {
            let ring = self.ring.get_or_insert_with(|| Box::new(WindowCounts::new(window)));
            ring.add(failed, slow);
            if let Some(reason) = window.open_reason(ring.counts()) {
                self.open(config, now, reason, changes);
            }
        } else if failed {
            self.consecutive_failures += 1;
            if self.consecutive_failures >= config.failure_threshold {
                let reason = format!("{} failures in a row", self.consecutive_failures);
                self.open(config, now, reason, changes);
            }
        } else {
            self.consecutive_failures = 0;
        }
    }

    fn evaluate_probes(&mut self, config: &BreakerConfig, now: Timestamp, changes: &mut Vec<Transition>) {
        let are_all_in = self.probe_counts.calls >= config.half_open_max_calls;
        let fault = match &config.window {
            None if self.probe_counts.failed > 0 => Some("a trial call failed".to_owned()),
            Some(window) if are_all_in => {
                let judge = SlidingWindow { minimum_calls: 1, ..window.clone() };
                judge.open_reason(self.probe_counts.into()).map(|reason| format!("on trial, {reason}"))
            }
            _ => None,
        };
        if let Some(reason) = fault {
            self.open(config, now, reason, changes);
        } else if are_all_in {
            self.transition(BreakerState::Closed, now, "the trial calls succeeded".to_owned(), changes);
        }
    }

    /// Opens for the recovery time, which grows with each time in a row.
    pub(crate) fn open(
        &mut self,
        config: &BreakerConfig,
        now: Timestamp,
        reason: String,
        changes: &mut Vec<Transition>,
    ) {
        let longest = config.max_recovery_timeout.as_secs_f64();
        let exponent = i32::try_from(self.consecutive_opens).unwrap_or(i32::MAX);
        let seconds = config.recovery_timeout.as_secs_f64() * config.recovery_multiplier.powi(exponent);
        let chance = 1.0 + config.recovery_jitter * (2.0 * self.rng.f64() - 1.0);
        // Without growth and chance it is the time that was set, to the nanosecond.
        let wait = if config.recovery_multiplier == 1.0 && config.recovery_jitter == 0.0 {
            config.recovery_timeout
        } else {
            Duration::from_secs_f64((seconds.min(longest) * chance).clamp(0.0, longest))
        };
        self.wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.consecutive_opens = self.consecutive_opens.saturating_add(1);
        self.opened = self.opened.saturating_add(1);
        self.transition(BreakerState::Open, now, reason, changes);
    }

    /// Turns to a state and begins it anew, also the one it is in.
    pub(crate) fn transition(
        &mut self,
        to: BreakerState,
        now: Timestamp,
        reason: String,
        changes: &mut Vec<Transition>,
    ) {
        let from = std::mem::replace(&mut self.state, to);
        self.generation = self.generation.wrapping_add(1);
        self.consecutive_failures = 0;
        self.since = now;
        (self.probes, self.probe_counts) = (0, ProbeCounts::default());
        if let Some(ring) = &mut self.ring {
            ring.clear();
        }
        if to == BreakerState::Closed {
            self.consecutive_opens = 0;
        }
        if from != to {
            let wait = (to == BreakerState::Open).then_some(self.wait());
            changes.push(Transition { from, to, number: self.generation, reason, wait });
        }
    }
}
