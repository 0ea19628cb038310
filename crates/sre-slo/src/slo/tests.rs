use std::sync::Arc;
use std::time::Duration;

use sre_core::event::TaskFinished;
use sre_core::{Clock, ManualClock, SignalKind, StateReader, StateWriter, Usd};

use super::*;
use crate::{CostPerTask, HallucinationRate, ResponseLatency, TaskSuccessRate};

fn finished(time: Timestamp, success: bool) -> AgentEvent {
    let mut finished = TaskFinished::new(success);
    finished.duration_ms = Some(10.0);
    AgentEvent::new(time, "support", finished)
}

#[test]
fn the_budget_comes_from_the_strictest_ratio_and_never_from_a_latency_or_a_cost() {
    let budget = |indicators| Slo::new("x", indicators).unwrap().budget().config().total;
    assert_eq!(
        budget(vec![Box::new(TaskSuccessRate::new(0.9).unwrap()), Box::new(TaskSuccessRate::new(0.99).unwrap())]),
        Some(0.01)
    );
    assert_eq!(
        budget(vec![Box::new(TaskSuccessRate::new(0.9).unwrap()), Box::new(HallucinationRate::new(0.02).unwrap())]),
        Some(0.1),
        "other samples have a budget of their own"
    );
    assert_eq!(budget(vec![Box::new(HallucinationRate::new(0.02).unwrap())]), Some(0.02));
    assert_eq!(budget(vec![Box::new(ResponseLatency::default()), Box::new(CostPerTask::default())]), None);
}

#[test]
fn every_transition_is_signalled_once() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let budget = ErrorBudget::new(BudgetConfig { total: Some(0.05), ..Default::default() }).unwrap();
    let slo = Slo::new("answers", vec![]).unwrap().for_agent("support").with_budget(budget.with_clock(clock.clone()));
    let mut seen = Vec::new();
    let mut evaluate = |slo: &Slo| {
        let mut signals = Vec::new();
        slo.evaluate_at(clock.now(), &mut |signal| signals.push(signal));
        for signal in signals {
            let SignalKind::SloStatusChanged(change) = signal.kind else { panic!("{signal:?}") };
            seen.push((change.from, change.to));
        }
    };
    evaluate(&slo);
    (0..1000).for_each(|_| slo.record_event(true));
    evaluate(&slo);
    evaluate(&slo);
    clock.advance(Duration::from_secs(7200));
    (0..30).for_each(|_| slo.record_event(false));
    evaluate(&slo);
    evaluate(&slo);
    clock.advance(Duration::from_secs(7200));
    evaluate(&slo);
    // Silence says nothing; a good event ends the alert.
    slo.record_event(true);
    evaluate(&slo);
    assert_eq!(
        seen,
        [(Status::Unknown, Status::Healthy), (Status::Healthy, Status::Critical), (Status::Critical, Status::Healthy)]
    );
}

#[test]
fn reading_the_status_by_hand_swallows_no_transition_and_an_incident_is_asserted_again_as_it_was() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let budget = ErrorBudget::new(BudgetConfig { total: Some(0.05), ..Default::default() }).unwrap();
    let slo = Slo::new("answers", vec![]).unwrap().with_budget(budget.with_clock(clock.clone()));
    let signals = |slo: &Slo, call: fn(&Slo, Timestamp, &mut dyn FnMut(Signal))| {
        let mut signals = Vec::new();
        call(slo, clock.now(), &mut |signal| signals.push(signal));
        signals
    };
    let (evaluate, reassert) = (
        |slo: &Slo, now, signals: &mut dyn FnMut(Signal)| Observe::evaluate(slo, now, signals),
        |slo: &Slo, _, signals: &mut dyn FnMut(Signal)| slo.reassert(signals),
    );
    assert_eq!(signals(&slo, reassert), [], "nothing has ever fired");
    (0..30).for_each(|_| slo.record_event(false));
    assert_eq!(slo.evaluate(), Status::Exhausted);
    let begun = signals(&slo, evaluate);
    assert_eq!((begun.len(), begun[0].phase), (1, Phase::Firing));
    clock.advance(Duration::from_secs(60));
    assert_eq!(signals(&slo, reassert), begun);
    let mut state = StateWriter::default();
    slo.save(&mut state);
    let restored = Slo::new("answers", vec![]).unwrap();
    restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    assert_eq!(signals(&restored, reassert), begun, "after a restart too");
    clock.advance(Duration::from_secs(40 * 86_400));
    let over = signals(&slo, evaluate);
    assert_eq!((over.len(), over[0].phase), (1, Phase::Resolved));
    assert_eq!(signals(&slo, reassert), over, "so is its end");
}

