//! An objective whose exhaustion action is `throttle` throttles its agent.

use std::sync::Arc;
use std::time::Duration;

use sre_core::{
    Clock, CostAlertKind, CostStatus, ExhaustionAction, ManualClock, Observe, Persist, Phase, Severity, Signal,
    SignalHandler, SignalKind, SloStatusChange, StateReader, StateWriter, Status, Timestamp, Usd,
};
use sre_cost::{CostGuard, CostObserver, Denied, Limits};

const DAY: Duration = Duration::from_secs(86_400);

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn guard() -> (Arc<CostGuard>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new("2026-11-23T12:00:00Z".parse().unwrap()));
    let limits =
        Limits { per_agent_daily: usd("10"), per_task: usd("10"), anomaly_detection: false, ..Limits::default() };
    (Arc::new(CostGuard::with_limits(limits).unwrap().with_clock(clock.clone())), clock)
}

fn signal(slo: &str, agent: &str, to: Status, clock: &ManualClock) -> Signal {
    let key = format!("slo/{slo}/{agent}");
    let signal = match to {
        Status::Healthy => Signal::resolved("slo", key, clock.now()),
        _ => Signal::firing("slo", key, Severity::Critical, clock.now()),
    };
    let change = SloStatusChange::new(Status::Unknown, to, ExhaustionAction::Throttle);
    let mut signal = signal.with_agent(agent).with_state(to.as_str()).with_kind(SignalKind::SloStatusChanged(change));
    signal.slo = slo.to_owned();
    signal
}

fn handle(guard: &CostGuard, signal: &Signal) {
    guard.handle(std::slice::from_ref(signal), &mut |_| {});
}

fn kinds(guard: &CostGuard) -> Vec<CostAlertKind> {
    guard.alerts().into_iter().map(|alert| alert.kind).collect()
}

fn throttled(slo: &str) -> CostAlertKind {
    CostAlertKind::Throttled { slo: Some(slo.to_owned()) }
}

#[test]
fn an_exhausted_objective_throttles_its_agent_until_it_recovers() {
    for recovered in [Status::Healthy, Status::Critical] {
        let (guard, clock) = guard();
        let exhausted = signal("answers", "a", Status::Exhausted, &clock);
        (0..3).for_each(|_| handle(&guard, &exhausted));
        assert_eq!(kinds(&guard), [throttled("answers")], "once, however often it is asserted");
        assert_eq!(guard.alerts()[0].kind.to_string(), "throttled: the error budget of answers is exhausted");
        assert!(guard.budget("a").throttled());
        // One task per ten seconds, as at `throttle_at`.
        assert_eq!(guard.check_task("a", usd("0.01")), Ok(()));
        assert!(matches!(guard.check_task("a", usd("0.01")), Err(Denied::Throttled { .. })));
        clock.advance(Duration::from_secs(10));
        assert_eq!(guard.check_task("a", usd("0.01")), Ok(()));
        assert_eq!(guard.budget("b").status, CostStatus::Ok, "other agents are not affected");

        (0..2).for_each(|_| handle(&guard, &signal("answers", "a", recovered, &clock)));
        assert_eq!(guard.budget("a").status, CostStatus::Ok);
        assert_eq!(kinds(&guard), [throttled("answers"), CostAlertKind::Unblocked]);
    }
}

#[test]
fn other_exhaustion_actions_throttle_nobody() {
    let (guard, clock) = guard();
    let mut exhausted = signal("answers", "a", Status::Exhausted, &clock);
    let SignalKind::SloStatusChanged(change) = &mut exhausted.kind else { unreachable!() };
    change.exhaustion_action = ExhaustionAction::CircuitBreak;
    handle(&guard, &exhausted);
    assert_eq!((guard.budget("a").status, kinds(&guard)), (CostStatus::Ok, Vec::new()));
}

