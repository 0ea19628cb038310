//! What follows if an indicator misses its target.

use std::time::Duration;

use fastrand::Rng;
use sre_core::event::{Handoff, LlmCall, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, Phase, Signal, Sli, Status, Timestamp, Window};
use sre_slo::{
    CalibrationDelta, CostPerTask, DelegationChainDepth, RepeatedToolCalls, ResponseLatency, SliRegistry, Slo,
    StepsPerTask, TaskSuccessRate, parse,
};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn finished(success: bool, duration_ms: f64) -> AgentEvent {
    let mut finished = TaskFinished::new(success);
    finished.duration_ms = Some(duration_ms);
    AgentEvent::new(NOW, "support", finished)
}

fn ago(window: Window, mut event: AgentEvent) -> AgentEvent {
    event.time = NOW.saturating_sub(window.duration());
    event
}

fn signals(slo: &Slo, now: Timestamp) -> Vec<Signal> {
    let mut signals = Vec::new();
    slo.evaluate_at(now, &mut |signal| signals.push(signal));
    signals
}

/// Returns the first objective of a text, for the agent of the events.
fn objective(text: &str) -> Slo {
    let registry = SliRegistry::default();
    Slo::from_spec(&parse(text, "slo.yaml", &registry).unwrap()[0], "support", &registry).unwrap()
}

#[test]
fn an_objective_of_time_slices_does_not_share_its_budget() {
    let slo = objective(
        "name: answers\ntarget: 0.9\ntime_slices: {window: 1m, target: 0.5}\n\
         indicators: [{type: task_success_rate, target: 0.9}]\n",
    );
    // Every slice is good, although four in ten tasks fail.
    for minute in 0..100_u64 {
        for task in 0..10 {
            let mut event = finished(task >= 4, 100.0);
            event.time = NOW.saturating_sub(Duration::from_secs(60 * (100 - minute)));
            slo.observe(&event);
        }
    }
    let snapshot = slo.snapshot_at(NOW);
    assert_eq!((snapshot.budget_status, snapshot.status), (Status::Healthy, Status::Critical), "{snapshot:?}");
    assert_eq!(snapshot.indicators[0].status, Some(Status::Critical));
}

#[test]
fn an_explicit_success_condition_shares_the_budget_too() {
    for (condition, shares) in [
        ("{event: task_finished}", true),
        ("{event: task_finished, success: true}", true),
        ("{event: task_finished, success: false}", false),
        ("{event: task_finished, max_duration_ms: 500}", false),
    ] {
        let slo = objective(&format!(
            "name: answers\ntarget: 0.9\ngood_when: {condition}\nindicators: [{{type: task_success_rate, target: 0.9}}]\n"
        ));
        (0..100).for_each(|_| slo.observe(&finished(true, 100.0)));
        assert_eq!(slo.snapshot_at(NOW).indicators[0].status.is_none(), shares, "{condition}");
    }
}

#[test]
fn a_latency_that_misses_its_target_is_critical_and_exhausts_nothing() {
    let slo = Slo::new(
        "answers",
        vec![Box::new(TaskSuccessRate::new(0.9).unwrap()), Box::new(ResponseLatency::new(2_000.0, 0.95).unwrap())],
    );
    let slo = slo.unwrap().for_agent("support");
    (0..100).for_each(|_| slo.observe(&finished(true, 100.0)));
    assert_eq!(signals(&slo, NOW).len(), 1, "healthy");
    (0..100).for_each(|_| slo.observe(&finished(true, 2_500.0)));
    let snapshot = slo.snapshot_at(NOW);
    assert_eq!((snapshot.status, snapshot.budget_status), (Status::Critical, Status::Healthy));
    let [ratio, latency] = &snapshot.indicators[..] else { panic!("two indicators") };
    assert_eq!(
        (ratio.status, latency.status),
        (None, Some(Status::Critical)),
        "the ratio shares the objective's budget"
    );
    // p95 within 2 s allows one in twenty: half of them burn at ten.
    assert_eq!(latency.error_budget.unwrap().total, Some(0.05));
    assert_eq!(latency.burn_rates[2].rate, Some(10.0));
    let [signal] = &signals(&slo, NOW)[..] else { panic!("one signal for all that changed") };
    assert_eq!(signal.title, "answers of support: critical (response_latency)");
    assert_eq!(
        signal.message,
        "response_latency: Burn rate 10.0 over the last 1h (threshold 10): 100 of 200 samples bad. \
         Its error budget is consumed 10 times over."
    );
    assert_eq!(signals(&slo, NOW), [], "once");
}

