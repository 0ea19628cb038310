//! Objectives over other objectives.

use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;
use sre_core::event::{TaskFinished, ToolCall};
use sre_core::{AgentEvent, Persist, SloSnapshot, StateReader, StateWriter, Status, Timestamp, Window};
use sre_slo::{SliRegistry, SloEngine, from_openslo, parse, to_openslo};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// `answers` counts the tasks that succeed, `fast` those that take at most a second.
const PARTS: &str = "
name: answers
target: 0.9
---
name: fast
target: 0.8
good_when: {max_duration_ms: 1000}
---
";

const CALLS: &str = "name: calls\ntarget: 0.9\ngood_when: {event: tool_call}\n---\n";

fn engine(composite: &str) -> SloEngine {
    let registry = SliRegistry::default();
    SloEngine::new(parse(&format!("{PARTS}{composite}"), "slos.yaml", &registry).unwrap(), registry).unwrap()
}

fn finish(engine: &SloEngine, agent: &str, success: bool, duration_ms: Option<f64>) {
    finish_at(engine, NOW, agent, success, duration_ms);
}

fn finish_at(engine: &SloEngine, time: Timestamp, agent: &str, success: bool, duration_ms: Option<f64>) {
    let mut finished = TaskFinished::new(success);
    finished.duration_ms = duration_ms;
    engine.record(&AgentEvent::new(time, agent, finished));
}

fn call(engine: &SloEngine, success: bool) {
    let call = ToolCall::new("search").with_error((!success).then(|| "503".to_owned()));
    engine.record(&AgentEvent::new(NOW, "a", call));
}

fn all_of(engine: &SloEngine) -> SloSnapshot {
    engine.snapshots(NOW).into_iter().find(|slo| slo.name == "all").unwrap()
}

const WEIGHTED: &str = "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: answers, weight: 3}, {name: fast}]}\n";

proptest! {
    /// Σ wᵢ·ratioᵢ / Σ wᵢ, computed from the list of events.
    #[test]
    fn the_weighted_ratio_is_that_of_its_definition(
        tasks in prop::collection::vec((any::<bool>(), 0u32..2000, 0u8..3), 1..200),
        weights in (1u32..50, 1u32..50),
    ) {
        let (answers, fast) = (f64::from(weights.0) / 10.0, f64::from(weights.1) / 10.0);
        let engine = engine(&format!(
            "name: all\ntarget: 0.9\ncomposite: {{objectives: [{{name: answers, weight: {answers}}}, {{name: fast, weight: {fast}}}]}}"
        ));
        for (success, ms, agent) in &tasks {
            finish(&engine, ["a", "b", "c"][usize::from(*agent)], *success, Some(f64::from(*ms)));
        }
        let share = |is_bad: &dyn Fn(&(bool, u32, u8)) -> bool| {
            tasks.iter().filter(|task| is_bad(task)).count() as f64 / tasks.len() as f64
        };
        let (failed, slow) = (share(&|task| !task.0), share(&|task| task.1 > 1000));
        let expected = (answers * failed + fast * slow) / (answers + fast);
        let all = all_of(&engine);
        prop_assert!((all.sli.unwrap() - (1.0 - expected)).abs() < 1e-9);
        prop_assert!((all.error_budget.consumed.unwrap() - expected / 0.1).abs() < 1e-9);
        for burn in &all.burn_rates {
            prop_assert!((burn.rate.unwrap() - expected / 0.1).abs() < 1e-9);
        }
        let (low, high) = all.interval.unwrap();
        prop_assert!(low <= 1.0 - expected + 1e-9 && 1.0 - expected <= high + 1e-9);
        prop_assert_eq!(all.good + all.bad, 2 * tasks.len() as u64);
    }
}

#[test]
fn an_objective_without_events_counts_for_nothing() {
    let all = "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: answers}, {name: calls, weight: 99}]}\n";
    let engine = engine(&format!("{CALLS}{all}"));
    assert_eq!((all_of(&engine).status, all_of(&engine).sli), (Status::Unknown, None));
    (0..10).for_each(|task| finish(&engine, "a", task != 0, None));
    assert_eq!(all_of(&engine).sli, Some(0.9));
    let parts: Vec<_> = all_of(&engine).objectives.into_iter().map(|part| (part.name, part.good, part.bad)).collect();
    assert_eq!(parts, [("answers".to_owned(), 9, 1), ("calls".to_owned(), 0, 0)]);
}

