//! Allocations of the exporters of metrics. A single test, since heap statistics are per process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sre_core::{
    AgentEvent, Collect, ExponentialHistogram, ExportBatch, Exporter, HttpClient, HttpError, ManualClock, Metric,
    MetricUnit, Resource, Secret, Timestamp,
};
use sre_http::{Outbox, OutboxLimits, OutboxOptions};

use agent_sre::datadog::{DatadogExporter, DatadogSettings};
use agent_sre::otlp::{OtlpExporter, OtlpSettings};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

struct AcceptAll;

#[async_trait]
impl HttpClient for AcceptAll {
    async fn send(&self, _request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        Ok(http::Response::new(Bytes::new()))
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

/// Returns the number of allocations of a batch of so many metrics, after two that had the same series.
fn allocations(exporter: &dyn Exporter, count: usize) -> u64 {
    let resource = Resource::new("tests");
    let mut blocks = 0;
    for minute in 1..=3 {
        let metrics = metrics(count, 100.0 * minute as f64);
        let batch = ExportBatch::new(Timestamp::from_secs(60 * minute), &resource).with_state(&metrics, &[]);
        let before = dhat::HeapStats::get().total_blocks;
        let report = pollster::block_on(exporter.export(&batch, &AcceptAll)).unwrap();
        blocks = dhat::HeapStats::get().total_blocks - before;
        assert_eq!(report.accepted, count as u64);
    }
    blocks
}

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
    let exporter = Arc::new(OtlpExporter::new(OtlpSettings::new("http://127.0.0.1:1")).unwrap());
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
    let exporters: [fn() -> Box<dyn Exporter>; 2] = [
        || Box::new(OtlpExporter::new(OtlpSettings::new("http://127.0.0.1:1")).unwrap()),
        || Box::new(DatadogExporter::new(DatadogSettings::new(Secret::new("key"))).unwrap()),
    ];
    for exporter in exporters {
        let name = exporter().name().to_owned();
        let (fewer, more) = (allocations(&*exporter(), 1_500), allocations(&*exporter(), 3_000));
        println!("{name}: {fewer} allocations for 1,500 metric points, {more} for 3,000");
        // The buffer of the compressed body grows by its double.
        assert!(more <= fewer + 3, "{name}: {fewer} allocations for 1,500 metric points, {more} for 3,000");
    }
}