#[test]
fn an_informational_indicator_changes_no_status() {
    for (more, expected) in [("", Status::Critical), (", informational: true", Status::Healthy)] {
        let yaml =
            format!("name: answers\ntarget: 0.9\nindicators: [{{type: response_latency, target_ms: 5{more}}}]\n");
        let spec = parse(&yaml, "slo.yaml", &SliRegistry::default()).unwrap().remove(0);
        let slo = Slo::from_spec(&spec, "support", &SliRegistry::default()).unwrap();
        (0..100).for_each(|_| slo.observe(&finished(true, 100.0)));
        let snapshot = slo.snapshot_at(NOW);
        assert_eq!(snapshot.status, expected, "{yaml}");
        assert_eq!(snapshot.indicators[0].error_budget.is_some(), more.is_empty());
    }
}

#[test]
fn a_mean_that_misses_its_target_by_evidence_is_a_warning() {
    let slo = |costs: &[&str]| {
        let slo = Slo::new("cheap", vec![Box::new(CostPerTask::new("0.5".parse().unwrap()).unwrap())]).unwrap();
        for (task, cost) in costs.iter().enumerate() {
            let mut call = LlmCall::new(Some("m".to_owned()));
            call.cost_usd = Some(cost.parse().unwrap());
            let task = task.to_string();
            slo.observe(&AgentEvent::new(NOW, "support", call).of_task(&*task));
            slo.observe(&finished(true, 10.0).of_task(&*task));
        }
        slo.snapshot_at(NOW)
    };
    assert_eq!(slo(&["0.9", "0.7"].repeat(4)).status, Status::Healthy, "eight are too few");
    assert_eq!(slo(&["0.1", "0.95"].repeat(20)).status, Status::Healthy, "0.525 on average, by chance");
    for cost in ["0.7", "0.8", "0.51"] {
        assert_eq!(slo(&[cost].repeat(30)).status, Status::Warning, "every task costs {cost}");
    }
    let snapshot = slo(&["0.9", "0.7"].repeat(20));
    assert_eq!((snapshot.status, snapshot.budget_status), (Status::Warning, Status::Healthy));
    assert_eq!(
        snapshot.indicators[0].sentence(),
        "cost_per_task: $0.8 on average over 40 samples, expected at most $0.5."
    );
}

#[test]
fn a_confidence_that_is_off_is_a_warning() {
    let status = |confidence: f64| {
        let slo = Slo::new("calibrated", vec![Box::new(CalibrationDelta::new(0.05).unwrap())]).unwrap();
        for task in 0..400 {
            let mut event = finished(task % 10 < 8, 10.0);
            event.attributes.insert("confidence".to_owned(), confidence.into());
            slo.observe(&event);
        }
        slo.snapshot_at(NOW).status
    };
    // Of the tasks, 80 % succeed.
    let expected = [(0.8, Status::Healthy), (0.84, Status::Healthy), (0.95, Status::Warning), (0.6, Status::Warning)];
    for (confidence, expected) in expected {
        assert_eq!(status(confidence), expected, "{confidence}");
    }
}

/// The sum of 17 samples of 0.1 divided by 17 is above 0.1.
#[test]
fn a_mean_of_exactly_the_target_meets_it() {
    for target in ["0.01", "0.02", "0.1", "0.3", "0.9"] {
        let slo = Slo::new("cheap", vec![Box::new(CostPerTask::new(target.parse().unwrap()).unwrap())]).unwrap();
        for number in 1..200 {
            let mut task = TaskFinished::new(true);
            task.cost_usd = Some(target.parse().unwrap());
            slo.observe(&AgentEvent::new(NOW, "support", task));
            let snapshot = slo.snapshot_at(NOW);
            assert!(snapshot.status < Status::Warning, "{number} of {target}: {:?}", snapshot.indicators[0]);
            assert_eq!(snapshot.indicators[0].is_met(), Some(true), "{number} of {target}");
        }
    }
    // The difference of confidence and success rate is exactly the target.
    let slo = Slo::new("calibrated", vec![Box::new(CalibrationDelta::new(0.05).unwrap())]).unwrap();
    for number in 1..200 {
        let mut task = AgentEvent::new(NOW, "support", TaskFinished::new(true));
        task.attributes.insert("confidence".to_owned(), 0.95.into());
        slo.observe(&task);
        assert!(slo.snapshot_at(NOW).status < Status::Warning, "{number}");
    }
}

