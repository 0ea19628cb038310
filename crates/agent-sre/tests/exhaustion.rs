//! An exhausted error budget triggers the action of its objective in the other engines.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::cascade::{BreakerState, CascadeDetector, DetectorConfig};
use agent_sre::cost::{CostGuard, Limits};
use agent_sre::event::TaskFinished;
use agent_sre::slo::{SliRegistry, parse};
use agent_sre::{AgentEvent, Clock, CostStatus, EngineSettings, ManualClock, Phase, Runtime, Signal, Timestamp};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);
const FLUSH: Duration = Duration::from_secs(60);

const SLOS: &str = "name: slow-down\nservice: chatty\nindicators: [{type: task_success_rate, target: 0.9}]\n\
                    error_budget_policy: {exhaustion_action: throttle}\n\
                    ---\nname: stop\nservice: broken\nindicators: [{type: task_success_rate, target: 0.9}]\n\
                    error_budget_policy: {exhaustion_action: circuit_break}\n";

#[test]
fn an_exhausted_budget_throttles_one_agent_and_opens_the_circuit_of_another() {
    let clock = Arc::new(ManualClock::new(START));
    let settings = EngineSettings {
        clock: clock.clone(),
        slos: parse(SLOS, "slos.yaml", &SliRegistry::default()).unwrap(),
        limits: Some(Limits::default()),
        breakers: Some(DetectorConfig::default()),
        ..EngineSettings::default()
    };
    let seen = Arc::new(Mutex::new(Vec::<Signal>::new()));
    let handled = seen.clone();
    let runtime = Runtime::builder()
        .engines(&settings)
        .unwrap()
        .handle(
            "seen",
            Arc::new(move |signal: &Signal| {
                let mut handled = handled.lock().unwrap();
                // What still fires is asserted every minute.
                if !handled.iter().any(|earlier| signal.repeats(earlier)) {
                    handled.push(signal.clone());
                }
            }),
        )
        .build()
        .unwrap();
    let (guard, detector) = (runtime.get::<CostGuard>().unwrap(), runtime.get::<CascadeDetector>().unwrap());
    let run = |agent: &str, success: bool| {
        for _ in 0..40 {
            // Every other task fails, which alone opens no circuit.
            for success in [true, success] {
                runtime.record(AgentEvent::new(clock.now(), agent, TaskFinished::new(success)));
            }
        }
    };
    let evaluate = |minutes: i64| {
        for _ in 0..minutes {
            clock.advance(Duration::from_secs(1));
            runtime.evaluate(clock.now());
            clock.advance(Duration::from_secs(59));
            // A handler's own signals go to the others.
            assert!(runtime.flush(FLUSH) && runtime.flush(FLUSH));
        }
    };
    run("chatty", true);
    run("broken", true);
    evaluate(1);
    assert_eq!(guard.budget("chatty").status, CostStatus::Ok);
    assert!(seen.lock().unwrap().iter().all(|signal| signal.phase == Phase::Resolved));

    run("chatty", false);
    run("broken", false);
    evaluate(3);
    assert_eq!(guard.budget("chatty").status, CostStatus::Throttled);
    assert_eq!(guard.budget("broken").status, CostStatus::Ok);
    let state = |agent: &str| detector.breaker(agent).map(|breaker| breaker.state());
    assert_ne!(state("broken"), Some(BreakerState::Closed));
    assert_eq!(state("chatty"), Some(BreakerState::Closed));
    let count = |key: &str, phase| {
        let seen = seen.lock().unwrap();
        seen.iter().filter(|signal| (&*signal.key, signal.phase) == (key, phase)).count()
    };
    for (key, begins) in [
        ("slo/slow-down/chatty", 1),
        ("slo/stop/broken", 1),
        ("cost/agent chatty/status", 1),
        ("cost/agent broken/status", 0),
        ("breaker/agent chatty", 0),
    ] {
        assert_eq!(count(key, Phase::Firing), begins, "{key}");
    }
    assert!(count("breaker/agent broken", Phase::Firing) >= 1);

    // A window later nothing is exhausted, and the throttling ends.
    clock.advance(Duration::from_secs(40 * 86_400));
    run("chatty", true);
    evaluate(2);
    assert_eq!(guard.budget("chatty").status, CostStatus::Ok);
    assert_eq!(count("cost/agent chatty/status", Phase::Resolved), 1);
}

#[test]
fn an_action_whose_engine_has_no_settings_is_refused() {
    let settings = |limits: bool, breakers: bool| EngineSettings {
        slos: parse(SLOS, "slos.yaml", &SliRegistry::default()).unwrap(),
        limits: limits.then(Limits::default),
        breakers: breakers.then(DetectorConfig::default),
        ..EngineSettings::default()
    };
    for (limits, breakers, expected) in [
        (
            false,
            true,
            "`slow-down`: `exhaustion_action: throttle` needs cost limits (`limits`); add them, or choose another action",
        ),
        (
            true,
            false,
            "`stop`: `exhaustion_action: circuit_break` needs circuit breakers (`breakers`); add them, or choose another action",
        ),
    ] {
        let mut settings = settings(limits, breakers);
        let refused = Runtime::builder().engines(&settings).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), expected);
        settings.takes_actions = false;
        assert!(Runtime::builder().engines(&settings).is_ok(), "a report takes no action");
    }
    assert!(Runtime::builder().engines(&settings(true, true)).is_ok());
}
