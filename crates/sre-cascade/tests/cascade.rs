//! Detection and mitigation of cascades.

use std::sync::Arc;
use std::time::Duration;

use sre_cascade::{BreakerConfig, BreakerState, CascadeDetector, DetectorConfig, Mitigation, SlidingWindow, Target};
use sre_core::{
    AgentEvent, CascadeEnd, Clock, Collect, ExhaustionAction, ManualClock, Observe, Persist, Severity, Signal,
    SignalHandler, SignalKind, SloStatusChange, Snapshot, StateReader, StateWriter, Status, Timestamp,
};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

fn detector(config: DetectorConfig) -> (CascadeDetector, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    (CascadeDetector::with_config(config, clock.clone()).unwrap(), clock)
}

fn at(seconds: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(seconds))
}

fn event(second: u64, agent: &str, fields: &str) -> AgentEvent {
    let json = format!(r#"{{"time":"{}","agent":"{agent}",{fields}}}"#, at(second));
    AgentEvent::from_json(json.as_bytes()).unwrap()
}

const FAILED_TASK: &str = r#""event":"task_finished","success":false"#;
const FAILED_CALL: &str = r#""event":"llm_call","model":"gpt-5","success":false,"error":"upstream error 503""#;

/// Describes the signals that these events cause.
fn signals_of(detector: &CascadeDetector, events: &[AgentEvent]) -> Vec<String> {
    let mut signals = Vec::new();
    let mut collect = |signal: Signal| {
        signals.push(match signal.kind {
            SignalKind::BreakerChanged(change) => format!("{}: {}", change.target, change.to),
            SignalKind::Cascade(report) => {
                let path: Vec<String> = report.path.iter().map(|failing| failing.target.to_string()).collect();
                format!("cascade: {}", path.join(" > "))
            }
            SignalKind::CascadeOver(end) => format!("over: {}", end.origin),
            kind => format!("{kind:?}"),
        });
    };
    events.iter().for_each(|event| detector.observe(event, &mut collect));
    signals
}

#[test]
fn failures_that_follow_the_call_graph_are_a_cascade_before_any_circuit_opens() {
    let (detector, _) = detector(DetectorConfig::default());
    let handoff = event(0, "planner", r#""event":"handoff","from":"planner","to":"worker","depth":1"#);
    let mut events = vec![handoff];
    for round in 0..2 {
        events.push(event(10 + round * 10, "worker", FAILED_CALL));
        events.push(event(11 + round * 10, "worker", FAILED_TASK));
        events.push(event(12 + round * 10, "planner", FAILED_TASK));
    }
    assert_eq!(signals_of(&detector, &events[..4]), [""; 0], "a single failure that propagates is no cascade");
    assert_eq!(signals_of(&detector, &events[4..]), ["cascade: model gpt-5 > agent worker > agent planner"]);
    let report = detector.check_cascade_at(at(30)).unwrap();
    assert_eq!(report.origin, Target::model("gpt-5"));
    assert_eq!(report.path[1].since, at(11));
    assert!(report.open.is_empty() && report.blast_radius.is_empty());

    // The window has passed since the last failure.
    let mut over = Vec::new();
    detector.evaluate(at(22 + 301), &mut |signal| over.push(signal.kind));
    assert_eq!(over, [SignalKind::CascadeOver(CascadeEnd::new(Target::model("gpt-5")))]);
}

#[test]
fn three_open_circuits_are_a_cascade_whoever_calls_whom() {
    let (detector, clock) = detector(DetectorConfig::default());
    detector.add_agents(["a", "b", "c", "d"]);
    detector.add_call("boss", "b");
    detector.add_call("owner", "boss");
    for (second, agent) in [(0, "b"), (1, "a"), (2, "c")] {
        assert!(detector.check_cascade().is_none());
        clock.set(at(second));
        (0..5).for_each(|_| detector.breaker(agent).unwrap().record_failure());
    }
    let report = detector.check_cascade().unwrap();
    assert_eq!(report.origin, Target::agent("b"), "failed first");
    assert_eq!(report.open, ["b", "a", "c"].map(Target::agent));
    assert_eq!(report.blast_radius, ["boss", "owner"].map(Target::agent));
    assert_eq!(detector.affected_agents(), ["a", "b", "c"]);
    assert!(detector.breaker("nobody").is_none());
    assert_eq!(detector.get_affected_agents(), detector.affected_agents());
    assert_eq!(detector.get_breaker("a").map(|breaker| breaker.state()), Some(BreakerState::Open));
    // The recovery timeout has elapsed, although no call has been made since.
    clock.set(at(31));
    assert_eq!(detector.affected_agents(), ["c"]);
    detector.reset_all();
    assert_eq!(detector.affected_agents(), [""; 0]);
}

#[test]
fn callers_are_learned_from_parent_spans() {
    let (detector, _) = detector(DetectorConfig::default());
    let in_span = |agent: &str, span: &str, parent: &str, fields: &str| {
        event(5, agent, &format!(r#""trace_id":"t","span_id":"{span}","parent_span_id":"{parent}",{fields}"#))
    };
    // Children end before their parents.
    let events = [
        in_span("search", "s2", "s1", FAILED_TASK),
        in_span("writer", "s1", "s0", FAILED_TASK),
        event(5, "chief", &format!(r#""trace_id":"t","span_id":"s0",{FAILED_TASK}"#)),
    ];
    assert_eq!(signals_of(&detector, &events), [""; 0]);
    assert_eq!(signals_of(&detector, &events), ["cascade: agent search > agent writer > agent chief"]);
}

#[test]
fn errors_of_the_caller_do_not_count_for_the_tool() {
    let (detector, _) = detector(DetectorConfig::default());
    let call = |error: &str| {
        event(1, "a", &format!(r#""event":"tool_call","tool":"search","success":false,"error":"{error}""#))
    };
    let events: Vec<_> = (0..9).map(|_| call("ValidationError: city is missing")).collect();
    assert_eq!(signals_of(&detector, &events), [""; 0]);
    let events: Vec<_> = (0..5).map(|_| call("connection reset")).collect();
    assert_eq!(signals_of(&detector, &events), ["tool search: open"]);
    let [Snapshot::Breaker(breaker)] = &detector.snapshots(at(11))[..] else { panic!("the tool's") };
    assert_eq!((breaker.state, breaker.retry_after_s), (BreakerState::Open, Some(20.0)));
}

/// Two agents call a failing model, and a third agent calls one of them. One open circuit makes a cascade.
fn failing(mitigation: Mitigation) -> (CascadeDetector, Arc<ManualClock>) {
    let (detector, clock) = detector(DetectorConfig { mitigation, cascade_threshold: 1, ..DetectorConfig::default() });
    for agent in ["one", "two"] {
        detector.add_call(agent, Target::model("gpt-5"));
    }
    detector.add_call("chief", "one");
    (0..5).for_each(|_| detector.breaker(Target::model("gpt-5")).unwrap().record_failure());
    detector.evaluate(clock.now(), &mut |_| {});
    (detector, clock)
}

#[test]
fn callers_can_be_opened_before_they_fail_too() {
    let (detector, clock) = failing(Mitigation::Open);
    let state = |agent: &str| detector.breaker(agent).unwrap().state();
    assert_eq!(["one", "two", "chief"].map(state), [BreakerState::Open, BreakerState::Open, BreakerState::Closed]);
    // A circuit opened by the mitigation does not propagate further and is no part of the cascade.
    detector.evaluate(clock.now(), &mut |_| {});
    assert_eq!(state("chief"), BreakerState::Closed);
    assert_eq!(detector.check_cascade().unwrap().open, [Target::model("gpt-5")]);
    clock.advance(Duration::from_secs(30));
    assert_eq!(["one", "two"].map(state), [BreakerState::HalfOpen; 2]);
}

#[test]
fn callers_can_be_limited_until_the_cascade_ends() {
    let (detector, clock) = failing(Mitigation::Limit(Duration::from_secs(10)));
    let call = |agent: &str| detector.breaker(agent).unwrap().call(|| Ok::<_, ()>(())).is_ok();
    assert_eq!((call("one"), call("one"), call("one")), (true, false, false));
    assert!(call("chief") && call("chief"));
    clock.advance(Duration::from_secs(10));
    assert_eq!((call("one"), call("one")), (true, false));
    detector.breaker(Target::model("gpt-5")).unwrap().reset();
    detector.evaluate(clock.now(), &mut |_| {});
    assert!(call("one") && call("one"));
}

#[test]
fn an_exhausted_budget_opens_the_circuit_if_its_exhaustion_action_says_so() {
    let (detector, _) = detector(DetectorConfig::default());
    let exhausted = |exhaustion_action| {
        let change = SloStatusChange::new(Status::Critical, Status::Exhausted, exhaustion_action);
        let kind = SignalKind::SloStatusChanged(change);
        Signal::firing("slo", "slo/answers/planner", Severity::Critical, START).with_agent("planner").with_kind(kind)
    };
    detector.handle(&[exhausted(ExhaustionAction::Alert)], &mut |_| {});
    assert!(detector.breaker("planner").is_none());
    detector.handle(&[exhausted(ExhaustionAction::CircuitBreak)], &mut |_| {});
    let breaker = detector.breaker("planner").unwrap();
    assert_eq!(breaker.state(), BreakerState::Open);
    // Re-sent, also after a restart, it is a repeat.
    breaker.reset();
    detector.handle(&[exhausted(ExhaustionAction::CircuitBreak)], &mut |_| {});
    assert_eq!(breaker.state(), BreakerState::Closed);
    let mut state = StateWriter::default();
    detector.save(&mut state);
    let (restored, _) = self::detector(DetectorConfig::default());
    restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    restored.handle(&[exhausted(ExhaustionAction::CircuitBreak)], &mut |_| {});
    assert_eq!(restored.breaker("planner").unwrap().state(), BreakerState::Closed);
}

#[test]
fn a_restart_changes_no_breaker_and_no_cascade() {
    for window in [None, Some(SlidingWindow::default())] {
        let agent = BreakerConfig { window, ..BreakerConfig::default() };
        let config = DetectorConfig { agent, ..DetectorConfig::default() };
        let (before, clock) = detector(config.clone());
        let mut events = vec![event(0, "planner", r#""event":"handoff","from":"planner","to":"worker","depth":1"#)];
        for round in 0..6 {
            events.push(event(10 + round * 10, "worker", FAILED_CALL));
            events.push(event(11 + round * 10, "worker", FAILED_TASK));
            events.push(event(12 + round * 10, "planner", FAILED_TASK));
        }
        let (first, second) = events.split_at(11);
        signals_of(&before, first);
        let mut state = StateWriter::default();
        before.save(&mut state);
        let after = CascadeDetector::with_config(config, clock.clone()).unwrap();
        after.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        let reasserted = |detector: &CascadeDetector| {
            let mut keys = Vec::new();
            detector.reassert(&mut |signal| keys.push((signal.key, signal.state, signal.time)));
            keys.sort();
            keys
        };
        assert!(!reasserted(&before).is_empty());
        assert_eq!(reasserted(&after), reasserted(&before));
        assert_eq!(after.snapshots(at(45)), before.snapshots(at(45)));
        assert_eq!(signals_of(&after, second), signals_of(&before, second));
        assert_eq!(after.snapshots(at(90)), before.snapshots(at(90)));
        assert_eq!(reasserted(&after), reasserted(&before));
    }
}

/// An earlier version has saved names of any length.
#[test]
fn long_names_in_saved_state_are_shortened() {
    let (before, _) = detector(DetectorConfig::default());
    let tool = "x".repeat(2 << 20);
    let call = event(1, "worker", &format!(r#""event":"tool_call","tool":"{tool}","success":false"#));
    (0..5).for_each(|_| drop(signals_of(&before, std::slice::from_ref(&call))));
    let mut state = StateWriter::default();
    before.save(&mut state);
    let (after, _) = detector(DetectorConfig::default());
    after.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    let Snapshot::Breaker(breaker) = &after.snapshots(at(2))[0] else { panic!("no breaker") };
    assert_eq!((breaker.target.name.len(), breaker.state), (256, BreakerState::Open));
    let mut state = StateWriter::default();
    after.save(&mut state);
    assert!(state.finish().unwrap().len() < 10_000);
}

#[test]
fn failures_are_followed_through_cycles_of_a_hundred_thousand_agents() {
    let (detector, clock) = detector(DetectorConfig::default());
    let name = |number: u32| format!("agent-{number}");
    for number in 0..100_000 {
        detector.add_call(name((number + 1) % 100_000), name(number));
        detector.add_call(name(number / 2), name(number));
    }
    for number in 500..510 {
        clock.advance(Duration::from_secs(1));
        (0..2).for_each(|_| detector.breaker(name(number)).unwrap().record_failure());
    }
    let report = detector.check_cascade().unwrap();
    let path: Vec<_> = report.path.iter().map(|failing| failing.target.name.clone()).collect();
    assert_eq!(path, (500..510).map(name).collect::<Vec<_>>());
    assert_eq!(report.exposed, 100_000 - 10);
    assert_eq!(report.blast_radius.len(), 100);
    assert!(report.blast_radius[..12].contains(&Target::agent("agent-510")), "nearest first");
}

#[test]
fn targets_and_calls_beyond_the_limits_are_counted() {
    let (detector, _) = detector(DetectorConfig { max_targets: 2, max_calls: 1, ..DetectorConfig::default() });
    detector.add_call("a", "b");
    detector.add_call("b", "a");
    assert!(detector.add("c").is_none());
    assert_eq!(detector.overflow(), 2);
    assert_eq!(signals_of(&detector, &[event(1, "c", FAILED_TASK)]), [""; 0]);
}

#[test]
fn an_invalid_field_is_named() {
    for (field, config) in [
        ("cascade_threshold", DetectorConfig { cascade_threshold: 0, ..DetectorConfig::default() }),
        ("path_threshold", DetectorConfig { path_threshold: 1, ..DetectorConfig::default() }),
        ("path_failures", DetectorConfig { path_failures: 0, ..DetectorConfig::default() }),
        ("window", DetectorConfig { window: Duration::ZERO, ..DetectorConfig::default() }),
        ("mitigation", DetectorConfig { mitigation: Mitigation::Limit(Duration::ZERO), ..DetectorConfig::default() }),
    ] {
        let error = CascadeDetector::with_config(config, Arc::new(ManualClock::default())).unwrap_err();
        assert_eq!(error.field, field);
    }
}
