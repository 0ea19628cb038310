use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use sre_core::{BreakerState, Timestamp, WindowedCalls};

use crate::packed_state::PackedState;
use crate::striped_counter::Tag;
use crate::window::WindowCounts;
use crate::{BreakerConfig, SlidingWindow};

/// The states of a breaker, without threads: time and results are arguments, transitions are returned.
///
/// Every transition begins a new *generation*. A call carries the generation in which it was admitted, and its result counts for
/// no other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StateMachine {
    state: BreakerState,
    generation: u32,
    /// While closed without a window, failures in a row; while half-open, failed probe calls; while open, the failures that opened it.
    failures: u32,
    /// Start of the current state, if it is open or half-open.
    since: Timestamp,
    /// How long the breaker stays open, in nanoseconds: half the size of a `Duration`, since breakers are many.
    open_for: u64,
    /// Number of times the breaker opened without closing in between.
    consecutive_opens: u32,
    /// Probe calls admitted in the current half-open state.
    probes: u32,
    probe_results: ProbeResults,
    opened: u32,
    late: u32,
    /// The newest time bucket seen.
    bucket: u64,
    window: Option<Box<WindowCounts>>,
    #[serde(skip)]
    rng: Rng,
}

/// The largest number of failures that is reported.
const MAX_FAILURES: u32 = 1_000_000;

/// [`WindowedCalls`] of half the size.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct ProbeResults {
    calls: u32,
    failed: u32,
    slow: u32,
}

/// Carried by a call from its admission to its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) generation: u32,
    pub(crate) is_probe: bool,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The call counts.
    Counted { failed: bool, slow: bool },
    /// The call does not count: its error is unrelated to the callee's health.
    Ignored,
}

/// A state transition and its cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transition {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
    pub(crate) number: u32,
    pub(crate) reason: String,
    pub(crate) open_for: Option<Duration>,
}

impl From<ProbeResults> for WindowedCalls {
    fn from(ProbeResults { calls, failed, slow }: ProbeResults) -> Self {
        Self::new(calls.into(), failed.into(), slow.into())
    }
}

impl StateMachine {
    pub(crate) fn new(config: &BreakerConfig) -> Self {
        Self {
            state: BreakerState::Closed,
            generation: 0,
            failures: 0,
            since: Timestamp::default(),
            open_for: 0,
            consecutive_opens: 0,
            probes: 0,
            probe_results: ProbeResults::default(),
            opened: 0,
            late: 0,
            bucket: 0,
            window: None,
            rng: config.seed.map_or_else(Rng::new, Rng::with_seed),
        }
    }

    /// Continues in the state of an earlier machine, perhaps of another configuration: a window of another size starts empty.
    pub(crate) fn restore(&mut self, saved: Self, config: &BreakerConfig) {
        let rng = std::mem::take(&mut self.rng);
        *self = Self { rng, ..saved };
        let fits = |window: &WindowCounts| config.window.as_ref().is_some_and(|config| window.is_of(config));
        self.window = self.window.take().filter(|window| fits(window));
    }

    pub(crate) fn packed(&self, limited: bool) -> PackedState {
        PackedState::new(self.state, self.generation, self.failures, limited)
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.state
    }

    /// Returns the number of failures in a row or in the window; while half-open, of failed probe calls; while open, of the failures
    /// that opened it. At most 1,000,000.
    pub(crate) fn failure_count(&self) -> u32 {
        match &self.window {
            Some(window) if self.state == BreakerState::Closed => {
                u32::try_from(window.counts().failed).map_or(MAX_FAILURES, |failed| failed.min(MAX_FAILURES))
            }
            _ => self.failures,
        }
    }

    /// Returns when the breaker opened and when it admits probe calls; `None` unless it is open.
    pub(crate) fn open_period(&self) -> Option<(Timestamp, Timestamp)> {
        (self.state == BreakerState::Open).then(|| (self.since, self.since.saturating_add(self.open_for())))
    }

