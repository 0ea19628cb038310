//! Every interleaving of a few threads on one breaker: `cargo xtask test` runs this with `--cfg sre_loom`.
#![cfg(sre_loom)]

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use sre_cascade::{BreakerConfig, BreakerState, CircuitBreaker, SlidingWindow, WindowSize};
use sre_core::{ManualClock, Timestamp};

/// A breaker that opens when half of at least three calls have failed. Its counter already exists.
fn windowed() -> (Arc<CircuitBreaker>, Arc<ManualClock>) {
    let window = SlidingWindow { size: WindowSize::Calls(4), minimum_calls: 3, ..SlidingWindow::default() };
    let breaker = with(BreakerConfig { window: Some(window), ..BreakerConfig::default() });
    breaker.0.snapshot();
    breaker
}

fn with(config: BreakerConfig) -> (Arc<CircuitBreaker>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    (Arc::new(CircuitBreaker::with_config("agent", config).unwrap().with_clock(clock.clone())), clock)
}

fn both(breaker: &Arc<CircuitBreaker>, one: fn(&CircuitBreaker), other: fn(&CircuitBreaker)) {
    let threads = [one, other].map(|act| {
        let breaker = breaker.clone();
        thread::spawn(move || act(&breaker))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn the_call_that_completes_the_minimum_opens_the_breaker_in_any_order() {
    loom::model(|| {
        let (breaker, _) = windowed();
        breaker.record_failure();
        both(&breaker, CircuitBreaker::record_success, CircuitBreaker::record_failure);
        // Two of three calls failed.
        assert_eq!(breaker.state(), BreakerState::Open);
    });
}

#[test]
fn a_first_failure_and_a_success_are_both_counted() {
    loom::model(|| {
        let (breaker, _) = windowed();
        both(&breaker, CircuitBreaker::record_success, CircuitBreaker::record_failure);
        let window = breaker.snapshot().window.unwrap();
        assert_eq!((window.calls, window.failed), (2, 1));
        breaker.record_failure();
        assert_eq!(breaker.state(), BreakerState::Open);
    });
}

#[test]
fn a_call_admitted_before_a_reset_is_not_counted_after_it() {
    loom::model(|| {
        let (breaker, _) = windowed();
        let permit = breaker.try_acquire_owned().unwrap();
        let resetting = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.reset())
        };
        permit.success();
        resetting.join().unwrap();
        assert_eq!(breaker.snapshot().window.unwrap().calls, 0);
    });
}

#[test]
fn one_probe_call_is_admitted() {
    loom::model(|| {
        let (breaker, clock) = with(BreakerConfig { failure_threshold: 1, ..BreakerConfig::default() });
        breaker.record_failure();
        clock.advance(Duration::from_secs(30));
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.try_acquire_owned().ok())
        };
        let own = breaker.try_acquire().ok();
        let other = other.join().unwrap();
        assert!(own.is_some() != other.is_some());
        own.into_iter().for_each(sre_cascade::Permit::success);
        other.into_iter().for_each(sre_cascade::Permit::success);
        assert_eq!(breaker.state(), BreakerState::Closed);
    });
}

#[test]
fn consecutive_failures_are_all_counted() {
    loom::model(|| {
        let (breaker, _) = with(BreakerConfig { failure_threshold: 2, ..BreakerConfig::default() });
        both(&breaker, CircuitBreaker::record_failure, CircuitBreaker::record_failure);
        assert_eq!(breaker.state(), BreakerState::Open);
    });
}

#[test]
fn a_success_resets_the_failure_count_or_precedes_the_failure() {
    loom::model(|| {
        let (breaker, _) = with(BreakerConfig { failure_threshold: 2, ..BreakerConfig::default() });
        breaker.record_failure();
        both(&breaker, CircuitBreaker::record_success, CircuitBreaker::record_failure);
        match breaker.state() {
            BreakerState::Open => assert_eq!(breaker.failure_count(), 2),
            state => {
                assert_eq!(state, BreakerState::Closed);
                assert!(breaker.failure_count() <= 1);
            }
        }
    });
}
