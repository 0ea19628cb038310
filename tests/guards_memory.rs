//! Memory of an idle breaker, and allocations of a protected call. A single test, since heap statistics are per process.

use std::time::Duration;

use sre_cascade::{BreakerConfig, CascadeDetector, CircuitBreaker, SlidingWindow, WindowSize};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

const AGENTS: usize = 100_000;

fn heap_bytes() -> usize {
    dhat::HeapStats::get().curr_bytes
}

#[test]
fn guards_are_small_and_calls_allocate_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = heap_bytes();
    let detector = CascadeDetector::new((0..AGENTS).map(|number| format!("agent-{number:05}")));
    let each = (heap_bytes() - before) / AGENTS;
    println!("an idle breaker of a detector takes {each} bytes, including its name and call graph entry");
    assert!(each <= 256, "{each} bytes");
    drop(detector);

    let windows = [None, Some(WindowSize::Calls(100)), Some(WindowSize::Time(Duration::from_secs(60)))];
    for window in windows {
        let window = window.map(|size| SlidingWindow { size, minimum_calls: 1_000_000, ..SlidingWindow::default() });
        let config = BreakerConfig { window, failure_threshold: 1_000_000, ..BreakerConfig::default() };
        let breaker = CircuitBreaker::with_config("tool", config).unwrap();
        let call = |number: u64| {
            let _ = std::hint::black_box(breaker.call(|| if number.is_multiple_of(10) { Err(()) } else { Ok(number) }));
        };
        // The first call creates the counters of a sliding window.
        call(1);
        let blocks = dhat::HeapStats::get().total_blocks;
        (0..10_000).for_each(call);
        assert_eq!(dhat::HeapStats::get().total_blocks, blocks, "a call allocates nothing, whatever its result");
    }
}
