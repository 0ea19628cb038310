//! Overhead of a protected call through a closed breaker, compared with other crates, and of cascade detection.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use failsafe::CircuitBreaker as _;
use recloser::Recloser;
use sre_cascade::{
    BreakerConfig, BreakerLayer, CascadeDetector, CircuitBreaker, DetectorConfig, SlidingWindow, Target, WindowSize,
};
use sre_core::ManualClock;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, FailureModel};

fn windowed(size: WindowSize) -> CircuitBreaker {
    let window = SlidingWindow { size, ..SlidingWindow::default() };
    CircuitBreaker::with_config("tool", BreakerConfig { window: Some(window), ..BreakerConfig::default() }).unwrap()
}

fn answer() -> Result<u64, u64> {
    black_box(Ok(1))
}

/// Returns how long the threads take to make `calls` calls in total.
fn on_threads(threads: u64, calls: u64, call: impl Fn() + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..calls / threads).for_each(|_| call()));
        }
    });
    start.elapsed()
}

fn closed(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker");
    let mut bench = |name: &str, call: &(dyn Fn() + Sync)| {
        group.bench_function(name, |b| b.iter(call));
        for (threads, of) in [(1, "one_thread"), (2, "two_threads")] {
            group.bench_function(format!("{name}_{of}"), |b| b.iter_custom(|calls| on_threads(threads, calls, call)));
        }
    };
    let breaker = CircuitBreaker::new("tool");
    bench("consecutive", &|| drop(black_box(breaker.call(answer))));
    let breaker = windowed(WindowSize::Calls(100));
    bench("window_of_calls", &|| drop(black_box(breaker.call(answer))));
    let breaker = windowed(WindowSize::Time(Duration::from_secs(60)));
    bench("window_of_time", &|| drop(black_box(breaker.call(answer))));
    let breaker = Recloser::default();
    bench("recloser", &|| drop(black_box(breaker.call(answer))));
    let backoff = failsafe::backoff::constant(Duration::from_secs(30));
    let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    bench("failsafe", &|| drop(black_box(breaker.call(answer))));
    group.finish();
}

fn layered(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker_layer");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let service = || service_fn(|_: ()| std::future::ready(answer()));
    let mut bench = |name: &str, call: &mut dyn FnMut() -> bool| {
        group.bench_function(name, |b| b.iter(&mut *call));
    };
    let mut bare = service();
    bench("bare", &mut || runtime.block_on(async { bare.ready().await.unwrap().call(()).await.is_ok() }));
    let mut ours = BreakerLayer::new(Arc::new(CircuitBreaker::new("tool"))).layer(service());
    bench("ours", &mut || runtime.block_on(async { ours.ready().await.unwrap().call(()).await.is_ok() }));
    let layer =
        CircuitBreakerLayer::builder().failure_model(FailureModel::ConsecutiveFailures { k: 5 }).build().unwrap();
    let mut theirs = layer.layer(service());
    bench("tower_resilience", &mut || runtime.block_on(async { theirs.ready().await.unwrap().call(()).await.is_ok() }));
    group.finish();
}

/// A fleet of 100,000 agents: 10 chiefs call 990 planners, and two planners call each worker. 1,000 workers have open circuits.
fn fleet() -> CascadeDetector {
    let detector = CascadeDetector::with_config(DetectorConfig::default(), Arc::new(ManualClock::default())).unwrap();
    let name = |number: u32| format!("agent-{number:05}");
    for planner in 10..1_000 {
        detector.add_call(name(planner % 10), name(planner));
    }
    for worker in 1_000..100_000u32 {
        for salt in [1, 7] {
            detector.add_call(name(10 + worker.wrapping_mul(2_654_435_761).rotate_left(salt) % 990), name(worker));
        }
    }
    for open in (1_000..100_000).step_by(99) {
        let breaker = detector.breaker(name(open)).unwrap();
        (0..5).for_each(|_| breaker.record_failure());
    }
    detector
}

fn cascade(c: &mut Criterion) {
    let mut group = c.benchmark_group("cascade");
    let detector = fleet();
    let report = detector.check_cascade().unwrap();
    assert_eq!(report.open.len(), 1_000);
    group.bench_function("check", |b| b.iter(|| detector.check_cascade()));
    for worker in 1_000..100_000 {
        detector.add_call(format!("agent-{worker:05}").as_str(), Target::model("gpt-5"));
    }
    (0..5).for_each(|_| detector.breaker(Target::model("gpt-5")).unwrap().record_failure());
    assert_eq!(detector.check_cascade().unwrap().exposed, 99_000);
    group.bench_function("check_all_exposed", |b| b.iter(|| detector.check_cascade()));
    detector.reset_all();
    group.bench_function("check_nothing_open", |b| b.iter(|| detector.check_cascade()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = closed, layered, cascade
}
criterion_main!(benches);