    /// Returns the number of times the breaker has opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.into()
    }

    /// Returns the number of results ignored because they came too late.
    pub(crate) fn late(&self) -> u64 {
        self.late.into()
    }

    fn open_for(&self) -> Duration {
        Duration::from_nanos(self.open_for)
    }

    /// Returns the counts of the sliding window.
    pub(crate) fn counts(&self) -> WindowedCalls {
        self.window.as_ref().map(|window| window.counts()).unwrap_or_default()
    }

    /// Returns the tag under which successes are counted while the breaker is closed.
    pub(crate) fn tag(&self, window: &SlidingWindow) -> Tag {
        Tag::new(self.generation, self.bucket, window.success_may_open(self.counts()))
    }

    /// Returns the tag for the time that the lock is held, under which no success is counted.
    pub(crate) fn locked_tag(&self) -> Tag {
        Tag::new(self.generation, self.bucket, true)
    }

    /// Adds successes to the newest bucket of the window, then advances it to `bucket`.
    pub(crate) fn advance_window(&mut self, config: &SlidingWindow, successes: u64, bucket: u64) {
        let window = self.window.get_or_insert_with(|| Box::new(WindowCounts::new(config)));
        window.add_successes(successes);
        self.bucket = self.bucket.max(bucket);
        window.advance(self.bucket);
    }

    /// Makes the transitions that are due at `now`.
    pub(crate) fn advance(&mut self, config: &BreakerConfig, now: Timestamp, transitions: &mut Vec<Transition>) {
        // Setting the clock back must not prolong the open state.
        self.since = self.since.min(now);
        let elapsed = now.since(self.since);
        if self.state == BreakerState::Open && elapsed >= self.open_for() {
            self.transition_to(BreakerState::HalfOpen, now, "recovery timeout elapsed".to_owned(), transitions);
        } else if self.state == BreakerState::HalfOpen
            && self.probes > 0
            && config.half_open_timeout.is_some_and(|timeout| elapsed >= timeout)
        {
            self.open(config, now, "probe calls timed out".to_owned(), transitions);
        }
    }

    /// Admits a call, or returns how long to wait.
    pub(crate) fn admit(&mut self, config: &BreakerConfig, now: Timestamp) -> Result<Admission, Duration> {
        match self.state {
            BreakerState::Open => Err(self.open_for().saturating_sub(now.since(self.since))),
            BreakerState::ForcedOpen => Err(Duration::MAX),
            BreakerState::HalfOpen if self.probes >= config.half_open_max_calls => Err(Duration::ZERO),
            BreakerState::HalfOpen => {
                self.probes += 1;
                Ok(Admission { generation: self.generation, is_probe: true })
            }
            BreakerState::Closed | BreakerState::Disabled => Ok(self.unguarded_admission()),
        }
    }

    /// Returns the admission of a call made without a permit: it counts for the current state.
    pub(crate) fn unguarded_admission(&self) -> Admission {
        Admission { generation: self.generation, is_probe: false }
    }

    /// Records the outcome of a call.
    pub(crate) fn record(
        &mut self,
        config: &BreakerConfig,
        admission: Admission,
        outcome: Outcome,
        now: Timestamp,
        transitions: &mut Vec<Transition>,
    ) {
        if admission.generation != self.generation {
            self.late = self.late.saturating_add(1);
            return;
        }
        match (self.state, outcome) {
            (BreakerState::Closed, Outcome::Counted { failed, slow }) => {
                self.count(config, failed, slow, now, transitions);
            }
            (BreakerState::HalfOpen, Outcome::Counted { failed, slow }) => {
                self.probe_results.calls += 1;
                self.probe_results.failed += u32::from(failed);
                self.failures = self.probe_results.failed.min(MAX_FAILURES);
                self.probe_results.slow += u32::from(slow);
                self.evaluate_probes(config, now, transitions);
            }
            // Another call may probe in its place.
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
        transitions: &mut Vec<Transition>,
    ) {
        if let Some(sliding) = &config.window {
            let window = self.window.get_or_insert_with(|| Box::new(WindowCounts::new(sliding)));
            window.add(failed, slow);
            if let Some(reason) = sliding.reason_to_open(window.counts()) {
                self.open(config, now, reason, transitions);
            }
        } else if failed {
            self.failures += 1;
            if self.failures >= config.failure_threshold {
                let reason = match self.failures {
                    1 => "1 failure".to_owned(),
                    failures => format!("{failures} consecutive failures"),
                };
                self.open(config, now, reason, transitions);
            }
        } else {
            self.failures = 0;
        }
    }

    fn evaluate_probes(&mut self, config: &BreakerConfig, now: Timestamp, transitions: &mut Vec<Transition>) {
        let are_complete = self.probe_results.calls >= config.half_open_max_calls;
        let reason_to_open = match &config.window {
            None if self.probe_results.failed > 0 => Some("probe call failed".to_owned()),
            Some(window) if are_complete => {
                let thresholds = SlidingWindow { minimum_calls: 1, ..window.clone() };
                thresholds.reason_to_open(self.probe_results.into()).map(|reason| format!("probe calls: {reason}"))
            }
            _ => None,
        };
        if let Some(reason) = reason_to_open {
            self.open(config, now, reason, transitions);
        } else if are_complete {
            self.transition_to(BreakerState::Closed, now, "probe calls succeeded".to_owned(), transitions);
        }
    }

    /// Opens for the recovery timeout, which is multiplied each time the breaker opens without closing in between.
    pub(crate) fn open(
        &mut self,
        config: &BreakerConfig,
        now: Timestamp,
        reason: String,
        transitions: &mut Vec<Transition>,
    ) {
        let longest = config.max_recovery_timeout.as_secs_f64();
        let exponent = i32::try_from(self.consecutive_opens).unwrap_or(i32::MAX);
        let seconds = config.recovery_timeout.as_secs_f64() * config.recovery_multiplier.powi(exponent);
        let jitter = 1.0 + config.recovery_jitter * (2.0 * self.rng.f64() - 1.0);
        // Floating point would change the configured time by nanoseconds.
        let open_for = if config.recovery_multiplier == 1.0 && config.recovery_jitter == 0.0 {
            config.recovery_timeout
        } else {
            Duration::from_secs_f64((seconds.min(longest) * jitter).clamp(0.0, longest))
        };
        self.open_for = u64::try_from(open_for.as_nanos()).unwrap_or(u64::MAX);
        self.consecutive_opens = self.consecutive_opens.saturating_add(1);
        self.opened = self.opened.saturating_add(1);
        self.transition_to(BreakerState::Open, now, reason, transitions);
    }

    /// Enters a state with cleared counts. Entering the current state again is no transition, but begins a new generation.
    pub(crate) fn transition_to(
        &mut self,
        to: BreakerState,
        now: Timestamp,
        reason: String,
        transitions: &mut Vec<Transition>,
    ) {
        self.failures = if to == BreakerState::Open { self.failure_count() } else { 0 };
        let from = std::mem::replace(&mut self.state, to);
        self.generation = self.generation.wrapping_add(1);
        self.since = now;
        (self.probes, self.probe_results) = (0, ProbeResults::default());
        if let Some(window) = &mut self.window {
            window.clear();
        }
        if to == BreakerState::Closed {
            self.consecutive_opens = 0;
        }
        if from != to {
            let open_for = (to == BreakerState::Open).then_some(self.open_for());
            transitions.push(Transition { from, to, number: self.generation, reason, open_for });
        }
    }
}
