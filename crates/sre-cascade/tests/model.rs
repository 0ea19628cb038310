//! Compares the breaker with a simple model that keeps every result of the current state and counts them each time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use sre_cascade::{
    BreakerConfig, BreakerState, CircuitBreaker, ErrorClass, Permit, SlidingWindow, WindowSize, WindowedCalls,
};
use sre_core::{Clock, ManualClock, Signal, SignalKind, Timestamp};

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    Finish { which: usize, how: How },
    Success,
    Failure,
    Pass { millis: u64 },
    Look,
    Reset,
    Trip,
    ForceOpen,
    Disable,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Success,
    Failure,
    RateLimit,
    Caller,
    Drop,
}

struct Model {
    config: BreakerConfig,
    now: Timestamp,
    state: BreakerState,
    generation: u64,
    since: Timestamp,
    consecutive_opens: i32,
    probes: u32,
    results: Vec<Call>,
    /// The failures that opened it.
    opened_by: u32,
}

#[derive(Clone, Copy)]
struct Call {
    bucket: i64,
    failed: bool,
    slow: bool,
}

impl Model {
    fn open_for(&self) -> Duration {
        let seconds = self.config.recovery_timeout.as_secs_f64()
            * self.config.recovery_multiplier.powi(self.consecutive_opens - 1);
        Duration::from_secs_f64(seconds.min(self.config.max_recovery_timeout.as_secs_f64()))
    }

    fn transition(&mut self, state: BreakerState) {
        self.opened_by = if state == BreakerState::Open { self.failures() } else { 0 };
        if state == BreakerState::Open {
            self.consecutive_opens += 1;
        } else if state == BreakerState::Closed {
            self.consecutive_opens = 0;
        }
        (self.state, self.since, self.probes) = (state, self.now, 0);
        self.generation += 1;
        self.results.clear();
    }

    /// Returns the generation in which the call is admitted, or how long to wait.
    fn acquire(&mut self) -> Result<u64, Duration> {
        self.advance();
        match self.state {
            BreakerState::Open => Err(self.open_for() - self.now.since(self.since)),
            BreakerState::ForcedOpen => Err(Duration::MAX),
            BreakerState::HalfOpen if self.probes == self.config.half_open_max_calls => Err(Duration::ZERO),
            _ => {
                self.probes += 1;
                Ok(self.generation)
            }
        }
    }

    fn advance(&mut self) {
        let passed = self.now.since(self.since);
        if self.state == BreakerState::Open && passed >= self.open_for() {
            self.transition(BreakerState::HalfOpen);
        } else if self.state == BreakerState::HalfOpen
            && self.probes > 0
            && self.config.half_open_timeout.is_some_and(|most| passed >= most)
        {
            self.transition(BreakerState::Open);
        }
    }

    fn bucket(&self) -> i64 {
        match self.config.window.as_ref().map(|window| window.size) {
            Some(WindowSize::Time(span)) => self.now.as_nanos() / (span.as_nanos() as i64 / 60),
            _ => 0,
        }
    }

    /// Returns the calls in the window.
    fn window(&self) -> Vec<Call> {
        match &self.config.window {
            Some(SlidingWindow { size: WindowSize::Calls(size), .. }) => {
                let first = self.results.len().saturating_sub(*size as usize);
                self.results[first..].to_vec()
            }
            Some(_) => self.results.iter().filter(|call| call.bucket > self.bucket() - 60).copied().collect(),
            None => self.results.clone(),
        }
    }

    fn failures(&self) -> u32 {
        let count = match (self.state, &self.config.window) {
            (BreakerState::Open, _) => return self.opened_by,
            (BreakerState::Closed, None) => self.results.iter().rev().take_while(|call| call.failed).count(),
            (BreakerState::Closed, Some(_)) => self.window().iter().filter(|call| call.failed).count(),
            _ => self.results.iter().filter(|call| call.failed).count(),
        };
        count as u32
    }

