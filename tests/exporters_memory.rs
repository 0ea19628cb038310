//! Allocations of the exporters of metrics. A single test, since heap statistics are per process.

use async_trait::async_trait;
use bytes::Bytes;
use sre_core::{
    ExponentialHistogram, ExportBatch, Exporter, HttpClient, HttpError, Metric, MetricUnit, Resource, Secret, Timestamp,
};

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
fn a_metric_point_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
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
