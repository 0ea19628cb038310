//! The time of a charge, compared with governor's keyed rate limiter.

use std::cell::RefCell;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sre_core::Usd;
use sre_cost::{CostGuard, Limits, Spend};

thread_local! {
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Names of agents in random order, so that charges find their accounts scattered in memory.
struct Agents {
    names: Vec<String>,
    /// Where each thread continues: a sample must not begin with what the last one left in the cache.
    next: [AtomicUsize; 2],
}

impl Agents {
    fn new(count: u32) -> Self {
        let mut numbers: Vec<u32> = (0..count).collect();
        Rng::with_seed(1).shuffle(&mut numbers);
        Self { names: numbers.into_iter().map(name).collect(), next: Default::default() }
    }

    /// Measures how long `threads` threads take for `calls` in total, each with agents of its own.
    fn time(&self, threads: usize, calls: u64, call: &(dyn Fn(&str) + Sync)) -> Duration {
        let (calls, of_each) = (calls as usize / threads, self.names.len() / threads);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (own, next) in self.names.chunks(of_each).zip(&self.next) {
                scope.spawn(move || {
                    let first = next.load(Ordering::Relaxed) % own.len();
                    own.iter().cycle().skip(first).take(calls).for_each(|name| call(name));
                    next.store(first + calls, Ordering::Relaxed);
                });
            }
        });
        start.elapsed()
    }
}

fn name(number: u32) -> String {
    format!("agent-{number:07}")
}

/// Creates a guard with an account for each agent, in the order of their numbers.
fn guard(agents: u32, limits: Limits) -> CostGuard {
    let much: Usd = "1000000000".parse().unwrap();
    let limits = Limits { per_agent_daily: much, org_monthly: much, max_agents: agents as usize, ..limits };
    let guard = CostGuard::with_limits(limits).unwrap();
    (0..agents).for_each(|number| drop(guard.check_and_charge(&name(number), Usd::from_nanos(1_000))));
    guard
}

fn limiter(agents: u32) -> DefaultKeyedRateLimiter<String> {
    let limiter = RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX));
    (0..agents).for_each(|number| drop(limiter.check_key(&name(number))));
    limiter
}

fn check(limiter: &DefaultKeyedRateLimiter<String>, name: &str) {
    // Governor looks up a `String`: reuse one per thread instead of allocating.
    KEY.with_borrow_mut(|key| {
        key.clear();
        key.push_str(name);
        let _ = black_box(limiter.check_key(key));
    });
}

const ONE: Usd = Usd::from_nanos(1_000);

fn charge(c: &mut Criterion) {
    for (group, count) in [("charge", 10_000), ("charge_million", 1_000_000)] {
        let mut group = c.benchmark_group(group);
        let agents = Agents::new(count);
        let mut bench = |name: &str, call: &(dyn Fn(&str) + Sync)| {
            for threads in [1, 2] {
                group.bench_function(format!("{name}_{threads}"), |b| {
                    b.iter_custom(|calls| agents.time(threads, calls, call));
                });
            }
        };
        let limiter = limiter(count);
        bench("governor", &|name| check(&limiter, name));
        let all = guard(count, Limits::default());
        bench("guard", &|name| drop(black_box(all.check_and_charge(name, ONE))));
        let plain = guard(count, Limits { anomaly_detection: false, ..Limits::default() });
        bench("guard_without_anomalies", &|name| drop(black_box(plain.check_and_charge(name, ONE))));
        let tasks = guard(count, Limits { per_task: "1000000000".parse().unwrap(), ..Limits::default() });
        bench("guard_with_tasks", &|name| {
            drop(black_box(tasks.charge(&Spend { task: Some("task-1"), ..Spend::new(name, ONE) })));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = charge
}
criterion_main!(benches);