    fn rates_reach_thresholds(&self, calls: &[Call], minimum: usize) -> bool {
        let Some(window) = &self.config.window else { return false };
        let share = |matches: fn(&&Call) -> bool| calls.iter().filter(matches).count() as f64 / calls.len() as f64;
        calls.len() >= minimum
            && (share(|call| call.failed) >= window.failure_rate
                || window.slow_call.is_some() && share(|call| call.slow) >= window.slow_call_rate)
    }

    fn finish(&mut self, generation: Option<u64>, how: How, took: Duration) {
        self.advance();
        if generation.is_some_and(|generation| generation != self.generation) {
            return;
        }
        let ignored = how == How::Caller || how == How::RateLimit && !self.config.count_rate_limits;
        let slow = self.config.window.as_ref().and_then(|window| window.slow_call).is_some_and(|most| took > most);
        let call = Call { bucket: self.bucket(), failed: how != How::Success, slow: slow && generation.is_some() };
        match self.state {
            BreakerState::Closed if !ignored => {
                self.results.push(call);
                let calls = self.window();
                let opens = match &self.config.window {
                    Some(window) => {
                        let most = match window.size {
                            WindowSize::Calls(size) => size,
                            _ => u32::MAX,
                        };
                        self.rates_reach_thresholds(&calls, window.minimum_calls.min(most) as usize)
                    }
                    None => self.failures() >= self.config.failure_threshold,
                };
                if opens {
                    self.transition(BreakerState::Open);
                }
            }
            BreakerState::HalfOpen if ignored => self.probes -= 1,
            BreakerState::HalfOpen => {
                self.results.push(call);
                let all_in = self.results.len() >= self.config.half_open_max_calls as usize;
                let opens = match &self.config.window {
                    Some(_) => all_in && self.rates_reach_thresholds(&self.results, 1),
                    None => call.failed,
                };
                if opens {
                    self.transition(BreakerState::Open);
                } else if all_in {
                    self.transition(BreakerState::Closed);
                }
            }
            _ => {}
        }
    }

    fn visible_state(&self) -> BreakerState {
        let is_over = self.state == BreakerState::Open && self.now.since(self.since) >= self.open_for();
        if is_over { BreakerState::HalfOpen } else { self.state }
    }

    fn counts(&self) -> WindowedCalls {
        if self.state != BreakerState::Closed {
            return WindowedCalls::default();
        }
        let calls = self.window();
        let count = |matches: fn(&&Call) -> bool| calls.iter().filter(matches).count() as u64;
        WindowedCalls::new(calls.len() as u64, count(|call| call.failed), count(|call| call.slow))
    }
}