#[test]
fn an_agent_stays_throttled_while_anything_throttles_it() {
    let (guard, clock) = guard();
    let [answers, tools] = ["answers", "tools"].map(|slo| signal(slo, "a", Status::Exhausted, &clock));
    guard.handle(&[answers, tools], &mut |_| {});
    handle(&guard, &signal("answers", "a", Status::Healthy, &clock));
    assert!(guard.budget("a").throttled(), "the other objective is still exhausted");
    // Its own spending throttles it too, and later blocks it: neither is news about an objective.
    guard.record_cost("a", "t", usd("8.6"), &[]).unwrap();
    handle(&guard, &signal("tools", "a", Status::Healthy, &clock));
    assert!(guard.budget("a").throttled(), "its limit is still nearly spent");
    handle(&guard, &signal("tools", "a", Status::Exhausted, &clock));
    guard.record_cost("a", "t", usd("1"), &[]).unwrap();
    handle(&guard, &signal("tools", "a", Status::Healthy, &clock));
    assert!(guard.budget("a").killed());
    let changes = |kind: &CostAlertKind| !matches!(kind, CostAlertKind::Threshold { .. });
    let kinds: Vec<_> = kinds(&guard).into_iter().filter(changes).collect();
    assert_eq!(kinds, [throttled("answers"), CostAlertKind::Killed]);
}

#[test]
fn a_reset_or_a_new_day_unblocks_the_agent_until_it_is_exhausted_anew() {
    let (guard, clock) = guard();
    let reset: fn(&CostGuard, &ManualClock) = |guard, _| guard.reset_daily(Some("a"));
    for end in [reset, |_, clock| clock.advance(DAY)] {
        let exhausted = signal("answers", "a", Status::Exhausted, &clock);
        handle(&guard, &exhausted);
        assert!(guard.budget("a").throttled());
        end(&guard, &clock);
        assert_eq!(guard.budget("a").status, CostStatus::Ok);
        handle(&guard, &exhausted);
        assert_eq!(guard.budget("a").status, CostStatus::Ok, "asserted again, it is no news");
        // Exhausted anew.
        clock.advance(Duration::from_secs(1));
    }
    let expected = [throttled("answers"), CostAlertKind::Unblocked, throttled("answers"), CostAlertKind::Unblocked];
    assert_eq!(kinds(&guard), expected);
}

#[test]
fn it_survives_a_restart_on_the_same_day() {
    let (before, clock) = guard();
    let exhausted = signal("answers", "a", Status::Exhausted, &clock);
    handle(&before, &exhausted);
    let mut state = StateWriter::default();
    CostObserver::new(before).save(&mut state);
    let state = state.finish().unwrap();

    let (guard, _) = guard();
    CostObserver::new(guard.clone()).restore(&mut StateReader::new(&state)).unwrap();
    assert!(guard.budget("a").throttled());
    handle(&guard, &exhausted);
    assert_eq!(kinds(&guard), [], "it was reported before the restart");
    handle(&guard, &signal("answers", "a", Status::Healthy, &clock));
    assert_eq!((guard.budget("a").status, kinds(&guard)), (CostStatus::Ok, vec![CostAlertKind::Unblocked]));

    // After a restart on the next day nobody is throttled, and the incident ends.
    clock.advance(DAY);
    let guard = Arc::new(CostGuard::new().with_clock(clock.clone()));
    let observer = CostObserver::new(guard.clone());
    observer.restore(&mut StateReader::new(&state)).unwrap();
    handle(&guard, &exhausted);
    assert_eq!((guard.budget("a").status, kinds(&guard)), (CostStatus::Ok, vec![CostAlertKind::Unblocked]));
    let mut signals = Vec::new();
    observer.evaluate(clock.now(), &mut |signal| signals.push(signal));
    observer.reassert(&mut |signal| signals.push(signal));
    assert_eq!(signals.iter().map(|signal| signal.phase).collect::<Vec<_>>(), [Phase::Resolved; 2]);
    assert!(signals[1].repeats(&signals[0]));
}

#[test]
fn a_restart_after_the_clock_was_set_back_begins_no_day_anew() {
    let (before, clock) = guard();
    handle(&before, &signal("answers", "a", Status::Exhausted, &clock));
    let mut state = StateWriter::default();
    CostObserver::new(before).save(&mut state);
    clock.set(Timestamp::from_secs(clock.now().as_secs() - 2 * 86_400));
    let guard = Arc::new(CostGuard::new().with_clock(clock));
    CostObserver::new(guard.clone()).restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    assert!(guard.budget("a").throttled());
}