#[test]
fn the_worst_objective_counts_against_its_own_budget() {
    let engine = engine("name: all\ncomposite: {objectives: [{name: answers}, {name: fast}], method: worst}\n");
    // One in five fails, a burn of 2; two in five are slow, which burns at 2 too, until more of them are.
    (0..1000).for_each(|task| finish(&engine, "a", task % 5 != 0, Some(if task % 5 < 2 { 2000.0 } else { 10.0 })));
    (0..100).for_each(|_| finish(&engine, "b", true, Some(2000.0)));
    let all = all_of(&engine);
    let snapshots = engine.snapshots(NOW);
    let rate = |name: &str| {
        let objective = snapshots.iter().find(|slo| slo.name == name && slo.agent == "a").unwrap();
        objective.error_budget.consumed.unwrap()
    };
    assert_eq!((rate("answers"), rate("fast")), (2.0, 2.0));
    let slow = 500.0 / 1100.0 / 0.2;
    assert!((all.error_budget.consumed.unwrap() - slow).abs() < 1e-9, "of both agents together: {slow}");
    assert_eq!((all.status, all.target, all.agent.as_str()), (Status::Exhausted, Some(0.8), ""));
    assert!((all.burn_rates[0].rate.unwrap() - slow).abs() < 1e-9);
}

#[test]
fn a_new_calendar_period_resolves_no_alert_of_the_worst() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let engine = engine(
        "name: all\nwindow: 1d\ncalendar: {start: \"2026-09-21 00:00:00\", time_zone: UTC, period: 1d}\n\
         composite: {objectives: [{name: answers}, {name: fast}], method: worst}\n",
    );
    (10..60).for_each(|second| finish_at(&engine, at(&format!("2026-09-21T23:58:{second}Z")), "a", false, None));
    let all = |time| engine.snapshots(at(time)).into_iter().find(|slo| slo.name == "all").unwrap();
    assert_eq!(all("2026-09-21T23:59:59Z").status, Status::Exhausted);
    assert_eq!(all("2026-09-22T00:00:05Z").status, Status::Critical);
}

#[test]
fn the_forecast_of_the_worst_is_the_earliest() {
    let engine = engine("name: all\ncomposite: {objectives: [{name: answers}, {name: fast}], method: worst}\n");
    // `answers` has consumed more of its budget, long ago, and `fast` burns now.
    let earlier = NOW.saturating_sub(Duration::from_secs(40 * 3_600));
    (0..1000).for_each(|task| finish_at(&engine, earlier, "a", task % 100 >= 8, Some(10.0)));
    (0..100).for_each(|task| finish(&engine, "a", true, Some(if task < 30 { 2000.0 } else { 10.0 })));
    let snapshots = engine.snapshots(NOW);
    let forecast = |name: &str| snapshots.iter().find(|slo| slo.name == name).unwrap().error_budget.spent_in_s;
    assert_eq!((forecast("answers"), forecast("all")), (None, forecast("fast")));
    assert!(forecast("fast").is_some());
}

#[test]
fn with_a_service_it_covers_one_agent() {
    let engine = engine(&format!("{WEIGHTED}service: a\n"));
    (0..100).for_each(|_| finish(&engine, "a", true, Some(10.0)));
    (0..100).for_each(|_| finish(&engine, "b", false, Some(5000.0)));
    let all = all_of(&engine);
    assert_eq!((all.agent.as_str(), all.sli, all.status), ("a", Some(1.0), Status::Healthy));
    assert_eq!(engine.snapshots(NOW).iter().filter(|slo| slo.name == "all").count(), 1);
}

