//! Memory of an objective, and that recording allocates nothing. A single test, since heap statistics are per process.

use std::time::Duration;

use sre_core::event::{Evaluation, TaskFinished};
use sre_core::{AgentEvent, Sli, Timestamp, Usd};
use sre_slo::{CostPerTask, HallucinationRate, ResponseLatency, Slo, TaskSuccessRate};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// How much an objective holds without indicators, and how much each kind of indicator may add, in bytes.
const OBJECTIVE: usize = 64 * 1024;
const RATIO_OR_MEAN: usize = 20 * 1024;
const PERCENTILE: usize = 60 * 1024;
const START: Timestamp = Timestamp::from_secs(1_790_000_000);

fn finished(time: Timestamp, duration_ms: f64) -> AgentEvent {
    let mut finished = TaskFinished::new(true);
    finished.duration_ms = Some(duration_ms);
    finished.cost_usd = Some(Usd::from_nanos(duration_ms as i64));
    AgentEvent::new(time, "agent", finished)
}

fn judged(time: Timestamp) -> AgentEvent {
    AgentEvent::new(time, "agent", Evaluation::new("hallucination", Some(true), None))
}

/// Returns an objective after two months of events that fill every latency bin of every bucket, recorded by more threads than
/// there are counter stripes, and the bytes that it holds.
fn fed(indicators: impl FnOnce() -> Vec<Box<dyn Sli>>) -> (Slo, usize) {
    let before = dhat::HeapStats::get().curr_bytes;
    let slo = Slo::new("bounded", indicators()).unwrap();
    std::thread::scope(|scope| {
        let threads = [0u32, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|thread| {
            let slo = &slo;
            scope.spawn(move || {
                for step in 0..8_000u32 {
                    let time = START.saturating_add(Duration::from_secs(u64::from(step) * 650));
                    slo.observe(&finished(time, 10f64.powf(f64::from(step + thread) % 90.0 / 10.0 - 1.0)));
                    slo.observe(&judged(time));
                }
                let end = START.saturating_add(Duration::from_secs(8_000 * 650));
                for step in 0..20_000u32 {
                    let time = end.saturating_add(Duration::from_millis(u64::from(step) * 200));
                    slo.observe(&finished(time, 10f64.powf(f64::from(step % 1000) / 125.0 - 1.0)));
                    slo.observe(&judged(time));
                }
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
    let (_, alone) = fed(Vec::new);
    println!("an objective without indicators holds {alone} bytes");
    assert!(alone <= OBJECTIVE, "{alone} bytes");
    type New = fn() -> Box<dyn Sli>;
    let indicators: [(&str, New, usize); 4] = [
        ("ratio", || Box::new(TaskSuccessRate::default()), RATIO_OR_MEAN),
        ("weighted ratio", || Box::new(HallucinationRate::default()), RATIO_OR_MEAN),
        ("mean", || Box::new(CostPerTask::default()), RATIO_OR_MEAN),
        ("percentile", || Box::new(ResponseLatency::default()), PERCENTILE),
    ];
    for (kind, new, most) in indicators {
        let (slo, all) = fed(|| vec![new()]);
        let end = START.saturating_add(Duration::from_secs(8_000 * 650 + 4_000));
        assert!(slo.snapshot_at(end).indicators[0].samples > 0, "{kind} was fed");
        let more = all - alone;
        println!("a {kind} adds {more} bytes");
        assert!(more <= most, "{kind}: {more} bytes");
    }

    let (slo, _) = fed(|| vec![Box::new(TaskSuccessRate::default()), Box::new(ResponseLatency::default())]);
    let event = finished(START.saturating_add(Duration::from_secs(10_000_000)), 100.0);
    slo.observe(&event);
    let blocks = dhat::HeapStats::get().total_blocks;
    for _ in 0..10_000 {
        slo.observe(&event);
    }
    assert_eq!(dhat::HeapStats::get().total_blocks, blocks, "recording allocates nothing");
}