fn configs() -> impl Strategy<Value = BreakerConfig> {
    let size = prop_oneof![
        (1u32..12).prop_map(WindowSize::Calls),
        (1u64..4).prop_map(|seconds| WindowSize::Time(Duration::from_secs(seconds))),
    ];
    let slow = prop::option::of((50u64..400).prop_map(Duration::from_millis));
    let rate = prop::sample::select(vec![0.1, 0.25, 0.5, 0.75, 1.0]);
    let window = (size, 1u32..8, rate.clone(), rate, slow).prop_map(
        |(size, minimum_calls, failure_rate, slow_call_rate, slow_call)| SlidingWindow {
            size,
            minimum_calls,
            failure_rate,
            slow_call_rate,
            slow_call,
        },
    );
    let timeout = prop::option::of((100u64..2_000).prop_map(Duration::from_millis));
    let multiplier = prop::sample::select(vec![1.0, 2.0]);
    (1u32..4, 1u32..4, timeout, prop::option::of(window), any::<bool>(), multiplier).prop_map(
        |(
            failure_threshold,
            half_open_max_calls,
            half_open_timeout,
            window,
            count_rate_limits,
            recovery_multiplier,
        )| {
            BreakerConfig {
                failure_threshold,
                recovery_timeout: Duration::from_millis(500),
                recovery_multiplier,
                max_recovery_timeout: Duration::from_millis(1_500),
                half_open_max_calls,
                half_open_timeout,
                window,
                count_rate_limits,
                ..BreakerConfig::default()
            }
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop::sample::select(vec![
        How::Success,
        How::Success,
        How::Failure,
        How::Failure,
        How::RateLimit,
        How::Caller,
        How::Drop,
    ]);
    let step = prop_oneof![
        10 => Just(Step::Acquire),
        10 => (0usize..8, how).prop_map(|(which, how)| Step::Finish { which, how }),
        3 => Just(Step::Look),
        3 => Just(Step::Success),
        3 => Just(Step::Failure),
        6 => (1u64..600).prop_map(|millis| Step::Pass { millis }),
        1 => (1u64..20_000).prop_map(|millis| Step::Pass { millis }),
        1 => prop::sample::select(vec![Step::Reset, Step::Trip, Step::ForceOpen, Step::Disable]),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_breaker_behaves_like_its_model(config in configs(), steps in steps()) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let changes = Arc::new(Mutex::new(Vec::new()));
        let seen = changes.clone();
        let signals = Arc::new(move |signal: Signal| {
            if let SignalKind::BreakerChanged(change) = &signal.kind {
                seen.lock().unwrap().push((change.from, change.to));
            }
        });
        let breaker = CircuitBreaker::with_config("agent", config.clone()).unwrap();
        let breaker = breaker.with_clock(clock.clone()).with_signals(signals);
        let mut model = Model {
            config,
            now: clock.now(),
            state: BreakerState::Closed,
            generation: 0,
            since: clock.now(),
            consecutive_opens: 0,
            probes: 0,
            results: Vec::new(),
            opened_by: 0,
        };
        let mut permits: Vec<(Permit<&CircuitBreaker>, u64, Timestamp)> = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => match (breaker.try_acquire(), model.acquire()) {
                    (Ok(permit), Ok(generation)) => permits.push((permit, generation, clock.now())),
                    (Err(open), Err(wait)) => prop_assert_eq!(open.retry_after, wait),
                    (found, expected) => prop_assert!(false, "found {found:?}, expected {expected:?}"),
                },
                Step::Finish { which, how } => {
                    if permits.is_empty() {
                        continue;
                    }
                    let (permit, generation, started) = permits.swap_remove(which % permits.len());
                    match how {
                        How::Success => permit.success(),
                        How::Failure => permit.failure(),
                        How::RateLimit => permit.error(ErrorClass::RateLimit),
                        How::Caller => permit.error(ErrorClass::Caller),
                        How::Drop => drop(permit),
                    }
                    model.finish(Some(generation), how, clock.now().since(started));
                }
                Step::Success => {
                    breaker.record_success();
                    model.finish(None, How::Success, Duration::ZERO);
                }
                Step::Failure => {
                    breaker.record_failure();
                    model.finish(None, How::Failure, Duration::ZERO);
                }
                Step::Pass { millis } => {
                    clock.advance(Duration::from_millis(millis));
                    model.now = clock.now();
                }
                Step::Look => {
                    let snapshot = breaker.snapshot();
                    prop_assert_eq!(snapshot.state, model.visible_state());
                    prop_assert_eq!(snapshot.window, model.config.window.is_some().then(|| model.counts()));
                }
                Step::Reset => {
                    breaker.reset();
                    model.transition(BreakerState::Closed);
                }
                Step::Trip => {
                    breaker.trip("by hand");
                    if matches!(model.state, BreakerState::Closed | BreakerState::HalfOpen) {
                        model.transition(BreakerState::Open);
                    }
                }
                Step::ForceOpen => {
                    breaker.force_open();
                    model.transition(BreakerState::ForcedOpen);
                }
                Step::Disable => {
                    breaker.disable();
                    model.transition(BreakerState::Disabled);
                }
            }
            prop_assert_eq!(breaker.state(), model.visible_state());
            prop_assert_eq!(breaker.failure_count(), model.failures());
        }
        // Every transition was signalled, and each begins in the state where the one before ended.
        let changes = changes.lock().unwrap();
        let mut state = BreakerState::Closed;
        for (from, to) in changes.iter() {
            prop_assert_eq!(*from, state);
            state = *to;
        }
        prop_assert_eq!(state, model.state);
    }
}