/// Each trial draws both objectives at their targets. `calls` has few events of great weight: counted like those of `answers`,
/// noise in them would look like evidence.
#[test]
fn noise_is_no_evidence_whatever_the_weights() {
    let mut rng = Rng::with_seed(7);
    let yaml = format!(
        "{CALLS}name: all\ntarget: 0.9\ncomposite: {{objectives: [{{name: answers}}, {{name: calls, weight: 9}}]}}
error_budget_policy: {{significance: 0.01, min_bad: 1}}\n"
    );
    let specs = parse(&format!("{PARTS}{yaml}"), "slos.yaml", &SliRegistry::default()).unwrap();
    let trials = 2_000;
    let mut exhausted = 0;
    for _ in 0..trials {
        let engine = SloEngine::new(specs.clone(), SliRegistry::default()).unwrap();
        (0..200).for_each(|_| finish(&engine, "a", rng.f64() >= 0.1, None));
        (0..12).for_each(|_| call(&engine, rng.f64() >= 0.1));
        exhausted += u32::from(all_of(&engine).status == Status::Exhausted);
    }
    assert!(f64::from(exhausted) / f64::from(trials) <= 0.02, "{exhausted} of {trials}");
}

#[test]
fn a_burning_objective_is_evidence_although_another_has_little_traffic() {
    let all = "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: answers}, {name: calls}]}\n";
    let engine = engine(&format!("{CALLS}{all}"));
    call(&engine, false);
    assert_eq!(all_of(&engine).status, Status::Unknown, "one call proves nothing");
    (0..1000).for_each(|task| finish(&engine, "a", task % 2 == 0, None));
    assert_eq!(all_of(&engine).status, Status::Exhausted, "half of a thousand tasks do");
}

#[test]
fn a_restart_changes_nothing() {
    let before = engine(WEIGHTED);
    for task in 0..50 {
        finish(&before, ["a", "b"][task % 2], task % 7 != 0, Some(if task % 5 == 0 { 3000.0 } else { 5.0 }));
    }
    let mut state = StateWriter::default();
    before.save(&mut state);
    let after = engine(WEIGHTED);
    after.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
    assert_eq!(after.snapshots(NOW), before.snapshots(NOW));
    let series =
        |engine: &SloEngine| engine.with_objective("all", "", |slo| slo.time_series(Window::DAY, NOW)).unwrap();
    assert_eq!(series(&after), series(&before));
    let bad: u64 = series(&after).iter().map(|(_, counts)| counts.bad).sum();
    assert_eq!(bad, all_of(&after).bad);
}

#[test]
fn openslo_keeps_it() {
    let registry = SliRegistry::default();
    for composite in [WEIGHTED, "name: all\ncomposite: {objectives: [{name: answers}], method: worst}\n"] {
        let specs = parse(&format!("{PARTS}{composite}"), "slos.yaml", &registry).unwrap();
        let again = from_openslo(&to_openslo(&specs), "openslo.yaml", &registry).unwrap();
        assert_eq!((&again[2].composite, again[2].target), (&specs[2].composite, specs[2].target));
    }
}

#[test]
fn an_impossible_composite_is_refused() {
    for (composite, message) in [
        ("name: all\ncomposite: {objectives: [{name: answers}]}", "`target`: found nothing"),
        (
            "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: other}]}",
            "found `other`, expected one of answers, fast",
        ),
        ("name: all\ntarget: 0.9\ncomposite: {objectives: [{name: all}]}", "found the composite `all`"),
        ("name: all\ntarget: 0.9\ncomposite: {objectives: []}", "`composite.objectives`: found an empty list"),
        ("name: all\ntarget: 0.9\ncomposite: {objectives: [{name: fast}, {name: fast}]}", "for the second time"),
        ("name: all\ntarget: 0.9\ncomposite: {objectives: [{name: fast, weight: 0}]}", "expected a number above 0"),
        ("name: all\ntarget: 0.9\ncomposite: {objectives: [{name: fast}], method: best}", "expected weighted or worst"),
        (
            "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: fast}], method: worst}",
            "`target`: found `target` beside",
        ),
        ("name: all\ntarget: 0.9\ngood_when: {}\ncomposite: {objectives: [{name: fast}]}", "`good_when`: found"),
        (
            "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: fast}]}\nerror_budget_policy: {exhaustion_action: throttle}",
            "found throttle, expected alert or freeze_deployments, or the `service` of one agent",
        ),
    ] {
        let error =
            parse(&format!("{PARTS}{composite}\n"), "slos.yaml", &SliRegistry::default()).unwrap_err().to_string();
        assert!(error.starts_with("slos.yaml:") && error.contains(message), "{composite}\n{error}");
    }
}
