//! The public API: calls, fallbacks, futures, panics and signals.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sre_cascade::{BreakerConfig, BreakerState, CallError, CircuitBreaker, SlidingWindow, WindowSize};
use sre_core::{Clock, ManualClock, Signal, SignalKind, Timestamp};

const SECOND: Duration = Duration::from_secs(1);

fn with(config: BreakerConfig) -> (Arc<CircuitBreaker>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    (Arc::new(CircuitBreaker::with_config("planner", config).unwrap().with_clock(clock.clone())), clock)
}

fn open() -> (Arc<CircuitBreaker>, Arc<ManualClock>) {
    let (breaker, clock) = with(BreakerConfig::default());
    (0..5).for_each(|_| breaker.record_failure());
    (breaker, clock)
}

#[test]
fn five_failures_open_it_for_thirty_seconds_and_one_probe_call_decides() {
    let (breaker, clock) = open();
    assert_eq!(breaker.state(), BreakerState::Open);
    clock.advance(SECOND);
    let rejected = breaker.call(|| Ok::<_, ()>(1));
    assert_eq!(rejected, Err(CallError::Open { retry_after: 29 * SECOND }));
    clock.advance(29 * SECOND);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Err(CallError::Open { retry_after: Duration::ZERO }));
    probe.failure();
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Err(CallError::Open { retry_after: 30 * SECOND }));
    clock.advance(30 * SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
    assert_eq!(breaker.state(), BreakerState::Closed);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.opened, snapshot.rejected, snapshot.late), (2, 3, 0));
}

#[test]
fn a_fallback_answers_an_open_circuit_and_no_error() {
    let (breaker, _) = open();
    assert_eq!(breaker.call_or(|| Err("real"), |open| Ok(open.retry_after.as_secs())), Ok(30));
    breaker.reset();
    assert_eq!(breaker.call_or(|| Err("real"), |_| Ok(0)), Err("real"));
}

