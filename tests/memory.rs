//! Memory of an objective, and that recording allocates nothing. A single test, since heap statistics are per process.

use std::time::Duration;

use sre_core::event::TaskFinished;
use sre_core::{AgentEvent, Timestamp};
use sre_slo::{ResponseLatency, Slo, TaskSuccessRate};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

const MOST: usize = 64 * 1024;

fn finished(time: Timestamp, duration_ms: f64) -> AgentEvent {
    let mut finished = TaskFinished::new(true);
    finished.duration_ms = Some(duration_ms);
    AgentEvent::new(time, "agent", finished)
}

#[test]
fn an_objective_is_bounded_and_recording_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get().curr_bytes;
    let slo =
        Slo::new("bounded", vec![Box::new(TaskSuccessRate::default()), Box::new(ResponseLatency::default())]).unwrap();
    let start = Timestamp::from_secs(1_790_000_000);
    // Two months of events that fill every latency bin of every bucket, recorded by more threads than there are counter stripes.
    std::thread::scope(|scope| {
        let threads = [0u32, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|thread| {
            let slo = &slo;
            scope.spawn(move || {
                for step in 0..20_000u32 {
                    let time = start.saturating_add(Duration::from_secs(u64::from(step) * 260));
                    slo.observe(&finished(time, 10f64.powf(f64::from(step + thread) % 90.0 / 10.0 - 1.0)));
                }
                let end = start.saturating_add(Duration::from_secs(20_000 * 260));
                for step in 0..50_000u32 {
                    let time = end.saturating_add(Duration::from_millis(u64::from(step) * 80));
                    slo.observe(&finished(time, 10f64.powf(f64::from(step % 1000) / 125.0 - 1.0)));
                }
            })
        });
        // A scope's end does not wait until its threads have freed what they hold; joining them does.
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let held = dhat::HeapStats::get().curr_bytes - before + size_of_val(&slo);
    println!("an objective with a ratio and a latency holds {held} bytes");
    assert!(held <= MOST, "{held} bytes");

    let event = finished(start.saturating_add(Duration::from_secs(10_000_000)), 100.0);
    slo.observe(&event);
    let blocks = dhat::HeapStats::get().total_blocks;
    for _ in 0..10_000 {
        slo.observe(&event);
    }
    assert_eq!(dhat::HeapStats::get().total_blocks, blocks, "recording allocates nothing");
}
