//! The memory of open incidents, its release when they expire, and that a duplicate allocates nothing. A single test, since
//! the heap is that of the whole process.

use std::sync::Arc;
use std::time::Duration;

use sre_alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig, Verdict};
use sre_core::{Alert, ManualClock, Severity, Timestamp};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

const INCIDENTS: usize = 20_000;

fn held() -> usize {
    dhat::HeapStats::get().curr_bytes
}

fn alert(key: usize) -> Alert {
    Alert {
        dedup_key: format!("slo/answers/agent-{key:07}"),
        agent_id: format!("agent-{key:07}"),
        slo_name: "answers".into(),
        severity: Severity::Critical,
        ..Alert::new("answers of an agent: critical", "The error budget burns too fast: 14.4 times over the last 1h.")
    }
}

#[test]
fn incidents_are_bounded_in_number_and_time_and_a_duplicate_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let options = AlertOptions { clock: clock.clone(), max_incidents: INCIDENTS, ..AlertOptions::default() };
    let manager = AlertManager::without_thread(AlertOptions { queue_limit: INCIDENTS, ..options });
    manager.add_channel(CallbackChannel::new("nobody", |_| {}), ChannelConfig::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let send = |range: std::ops::Range<usize>| {
        for batch in range.step_by(1_000) {
            (batch..batch + 1_000).for_each(|key| {
                assert_eq!(manager.send(&alert(key)).verdict, Verdict::Accepted);
            });
            runtime.block_on(manager.deliver_due());
        }
    };
    let empty = held();
    send(0..INCIDENTS);
    let full = held() - empty;
    println!("an open incident holds {} bytes", full / INCIDENTS);
    assert!(full / INCIDENTS < 1_200, "{full} bytes");

    let known = alert(INCIDENTS / 2);
    let blocks = dhat::HeapStats::get().total_blocks;
    for _ in 0..10_000 {
        assert_eq!(manager.send(&known).verdict, Verdict::Duplicate);
    }
    assert_eq!(dhat::HeapStats::get().total_blocks, blocks, "a duplicate allocates nothing");

    // As many again: the oldest are evicted.
    send(INCIDENTS..2 * INCIDENTS);
    let stats = manager.stats();
    assert_eq!((stats.open, stats.evicted), (INCIDENTS as u64, INCIDENTS as u64));
    assert!(held() - empty < full * 5 / 4, "{} bytes", held() - empty);

    clock.advance(Duration::from_secs(31 * 86_400));
    runtime.block_on(manager.deliver_due());
    assert_eq!(manager.stats().open, 0);
    let left = held() - empty;
    assert!(left < full / 10, "{left} bytes are left of {full}");
}