#[test]
fn an_incident_that_began_and_ended_after_the_state_was_saved_is_ended() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap();
    slo.observe(&finished(clock.now(), true));
    slo.evaluate_at(clock.now(), &mut |_| {});
    let mut state = StateWriter::default();
    slo.save(&mut state);
    let restored = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap();
    restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    let mut phases = Vec::new();
    (0..3).for_each(|_| {
        restored.evaluate_at(clock.now(), &mut |signal| phases.push(signal.phase));
    });
    assert_eq!(phases, [Phase::Resolved], "once, for whoever still has it open");
}

#[test]
fn events_are_counters_since_the_start_of_the_process() {
    let new = || Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap();
    let (slo, restarted) = (new(), new());
    let count = |slo: &Slo| {
        let (mut counts, now) = (Vec::new(), slo.budget().clock().now());
        slo.metrics(now, &mut |metric| {
            if let ("sre.slo.events", sre_core::MetricValue::Counter(count)) = (&*metric.name, &metric.value) {
                counts.push((metric.labels[2].1.to_string(), *count));
            }
        });
        counts
    };
    let counts = |good, bad| vec![("good".to_owned(), good), ("bad".to_owned(), bad)];
    let now = slo.budget().clock().now();
    [true, true, false].into_iter().for_each(|success| slo.observe(&finished(now, success)));
    assert_eq!(count(&slo), counts(2.0, 1.0));
    let mut state = StateWriter::default();
    slo.save(&mut state);
    restarted.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    assert_eq!(restarted.snapshot_at(now).good, 2);
    assert_eq!(count(&restarted), counts(0.0, 0.0));
}

#[test]
fn an_objective_of_an_agent_ignores_the_events_of_others() {
    let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9).unwrap())]).unwrap().for_agent("other");
    slo.observe(&finished(Timestamp::from_secs(1_790_000_000), false));
    assert_eq!(slo.snapshot_at(Timestamp::from_secs(1_790_000_000)).bad, 0);
}

#[test]
fn one_event_reaches_the_budget_and_every_indicator() {
    let slo = Slo::new(
        "all",
        vec![
            Box::new(TaskSuccessRate::new(0.9).unwrap()),
            Box::new(ResponseLatency::default()),
            Box::new(CostPerTask::default()),
        ],
    )
    .unwrap();
    let now = Timestamp::from_secs(1_790_000_000);
    slo.observe(&finished(now, true));
    slo.observe(&finished(now, false));
    let snapshot = slo.snapshot_at(now);
    assert_eq!((snapshot.good, snapshot.bad, snapshot.sli, snapshot.target), (1, 1, Some(0.5), Some(0.9)));
    let samples: Vec<_> = snapshot.indicators.iter().map(|indicator| indicator.samples).collect();
    assert_eq!(samples, [2, 2, 0]);
}

#[test]
fn a_cost_condition_knows_the_calls_of_the_task() {
    let good_when = GoodWhen { max_cost_usd: Some(Usd::from_nanos(100)), ..Default::default() };
    let slo = Slo::new("cheap", vec![Box::new(TaskSuccessRate::new(0.5).unwrap())]).unwrap().with_good_when(good_when);
    let now = Timestamp::from_secs(1_790_000_000);
    for (task, nanos) in [("a", 60), ("a", 60), ("b", 60)] {
        let json = format!(
            r#"{{"event":"llm_call","time":1790000000,"task":"{task}","cost_usd":"{}"}}"#,
            Usd::from_nanos(nanos)
        );
        slo.observe(&AgentEvent::from_json(json.as_bytes()).unwrap());
    }
    for task in ["a", "b"] {
        let mut event = finished(now, true).of_task(task);
        event.agent = "default".into();
        slo.observe(&event);
    }
    let snapshot = slo.snapshot_at(now);
    assert_eq!((snapshot.good, snapshot.bad), (1, 1));
}
