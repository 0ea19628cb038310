//! The time of a charge, compared with governor's keyed rate limiter.

use std::cell::RefCell;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sre_core::Usd;
use sre_cost::{CostGuard, Limits, Spend};

thread_local! {
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

const AGENTS: usize = 10_000;

/// Names in random order, so that their accounts are scattered in memory.
fn names() -> Vec<String> {
    (0..AGENTS as u64).map(|number| format!("agent-{:05}", number * 7_919 % AGENTS as u64)).collect()
}

fn guard(limits: Limits) -> CostGuard {
    let much: Usd = "1000000000".parse().unwrap();
    let limits = Limits { per_agent_daily: much, org_monthly: much, ..limits };
    CostGuard::with_limits(limits).unwrap()
}

/// Measures how long `threads` threads take for `calls` in total, each with agents of its own.
fn on_threads(threads: usize, calls: u64, names: &[String], call: &(dyn Fn(&str) + Sync)) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let own = &names[thread * AGENTS / threads..(thread + 1) * AGENTS / threads];
                own.iter().cycle().take(calls as usize / threads).for_each(|name| call(name));
            });
        }
    });
    start.elapsed()
}

fn charge(c: &mut Criterion) {
    let mut group = c.benchmark_group("charge");
    let names = names();
    let mut bench = |name: &str, call: &(dyn Fn(&str) + Sync)| {
        for threads in [1, 2] {
            group.bench_function(format!("{name}_{threads}"), |b| {
                b.iter_custom(|calls| on_threads(threads, calls, &names, call));
            });
        }
    };
    let quota = Quota::per_second(NonZeroU32::MAX);
    let limiter: DefaultKeyedRateLimiter<String> = RateLimiter::keyed(quota);
    bench("governor", &|name| {
        // Governor looks up a `String`: reuse one per thread instead of allocating.
        KEY.with_borrow_mut(|key| {
            key.clear();
            key.push_str(name);
            let _ = black_box(limiter.check_key(key));
        });
    });
    let one = Usd::from_nanos(1_000);
    let all = guard(Limits::default());
    bench("guard", &|name| {
        let _ = black_box(all.check_and_charge(name, one));
    });
    let plain = guard(Limits { anomaly_detection: false, ..Limits::default() });
    bench("guard_without_anomalies", &|name| {
        let _ = black_box(plain.check_and_charge(name, one));
    });
    let tasks = guard(Limits { per_task: "1000000000".parse().unwrap(), ..Limits::default() });
    bench("guard_with_tasks", &|name| {
        let _ = black_box(tasks.charge(&Spend { task: Some("task-1"), ..Spend::new(name, one) }));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = charge
}
criterion_main!(benches);