#[tokio::test]
async fn futures_are_guarded_too_and_a_cancelled_one_has_failed() {
    let (breaker, clock) = with(BreakerConfig { failure_threshold: 1, ..BreakerConfig::default() });
    assert_eq!(breaker.call_async(|| async { Ok::<_, ()>(1) }).await, Ok(1));
    {
        let endless = breaker.call_async(std::future::pending::<Result<(), ()>>);
        let mut endless = std::pin::pin!(endless);
        assert!(tokio::time::timeout(Duration::ZERO, &mut endless).await.is_err());
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    let answer = breaker.call_async_or(|| async { Ok::<_, ()>(1) }, |_| async { Ok(2) }).await;
    assert_eq!(answer, Ok(2));
    // A cancelled probe call counts as a failure.
    clock.advance(30 * SECOND);
    drop(breaker.try_acquire_owned().unwrap());
    assert_eq!(breaker.state(), BreakerState::Open);
    clock.advance(30 * SECOND);
    assert_eq!(breaker.call_async(|| async { Ok::<_, ()>(3) }).await, Ok(3));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_call_that_panics_has_failed() {
    std::panic::set_hook(Box::new(|_| {}));
    let (breaker, clock) = open();
    clock.advance(30 * SECOND);
    let panicked = catch_unwind(AssertUnwindSafe(|| breaker.call(|| -> Result<(), ()> { panic!("a tool's mistake") })));
    assert!(panicked.is_err());
    assert_eq!(breaker.state(), BreakerState::Open);
    clock.advance(30 * SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
}

#[test]
fn every_change_is_a_signal() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let signals = Arc::new(Mutex::new(Vec::new()));
    let seen = signals.clone();
    let breaker = CircuitBreaker::new("planner")
        .with_clock(clock.clone())
        .with_signals(Arc::new(move |signal: Signal| seen.lock().unwrap().push(signal)));
    (0..5).for_each(|_| breaker.record_failure());
    clock.advance(30 * SECOND);
    breaker.call(|| Ok::<_, ()>(())).unwrap();
    let signals = signals.lock().unwrap();
    let changes: Vec<_> = signals
        .iter()
        .map(|signal| {
            let SignalKind::BreakerChanged(change) = &signal.kind else { panic!("{signal:?}") };
            assert_eq!(signal.agent, "planner");
            (change.to, &*change.reason, change.number, change.retry_after_s)
        })
        .collect();
    assert_eq!(
        changes,
        [
            (BreakerState::Open, "5 consecutive failures", 1, Some(30.0)),
            (BreakerState::HalfOpen, "recovery timeout elapsed", 2, None),
            (BreakerState::Closed, "probe calls succeeded", 3, None),
        ]
    );
}

#[test]
fn the_recovery_time_grows_and_varies_and_stays_bounded() {
    let config = BreakerConfig {
        failure_threshold: 1,
        recovery_multiplier: 2.0,
        max_recovery_timeout: 100 * SECOND,
        recovery_jitter: 0.2,
        seed: Some(7),
        ..BreakerConfig::default()
    };
    let (breaker, clock) = with(config);
    for expected in [30.0, 60.0, 100.0, 100.0] {
        breaker.record_failure();
        let wait = breaker.snapshot().retry_after_s.unwrap();
        assert!((expected * 0.8..=f64::min(expected * 1.2, 100.0)).contains(&wait), "{wait}");
        assert!(wait != expected || expected == 100.0, "jitter applies");
        clock.advance(Duration::from_secs_f64(wait));
    }
    breaker.record_success();
    breaker.record_failure();
    assert!(breaker.snapshot().retry_after_s.unwrap() <= 36.0, "closing resets the multiplier");
}

#[test]
fn a_clock_that_was_set_back_does_not_keep_it_open() {
    let (breaker, clock) = open();
    let hour = Duration::from_secs(3_600);
    clock.set(clock.now().saturating_sub(hour));
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Err(CallError::Open { retry_after: 30 * SECOND }));
    clock.advance(30 * SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
}

#[test]
fn forced_open_and_disabled_hold_until_reset() {
    let (breaker, clock) = with(BreakerConfig::default());
    breaker.force_open();
    clock.advance(1_000_000 * SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Err(CallError::Open { retry_after: Duration::MAX }));
    breaker.disable();
    (0..100).for_each(|_| breaker.record_failure());
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
    assert_eq!(breaker.state(), BreakerState::Disabled);
    breaker.reset();
    assert_eq!((breaker.state(), breaker.failure_count()), (BreakerState::Closed, 0));
}

#[test]
fn a_limited_breaker_lets_one_call_through_every_so_often() {
    let (breaker, clock) = with(BreakerConfig::default());
    breaker.limit(Some(2 * SECOND));
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
    clock.advance(SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Err(CallError::Open { retry_after: SECOND }));
    clock.advance(SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
    breaker.limit(None);
    assert_eq!(breaker.call(|| Ok::<_, ()>(1)), Ok(1));
}

#[test]
fn slow_calls_open_it_too() {
    let window = SlidingWindow {
        size: WindowSize::Time(60 * SECOND),
        minimum_calls: 4,
        slow_call: Some(SECOND),
        slow_call_rate: 0.5,
        ..SlidingWindow::default()
    };
    let (breaker, clock) = with(BreakerConfig { window: Some(window), ..BreakerConfig::default() });
    for call in 0..4 {
        assert_eq!(breaker.state(), BreakerState::Closed);
        let answer = breaker.call(|| {
            clock.advance(if call % 2 == 0 { 2 * SECOND } else { SECOND });
            Ok::<_, ()>(())
        });
        assert_eq!(answer, Ok(()));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn threads_lose_no_call_and_no_failure() {
    const CALLS: u64 = 40_000;
    let window = SlidingWindow {
        size: WindowSize::Time(Duration::from_secs(86_400)),
        minimum_calls: 1_000_000,
        ..SlidingWindow::default()
    };
    let (breaker, _) = with(BreakerConfig { window: Some(window), ..BreakerConfig::default() });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for call in 0..CALLS {
                    let _ = breaker.call(|| if call % 100 == 7 { Err(()) } else { Ok(()) });
                }
            });
        }
    });
    let window = breaker.snapshot().window.unwrap();
    assert_eq!((window.calls, window.failed), (4 * CALLS, 4 * CALLS / 100));
}

#[test]
fn errors_say_what_to_do() {
    let text = |retry_after| CallError::<std::io::Error>::Open { retry_after }.to_string();
    assert_eq!(text(Duration::from_millis(12_340)), "circuit open: retry in 12.3s");
    assert_eq!(text(Duration::ZERO), "circuit open: probe calls are in flight; retry when they have ended");
    assert_eq!(text(Duration::MAX), "circuit open: forced open until it is reset");
}
