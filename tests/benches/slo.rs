//! The time of recording into an objective, compared with its parts.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sketches_ddsketch::{Config, DDSketch};
use sre_core::event::TaskFinished;
use sre_core::{AgentEvent, Clock, PercentileSeries, SliSpec, SystemClock, Timestamp, Unit, Window};
use sre_slo::{ResponseLatency, Slo, TaskSuccessRate};

fn slo() -> Slo {
    Slo::new("bench", vec![Box::new(TaskSuccessRate::new(0.99).unwrap())]).unwrap()
}

fn finished(time: Timestamp) -> AgentEvent {
    let mut finished = TaskFinished::new(true);
    finished.duration_ms = Some(120.0);
    AgentEvent::new(time, "agent", finished)
}

/// Records one event at the current time: clock, budget and indicator.
#[inline]
fn record(slo: &Slo, event: &mut AgentEvent) {
    event.time = SystemClock.coarse_now();
    slo.observe(black_box(event));
}

fn recording(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let counter = AtomicU64::new(0);
    group.bench_function("atomic_add", |b| b.iter(|| black_box(&counter).fetch_add(1, Ordering::Relaxed)));
    let mut event = finished(SystemClock.now());
    for (name, earlier) in [("slo_after_1k", 1_000u64), ("slo_after_100M", 100_000_000)] {
        let slo = slo();
        (0..earlier).for_each(|_| record(&slo, &mut event));
        group.bench_function(name, |b| b.iter(|| record(&slo, &mut event)));
    }
    let slo = slo();
    for (name, threads) in [("slo_one_thread", 1), ("slo_two_threads", 2)] {
        group.bench_function(name, |b| b.iter_custom(|events| on_threads(&slo, threads, events)));
    }
    group.finish();
}

/// Measures how long `threads` threads take for `events` in total.
fn on_threads(slo: &Slo, threads: u64, events: u64) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut event = finished(SystemClock.now());
                for _ in 0..events / threads {
                    record(slo, &mut event);
                }
            });
        }
    });
    start.elapsed()
}

fn evaluation(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluate");
    let slo = slo();
    let now = SystemClock.now();
    for back in 0..100_000u64 {
        slo.observe(&finished(now.saturating_sub(Duration::from_secs((100_000 - back) * 25))));
    }
    group.bench_function("slo", |b| b.iter(|| slo.evaluate_at(black_box(now), &mut |_| {})));
    group.finish();
}

fn latency(c: &mut Criterion) {
    let mut group = c.benchmark_group("latency");
    let samples: Vec<f64> =
        (0..4096u32).map(|index| 10f64.powf(f64::from(index.wrapping_mul(2_654_435_761) >> 20) / 1024.0)).collect();
    let mut next = 0;
    let mut sample = move || {
        next = (next + 1) % samples.len();
        samples[next]
    };
    let mut peer = DDSketch::new(Config::defaults());
    let mut draw = sample.clone();
    group.bench_function("ddsketch_add", |b| b.iter(|| peer.add(black_box(draw()))));
    let spec = SliSpec::at_most("latency", 5000.0, Unit::Milliseconds, Window::HOUR).unwrap();
    let series = PercentileSeries::new(spec, 0.95).unwrap();
    let mut draw = sample.clone();
    group.bench_function("series_record", |b| b.iter(|| series.record(SystemClock.coarse_now(), black_box(draw()))));
    let indicator = ResponseLatency::default();
    group.bench_function("indicator_record", |b| b.iter(|| indicator.record_latency(black_box(sample()))));
    group.bench_function("p95", |b| {
        b.iter(|| series.percentile(0.95, black_box(Window::HOUR), SystemClock.coarse_now()));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    targets = recording, evaluation, latency
}
criterion_main!(benches);
