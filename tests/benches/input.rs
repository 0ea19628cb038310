//! The time of reading input, compared with only decoding the same bytes.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_sre::Format;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use sre_adapter_otel::OtelAdapter;
use sre_core::{Adapter, NativeAdapter, RunLimits};
use sre_testkit::recordings::folders;

const DIALECTS: [&str; 5] =
    ["otlp-langgraph", "otlp-openai-agents", "otlp-semantic-kernel", "otlp-traceloop", "otlp-vercel-ai"];

/// Returns a recorded request of a dialect of OpenTelemetry.
fn request(dialect: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(dialect).join("long_mixed.0.bin");
    std::fs::read(path).expect("a recording")
}

fn otlp(c: &mut Criterion) {
    for dialect in DIALECTS {
        let body = request(dialect);
        let mut group = c.benchmark_group(dialect);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("prost_decode", |b| b.iter(|| ExportTraceServiceRequest::decode(black_box(&*body))));
        group.bench_function("adapter", |b| {
            b.iter(|| {
                let mut adapter = OtelAdapter::default();
                adapter.ingest(black_box(&body), &mut |event| drop(black_box(event))).expect("a recorded body");
                adapter.finish(&mut |event| drop(black_box(event)));
            });
        });
        group.finish();
    }
}

fn native(c: &mut Criterion) {
    let mut group = c.benchmark_group("sre");
    let line = br#"{"event":"llm_call","time":1790000000.123,"agent":"support","task":"task-17","model":"gpt-4o-mini","input_tokens":512,"output_tokens":64,"success":true,"duration_ms":812.5}"#;
    let mut adapter = NativeAdapter::new(RunLimits::default());
    group.bench_function("line", |b| {
        b.iter(|| adapter.ingest(black_box(line), &mut |event| drop(black_box(event))));
    });
    group.finish();
}

/// The time of one record of each framework, averaged over its longest recording.
fn frameworks(c: &mut Criterion) {
    let mut group = c.benchmark_group("frameworks");
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    for (folder, format) in folders(&recordings).into_iter().filter(|(folder, _)| !folder.starts_with("otlp-")) {
        let text = std::fs::read(recordings.join(&folder).join("long_mixed.jsonl")).expect("a recording");
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let count = lines.len();
        group.bench_function(folder, |b| b.iter_custom(|times| time_of_one(times, format, &lines, count)));
    }
    group.finish();
}

/// The time of one span of each dialect of OpenTelemetry, averaged over a request.
fn spans(c: &mut Criterion) {
    let mut group = c.benchmark_group("spans");
    for dialect in DIALECTS {
        let body = request(dialect);
        let request = ExportTraceServiceRequest::decode(&*body).expect("a recorded body");
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let count = scopes.map(|scope| scope.spans.len()).sum();
        group.bench_function(dialect, |b| b.iter_custom(|times| time_of_one(times, "otlp", &[&body], count)));
    }
    group.finish();
}

/// Returns the time in which adapters of a format read `times` records, of which each of them reads `count`.
fn time_of_one(times: u64, format: &str, bodies: &[&[u8]], count: usize) -> Duration {
    let format: Format = format.parse().expect("a format of this build");
    let started = Instant::now();
    for _ in 0..times {
        let mut adapter = format.adapter(RunLimits::default());
        for body in bodies {
            adapter.ingest(black_box(body), &mut |event| drop(black_box(event))).expect("a recorded body");
        }
        adapter.finish(&mut |event| drop(black_box(event)));
    }
    started.elapsed() / u32::try_from(count).expect("few records")
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = otlp, native, frameworks, spans
}
criterion_main!(benches);