/// The policy's window of three days reaches further back than the budget's hour.
#[test]
fn samples_before_the_budgets_window_count_for_nothing() {
    let text = "name: fast\ntarget: 0.9\nwindow: 1h\nindicators:\n  - {type: response_latency, target_ms: 100}\n\
        error_budget_policy: {policy: sre-workbook}\n";
    let registry = SliRegistry::default();
    let specs = parse(text, "slo.yaml", &registry).unwrap();
    let slo = Slo::from_spec(&specs[0], "support", &registry).unwrap();
    for minute in 0..30 {
        let mut task = TaskFinished::new(false);
        task.duration_ms = Some(5_000.0);
        slo.observe(&AgentEvent::new(NOW.saturating_add(Duration::from_secs(60 * minute)), "support", task));
    }
    let mut phases = Vec::new();
    for minute in 0..240 {
        let now = NOW.saturating_add(Duration::from_secs(60 * minute));
        let status = slo.evaluate_at(now, &mut |signal| phases.push(signal.phase));
        assert_eq!(slo.snapshot_at(now).status, status, "after {minute} minutes");
    }
    assert_eq!((phases.first(), phases.last()), (Some(&Phase::Firing), Some(&Phase::Resolved)), "{phases:?}");
    assert_eq!(slo.evaluate_at(NOW.saturating_add(Duration::from_secs(14_400)), &mut |_| {}), Status::Unknown);
}

/// Returns how many warnings begin in a month of `rate` samples an hour, looked at every minute, and records the samples by
/// `record`, which gets the time.
fn false_warnings(slo: &Slo, rate: u64, mut record: impl FnMut(Timestamp)) -> u32 {
    let (mut begun, mut before, mut due) = (0, false, 0.0);
    for minute in 0..30 * 24 * 60 {
        let now = NOW.saturating_add(Duration::from_secs(60 * minute));
        due += rate as f64 / 60.0;
        while due >= 1.0 {
            due -= 1.0;
            record(now);
        }
        let fires = slo.evaluate_at(now, &mut |_| {}) == Status::Warning;
        begun += u32::from(fires && !before);
        before = fires;
    }
    begun
}

#[test]
fn a_mean_at_its_target_warns_at_most_five_times_a_month() {
    for sigma in [0.5, 1.0, 2.0] {
        for (rate, seeds) in [(1, 4), (10, 2), (100, 1)] {
            for seed in 0..seeds {
                let begun = false_warnings_of_costs(sigma, rate, Rng::with_seed(1_000 * seed + rate));
                assert!(begun <= 5, "σ {sigma}, {rate} an hour, seed {seed}: {begun} false warnings");
            }
        }
    }
}

