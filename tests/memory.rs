//! Memory of an objective, and that recording allocates nothing. A single test, since heap statistics are per process.

use std::time::Duration;

use sre_core::event::{Evaluation, LlmCall, TaskFinished};
use sre_core::{AgentEvent, Severity, Sli, TaskCosts, Timestamp, Usd, Window};
use sre_slo::{
    BudgetConfig, BurnPolicy, BurnThreshold, CostPerTask, ErrorBudget, HallucinationRate, ResponseLatency, Slo,
    TaskSuccessRate,
};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// How much an objective holds without indicators, and how much each kind of indicator may add, in bytes.
const OBJECTIVE: usize = 64 * 1024;
const RATIO_OR_MEAN: usize = 20 * 1024;
const PERCENTILE: usize = 60 * 1024;
/// How much the table of tasks in progress of `cost_per_task`, `steps_per_task`, `repeated_tool_calls` or `max_cost_usd` may add.
const TASKS_IN_PROGRESS: usize = 18 * 1024;
/// Creates an indicator over a window.
type New = fn(Window) -> Box<dyn Sli>;
const START: Timestamp = Timestamp::from_secs(1_790_000_000);

fn finished(time: Timestamp, duration_ms: f64) -> AgentEvent {
    let mut finished = TaskFinished::new(true);
    finished.duration_ms = Some(duration_ms);
    finished.cost_usd = Some(Usd::from_nanos(duration_ms as i64));
    AgentEvent::new(time, "agent", finished)
}

fn called(task: u32) -> AgentEvent {
    let mut call = LlmCall::new(None);
    call.cost_usd = Some(Usd::from_nanos(1));
    AgentEvent::new(START, "agent", call).of_task(task.to_string())
}

fn judged(time: Timestamp) -> AgentEvent {
    AgentEvent::new(time, "agent", Evaluation::new("hallucination", Some(true), None))
}

/// Steps over two windows and at their end, in which each thread records.
const STEPS: u32 = 2_000;

/// Returns when the objective of [`fed`] has seen everything.
fn end(window: Window) -> Timestamp {
    START.saturating_add(2 * window.duration() + Duration::from_secs(u64::from(STEPS)))
}

/// Returns an objective after two windows of events that fill every latency bin of every bucket, recorded by more threads than
/// there are counter stripes, and the bytes that it holds. `indicator` gets the objective's window.
fn fed(config: &BudgetConfig, indicator: Option<New>) -> (Slo, usize) {
    let before = dhat::HeapStats::get().curr_bytes;
    let budget = ErrorBudget::new(config.clone()).unwrap();
    let indicators = indicator.map(|new| new(config.window)).into_iter().collect();
    let slo = Slo::new("bounded", indicators).unwrap().with_budget(budget);
    let far = 2 * config.window.duration();
    std::thread::scope(|scope| {
        let threads = [0u32, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|thread| {
            let slo = &slo;
            scope.spawn(move || {
                let record = |age: Duration, number: u32, decades: f64| {
                    let time = START.saturating_add(age);
                    slo.observe(&finished(time, 10f64.powf(f64::from(number) / decades - 1.0)));
                    slo.observe(&judged(time));
                };
                (0..STEPS).for_each(|step| record(far / STEPS * step, (step + thread) % 90, 10.0));
                let second = |step: u32| far + Duration::from_secs(u64::from(step));
                (0..STEPS).for_each(|step| record(second(step), step % 1_000, 125.0));
            })
        });
        // A scope's end does not wait until its threads have freed what they hold; joining them does.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let held = dhat::HeapStats::get().curr_bytes - before + size_of_val(&slo);
    (slo, held)
}

#[test]
fn an_objective_is_bounded_and_recording_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let indicators: [(&str, New, usize); 4] = [
        ("ratio", |window| Box::new(TaskSuccessRate::over(0.9, window).unwrap()), RATIO_OR_MEAN),
        ("weighted ratio", |window| Box::new(HallucinationRate::over(0.1, window).unwrap()), RATIO_OR_MEAN),
        ("mean", |window| Box::new(CostPerTask::over(Usd::from_nanos(1), window).unwrap()), RATIO_OR_MEAN),
        ("percentile", |window| Box::new(ResponseLatency::over(100.0, 0.95, window).unwrap()), PERCENTILE),
    ];
    // The longest window, and alerts over the shortest, need the most buckets.
    let fast = BurnPolicy::new(vec![BurnThreshold::new(2.0, Severity::Warning, "12s".parse().unwrap())]);
    for (window, policy) in [
        (Window::MONTH, BurnPolicy::standard()),
        (Window::days(90), BurnPolicy::sre_workbook()),
        (Window::days(36_500), fast),
    ] {
        let config = BudgetConfig { total: Some(0.1), window, policy, ..BudgetConfig::default() };
        let (_, alone) = fed(&config, None);
        println!("an objective over {window} without indicators holds {alone} bytes");
        assert!(alone <= OBJECTIVE, "{alone} bytes");
        for (kind, new, most) in indicators {
            let (slo, all) = fed(&config, Some(new));
            assert!(slo.snapshot_at(end(window)).indicators[0].samples > 0, "{kind} was fed");
            let more = all - alone;
            println!("a {kind} over {window} adds {more} bytes");
            assert!(more <= most, "{kind} over {window}: {more} bytes");
        }
    }

    let before = dhat::HeapStats::get().curr_bytes;
    let mut costs = TaskCosts::default();
    for task in 0..10_000 {
        costs.observe(&called(task));
        // Some end, and leave gaps.
        if task % 3 == 0 {
            costs.observe(&finished(START, 100.0).of_task(task.to_string()));
        }
    }
    let held = dhat::HeapStats::get().curr_bytes - before;
    println!("512 tasks in progress hold {held} bytes");
    assert!(held <= TASKS_IN_PROGRESS, "{held} bytes");

    let indicators: Vec<Box<dyn Sli>> =
        vec![Box::new(TaskSuccessRate::default()), Box::new(ResponseLatency::default())];
    let slo = Slo::new("quick", indicators).unwrap();
    let event = finished(START.saturating_add(Duration::from_secs(10_000_000)), 100.0);
    slo.observe(&event);
    let blocks = dhat::HeapStats::get().total_blocks;
    for _ in 0..10_000 {
        slo.observe(&event);
    }
    assert_eq!(dhat::HeapStats::get().total_blocks, blocks, "recording allocates nothing");
}
