//! Allocations of the exporters of metrics. A single test, since heap statistics are per process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sre_core::{
    AgentEvent, Collect, ExponentialHistogram, ExportBatch, Exporter, HttpClient, HttpError, IndicatorSnapshot,
    ManualClock, Metric, MetricUnit, Resource, Secret, SliReading, SliSpec, SloSnapshot, Snapshot, Timestamp, Window,
};
use sre_http::{Outbox, OutboxLimits, OutboxOptions};

use agent_sre::datadog::{DatadogExporter, DatadogSettings};
use agent_sre::mlflow::{MlflowExporter, MlflowSettings};
use agent_sre::otlp::{OtlpExporter, OtlpSettings};
use agent_sre::wandb::{WandbExporter, WandbSettings};

const URL: &str = "http://127.0.0.1:1";

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

struct AcceptAll;

#[async_trait]
impl HttpClient for AcceptAll {
    async fn send(&self, _request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        // What a lookup of an experiment or a run needs.
        let body = br#"{"experiment":{"experiment_id":"1"},"runs":[{"info":{"run_id":"r"}}],"data":{"upsertBucket":{"bucket":{}}}}"#;
        Ok(http::Response::new(Bytes::from_static(body)))
    }
}

/// Returns a third each of gauges, counters and histograms.
fn metrics(count: usize, total: f64) -> Vec<Metric<'static>> {
    let metric = |number: usize| {
        let metric = match number % 3 {
            0 => Metric::gauge("sre.slo.burn_rate", total),
            1 => Metric::counter("sre.slo.events", total),
            _ => {
                let mut histogram = ExponentialHistogram::new(3);
                (0..total as u32).for_each(|value| histogram.record(f64::from(value % 16)));
                Metric::histogram("sre.latency", histogram)
            }
        };
        let agent = format!("agent-{number}");
        metric.with_unit(MetricUnit::Seconds).with_label("slo", "answers").with_label("agent", agent)
    };
    (0..count).map(metric).collect()
}

/// Returns an objective with this number of burn rates and of indicators.
fn objective(count: usize, total: f64) -> Snapshot {
    let burn_rate = |hours: usize| {
        let burn_rate = json!({"window": format!("{hours}h"), "rate": total, "good": 1, "bad": 1});
        serde_json::from_value(burn_rate).unwrap()
    };
    let mut reading = SliReading::default();
    (reading.value, reading.compliance) = (Some(total), Some(0.5));
    let indicator = |number: usize| {
        let spec = SliSpec::ratio_at_most(format!("indicator-{number}"), 0.02, Window::DAY).unwrap();
        IndicatorSnapshot::new(&spec, reading)
    };
    let mut slo = SloSnapshot::new("answers", "support", Window::DAY);
    (slo.burn_rates, slo.indicators) = ((1..=count).map(burn_rate).collect(), (1..=count).map(indicator).collect());
    Snapshot::Slo(Box::new(slo))
}

/// Returns the number of allocations of a batch of the state at a minute, after two that had the same series.
fn allocations(exporter: &dyn Exporter, state: &dyn Fn(f64) -> State) -> u64 {
    let resource = Resource::new("tests");
    let mut blocks = 0;
    for minute in 1..=3 {
        let (metrics, snapshots) = state(100.0 * minute as f64);
        let batch = ExportBatch::new(Timestamp::from_secs(60 * minute), &resource).with_state(&metrics, &snapshots);
        let before = dhat::HeapStats::get().total_blocks;
        let report = pollster::block_on(exporter.export(&batch, &AcceptAll)).unwrap();
        blocks = dhat::HeapStats::get().total_blocks - before;
        assert_eq!(report.accepted, batch.len() as u64);
    }
    blocks
}

type State = (Vec<Metric<'static>>, Vec<Snapshot>);

#[test]
fn a_metric_point_allocates_nothing_and_an_overload_takes_no_more_memory() {
    let _profiler = dhat::Profiler::builder().testing().build();
    a_metric_point_allocates_nothing();
    an_overload_takes_no_more_memory();
}

/// Ten times as many events, metrics and readings as the outbox holds, while the backend takes none.
fn an_overload_takes_no_more_memory() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let limits = OutboxLimits { queue_events: 1_000, queue_state: 1_000, ..OutboxLimits::default() };
    let options =
        OutboxOptions { limits, collect: vec![Arc::new(Source)], clock: clock.clone(), ..OutboxOptions::default() };
    let exporter = Arc::new(OtlpExporter::new(OtlpSettings::new(URL)).unwrap());
    let outbox = Outbox::without_thread(exporter, Arc::new(Refuse), options).unwrap();
    let line =
        br#"{"event":"tool_call","time":1790000000,"agent":"support","task":"t","tool":"search","duration_ms":20}"#;
    let mut heap = [0, 0];
    for minute in 0..200 {
        for _ in 0..100 {
            outbox.push(Arc::new(AgentEvent::from_json(line).unwrap()));
        }
        pollster::block_on(outbox.flush_due());
        clock.advance(Duration::from_secs(60));
        let in_use = dhat::HeapStats::get().curr_bytes;
        let half = usize::from(minute >= 20);
        heap[half] = in_use.max(heap[half]);
    }
    let stats = outbox.stats();
    assert!(stats.events.received >= 10 * stats.queue_length, "{stats:?}");
    assert!(stats.state.received >= 10 * stats.state_queue_length, "{stats:?}");
    assert_eq!(stats.events.settled() + stats.queue_length, stats.events.received, "{stats:?}");
    println!("{} bytes until the queues were full, {} afterwards", heap[0], heap[1]);
    assert!(heap[1] <= heap[0] + heap[0] / 20, "{heap:?}");
}

struct Refuse;

#[async_trait]
impl HttpClient for Refuse {
    async fn send(&self, _request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        Ok(http::Response::builder().status(503).body(Bytes::new()).unwrap())
    }
}

struct Source;

impl Collect for Source {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        metrics(100, 1.0).into_iter().for_each(emit);
    }
}

fn a_metric_point_allocates_nothing() {
    type Row = (fn() -> Box<dyn Exporter>, usize, fn(usize, f64) -> State);
    let of_metrics: fn(usize, f64) -> State = |count, total| (metrics(count, total), Vec::new());
    let of_objective: fn(usize, f64) -> State = |count, total| (Vec::new(), vec![objective(count, total)]);
    let rows: [Row; 5] = [
        (|| Box::new(OtlpExporter::new(OtlpSettings::new(URL)).unwrap()), 1_500, of_metrics),
        (|| Box::new(DatadogExporter::new(DatadogSettings::new(Secret::new("key"))).unwrap()), 1_500, of_metrics),
        // At most 500 are in a row.
        (|| Box::new(WandbExporter::new(WandbSettings::new(Secret::new("key"), "team")).unwrap()), 250, of_metrics),
        (|| Box::new(WandbExporter::new(WandbSettings::new(Secret::new("key"), "team")).unwrap()), 50, of_objective),
        (|| Box::new(MlflowExporter::new(MlflowSettings::new(URL)).unwrap()), 50, of_objective),
    ];
    for (exporter, count, state) in rows {
        let name = exporter().name().to_owned();
        let [fewer, more] = [count, 2 * count].map(|count| allocations(&*exporter(), &|total| state(count, total)));
        let found = format!("{name}: {fewer} allocations for {count} metric points, {more} for {}", 2 * count);
        println!("{found}");
        // The buffers of a request grow by their double.
        assert!(more <= fewer + 4, "{found}");
    }
}