/// Returns the false warnings for costs that are lognormal with a standard deviation σ of their logarithm, and the target as their
/// mean.
fn false_warnings_of_costs(sigma: f64, rate: u64, mut rng: Rng) -> u32 {
    let slo = Slo::new("cheap", vec![Box::new(CostPerTask::new("1".parse().unwrap()).unwrap())]).unwrap();
    let mut normal = || (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
    false_warnings(&slo, rate, |now| {
        // The mean of a lognormal distribution is exp(μ + σ² / 2).
        let cost = (sigma * normal() - sigma * sigma / 2.0).exp();
        let mut task = TaskFinished::new(true);
        task.cost_usd = Some(format!("{cost:.9}").parse().unwrap());
        slo.observe(&AgentEvent::new(now, "support", task));
    })
}

/// An indicator of counts per task with a target, and the events of a task that has a count.
type Counted = (fn(u32) -> Box<dyn Sli>, fn(u32) -> Vec<Event>);

const COUNTED: [Counted; 3] = [
    (
        |target| Box::new(DelegationChainDepth::new(target)),
        |depth| {
            let mut handoff = Handoff::new("support", "billing");
            handoff.depth = depth;
            vec![handoff.into()]
        },
    ),
    (
        |target| Box::new(StepsPerTask::new(target)),
        |steps| task_of((0..steps).map(|_| StepFinished::new("plan", "node").into())),
    ),
    (
        |target| Box::new(RepeatedToolCalls::new(target)),
        |repeats| {
            task_of((0..=repeats).map(|_| {
                let mut call = ToolCall::new("search");
                call.arguments_hash = Some("same".to_owned());
                call.into()
            }))
        },
    ),
];

/// The mean confidence is 85 % and 80 % of the tasks succeed: exactly as far apart as they may be.
#[test]
fn a_confidence_at_its_target_warns_at_most_five_times_a_month() {
    for rate in [1, 10, 100] {
        let slo = Slo::new("calibrated", vec![Box::new(CalibrationDelta::new(0.05).unwrap())]).unwrap();
        let mut rng = Rng::with_seed(rate);
        let begun = false_warnings(&slo, rate, |now| {
            let mut task = AgentEvent::new(now, "support", TaskFinished::new(rng.f64() < 0.8));
            task.attributes.insert("confidence".to_owned(), (0.75 + 0.2 * rng.f64()).into());
            slo.observe(&task);
        });
        assert!(begun <= 5, "{rate} an hour: {begun} false warnings");
    }
}

fn task_of(events: impl Iterator<Item = Event>) -> Vec<Event> {
    events.chain([TaskFinished::new(true).into()]).collect()
}

fn observe_task(slo: &Slo, now: Timestamp, events: Vec<Event>) {
    events.into_iter().for_each(|event| slo.observe(&AgentEvent::new(now, "support", event).of_task("task")));
}

/// Counts are geometric, with the target as their mean.
#[test]
fn depth_steps_and_repeats_at_their_target_warn_at_most_five_times_a_month() {
    const TARGET: u32 = 3;
    for (new, events) in COUNTED {
        let name = new(TARGET).spec().name.clone();
        for rate in [1, 10] {
            let slo = Slo::new("short", vec![new(TARGET)]).unwrap();
            let mut rng = Rng::with_seed(rate);
            let probability = f64::from(TARGET) / f64::from(TARGET + 1);
            let begun = false_warnings(&slo, rate, |now| {
                let count = (1.0 - rng.f64()).ln() / probability.ln();
                observe_task(&slo, now, events(count as u32));
            });
            assert!(begun <= 5, "{name}, {rate} an hour: {begun} false warnings");
        }
    }
}

#[test]
fn depth_steps_and_repeats_that_miss_their_target_by_evidence_are_a_warning() {
    for (new, events) in COUNTED {
        let status = |counts: &[u32]| {
            let slo = Slo::new("short", vec![new(3)]).unwrap();
            counts.iter().for_each(|count| observe_task(&slo, NOW, events(*count)));
            let snapshot = slo.snapshot_at(NOW);
            (snapshot.indicators[0].samples, snapshot.status)
        };
        let name = new(3).spec().name.clone();
        assert_ne!(status(&[6; 9]).1, Status::Warning, "{name}: nine are too few");
        assert_eq!(status(&[6; 10]), (10, Status::Warning), "{name}");
        assert_ne!(status(&[1, 6].repeat(10)).1, Status::Warning, "{name}: 3.5 on average, by chance");
        assert_eq!(status(&[3, 4].repeat(40)), (80, Status::Warning), "{name}: 3.5 on average, every time");
    }
}

#[test]
fn a_minimum_of_events_is_that_of_a_mean_too() {
    let status = |policy: &str, tasks: u32| {
        let slo = objective(&format!(
            "name: cheap\nindicators: [{{type: cost_per_task, target_usd: 0.5}}]\nerror_budget_policy: {{{policy}}}\n"
        ));
        for _ in 0..tasks {
            let mut event = TaskFinished::new(true);
            event.cost_usd = "0.75".parse().ok();
            slo.observe(&AgentEvent::new(NOW, "support", event));
        }
        slo.snapshot_at(NOW).indicators[0].status.unwrap()
    };
    assert_eq!(status("min_events: 50", 49), Status::Unknown);
    assert_eq!(status("min_events: 50", 50), Status::Warning);
    assert_eq!(status("", 49), Status::Warning);
    assert_eq!(status("min_events: 2", 9), Status::Unknown, "never fewer than ten");
}

#[test]
fn significance_and_the_least_number_of_bad_events_of_a_file_decide() {
    let status = |policy: &str, good: u32, bad: u32| {
        let slo = objective(&format!("name: answers\ntarget: 0.9\nerror_budget_policy: {{{policy}}}\n"));
        (0..good).for_each(|_| slo.observe(&finished(true, 10.0)));
        (0..bad).for_each(|_| slo.observe(&finished(false, 10.0)));
        slo.snapshot_at(NOW).status
    };
    // Without a fault, five of five are bad with a probability of 0.00001, and 2 of 10 with one of 0.26.
    assert_eq!(status("", 0, 5), Status::Exhausted);
    assert_eq!(status("significance: 0.00002", 0, 5), Status::Exhausted);
    assert_eq!(status("significance: 0.000005", 0, 5), Status::Unknown);
    assert_eq!(status("min_bad: 6", 0, 5), Status::Unknown);
    assert_eq!(status("min_bad: 6", 0, 6), Status::Exhausted);
    assert_eq!(status("significance: 0.3", 8, 2), Status::Unknown, "two are below the least number");
    assert_eq!(status("significance: 0.3, min_bad: 2", 8, 2), Status::Exhausted);
    assert_eq!(status("significance: 0.2, min_bad: 2", 8, 2), Status::Unknown);
}

#[test]
fn an_indicator_that_reaches_a_threshold_without_evidence_makes_the_objective_unknown_and_says_why() {
    let slo = Slo::new("answers", vec![Box::new(ResponseLatency::new(2_000.0, 0.95).unwrap())]).unwrap();
    assert_eq!(slo.snapshot_at(NOW).status, Status::Unknown, "no events");
    (0..6).for_each(|_| slo.observe(&finished(true, 100.0)));
    assert_eq!(slo.snapshot_at(NOW).status, Status::Healthy);
    (0..2).for_each(|_| slo.observe(&finished(true, 3_000.0)));
    let snapshot = slo.snapshot_at(NOW);
    assert_eq!((snapshot.status, snapshot.budget_status), (Status::Unknown, Status::Healthy));
    assert_eq!(snapshot.reasons(), ["response_latency: 2 of 8 bad: too few to tell from 95 %"]);
}

#[test]
fn an_indicators_budget_runs_over_the_objectives_window() {
    let yaml = "
name: slow
target: 0.9
window: 90d
good_when: {max_duration_ms: 2000}
indicators: [{type: response_latency, target_ms: 2000, percentile: 0.9}]
";
    let registry = SliRegistry::default();
    let spec = parse(yaml, "slow.yaml", &registry).unwrap().remove(0);
    let slo = Slo::from_spec(&spec, "support", &registry).unwrap();
    (0..200).for_each(|_| slo.observe(&ago(Window::days(60), finished(true, 5_000.0))));
    (0..50).for_each(|_| slo.observe(&finished(true, 100.0)));
    let snapshot = slo.snapshot_at(NOW);
    let of_indicator = snapshot.indicators[0].error_budget.unwrap().consumed;
    assert_eq!((of_indicator, snapshot.error_budget.consumed), (Some(8.0), Some(8.0)));
}

#[test]
fn samples_and_compliance_of_a_percentile_are_those_of_its_window() {
    let latency = ResponseLatency::new(2_000.0, 0.95).unwrap();
    (0..200).for_each(|_| latency.observe(&ago(Window::minutes(62), finished(true, 5_000.0))));
    (0..20).for_each(|_| latency.observe(&finished(true, 100.0)));
    let reading = latency.reading(NOW);
    assert_eq!((reading.samples, reading.compliance), (20, Some(1.0)));
}

/// Creates an objective whose latency is to be within 100 ms, with an `error_budget_policy` of these fields.
fn fast(policy: &str) -> Slo {
    let registry = SliRegistry::default();
    let yaml = format!(
        "name: fast\ntarget: 0.9\nindicators: [{{type: response_latency, target_ms: 100}}]\nerror_budget_policy: {{{policy}}}\n"
    );
    Slo::from_spec(&parse(&yaml, "fast.yaml", &registry).unwrap()[0], "support", &registry).unwrap()
}

#[test]
fn expected_events_are_those_of_the_objectives_budget_alone() {
    let slo = fast("expected_events: 1000");
    (0..90).for_each(|_| slo.observe(&finished(true, 10.0)));
    (0..10).for_each(|_| slo.observe(&finished(false, 200.0)));
    let snapshot = slo.snapshot_at(NOW);
    assert_eq!(snapshot.error_budget.consumed, Some(0.1), "10 of the 100 that may be bad among 1,000");
    assert_eq!(snapshot.indicators[0].error_budget.unwrap().consumed, Some(2.0), "10 of the 5 that may be slow");
}

#[test]
fn a_minimum_of_events_is_that_of_every_indicator_too() {
    let slo = fast("min_events: 50");
    (0..49).for_each(|_| slo.observe(&finished(true, 200.0)));
    let latency = slo.snapshot_at(NOW).indicators.remove(0);
    assert_eq!((latency.status, latency.alerts.iter().any(|alert| alert.firing)), (Some(Status::Unknown), false));
    slo.observe(&finished(true, 200.0));
    let latency = slo.snapshot_at(NOW).indicators.remove(0);
    assert_eq!((latency.status, latency.alerts.iter().all(|alert| alert.firing)), (Some(Status::Critical), true));
}

#[test]
fn under_low_traffic_an_indicator_is_judged_by_a_longer_window_that_ends_at_its_last_sample() {
    let slo = fast("");
    for hours in 1..=5 {
        slo.observe(&ago(Window::hours(hours), finished(true, 200.0)));
    }
    // Later tasks without a duration are no samples.
    slo.observe(&AgentEvent::new(NOW, "support", TaskFinished::new(true)));
    let snapshot = slo.snapshot_at(NOW);
    let [alert, _] = &snapshot.indicators[0].alerts[..] else { panic!("two alerts") };
    assert_eq!((alert.firing, alert.judged_window), (true, Some(Window::hours(6))));
    assert_eq!((alert.long_window, alert.good, alert.bad), (Window::HOUR, 0, 5));
    let last = ago(Window::HOUR, finished(true, 0.0)).time;
    let until = alert.judged_until.unwrap();
    assert!(until >= last && until.since(last) <= Duration::from_secs(1), "{until}, expected {last}");
    assert_eq!(snapshot.alerts[0].judged_until, None, "the objective's own budget has a recent event");
    assert_eq!(snapshot.status, Status::Critical);
}

#[test]
fn an_indicators_budget_rolls_although_the_objectives_has_a_calendar() {
    let registry = SliRegistry::default();
    let yaml = "
name: monthly
target: 0.9
window: 30d
calendar: {start: \"2026-09-21 00:00:00\", time_zone: UTC, period: 1M}
indicators: [{type: response_latency, target_ms: 100}]
";
    let slo = Slo::from_spec(&parse(yaml, "slo.yaml", &registry).unwrap()[0], "support", &registry).unwrap();
    (0..100).for_each(|_| slo.observe(&ago(Window::days(2), finished(false, 200.0))));
    slo.observe(&finished(true, 10.0));
    let snapshot = slo.snapshot_at(NOW);
    assert_eq!((snapshot.good, snapshot.bad), (1, 0), "the period began on the day");
    assert_eq!(snapshot.indicators[0].error_budget.unwrap().consumed.map(f64::round), Some(20.0));
}

/// The windows of alerts reach into the period before, so a new one that has no events yet resolves nothing.
#[test]
fn an_informational_indicator_defines_no_error_budget() {
    let registry = SliRegistry::default();
    let strict = "{type: task_success_rate, target: 0.999, informational: true}";
    let total = |indicators: &str| {
        let yaml = format!("name: answers\nindicators: [{indicators}]\n");
        let slo = Slo::from_spec(&parse(&yaml, "slo.yaml", &registry).unwrap()[0], "support", &registry).unwrap();
        slo.snapshot_at(NOW).error_budget.total
    };
    assert_eq!(total(&format!("{strict}, {{type: task_success_rate, target: 0.9, window: 1d}}")), Some(0.1));
    assert_eq!(total(strict), None);
}

#[test]
fn a_new_calendar_period_resolves_no_alert() {
    let registry = SliRegistry::default();
    let yaml = "
name: daily
target: 0.9
window: 1d
calendar: {start: \"2026-09-21 00:00:00\", time_zone: UTC, period: 1d}
indicators: [{type: task_success_rate, target: 0.9}]
";
    let slo = Slo::from_spec(&parse(yaml, "slo.yaml", &registry).unwrap()[0], "support", &registry).unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for second in 10..60 {
        let mut failed = finished(false, 10.0);
        failed.time = at(&format!("2026-09-21T23:58:{second}Z"));
        slo.observe(&failed);
    }
    assert_eq!(signals(&slo, at("2026-09-21T23:59:59Z"))[0].state, "exhausted");
    let [signal] = &signals(&slo, at("2026-09-22T00:00:05Z"))[..] else { panic!("the budget is that of a new day") };
    assert_eq!((signal.phase, &*signal.state), (Phase::Firing, "critical"));
    // After the windows of the policy, too, until an event shows that it is over.
    assert_eq!(signals(&slo, at("2026-09-22T12:00:00Z")), []);
    let mut succeeded = finished(true, 10.0);
    succeeded.time = at("2026-09-22T12:00:00Z");
    slo.observe(&succeeded);
    assert_eq!(signals(&slo, at("2026-09-22T12:00:01Z"))[0].phase, Phase::Resolved);
}
