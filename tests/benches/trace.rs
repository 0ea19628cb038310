//! The time of reading and writing trace headers, compared with OpenTelemetry's propagator.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use sre_trace::{TraceContext, Traceparent};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACESTATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

fn trace(c: &mut Criterion) {
    let mut group = c.benchmark_group("trace");
    let parsed = Traceparent::parse(TRACEPARENT).unwrap();
    group.bench_function("parse", |b| b.iter(|| Traceparent::parse(black_box(TRACEPARENT)).unwrap()));
    group.bench_function("format", |b| b.iter(|| black_box(parsed).to_text()));

    let headers: HashMap<String, String> = [("traceparent", TRACEPARENT), ("tracestate", TRACESTATE)]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    let context = TraceContext::from_headers(&headers).unwrap();
    group.bench_function("extract", |b| b.iter(|| TraceContext::from_headers(black_box(&headers)).unwrap()));
    group.bench_function("inject", |b| b.iter(|| black_box(&context).to_headers()));

    let propagator = TraceContextPropagator::new();
    let theirs = propagator.extract(&headers);
    group.bench_function("opentelemetry_extract", |b| b.iter(|| propagator.extract(black_box(&headers))));
    group.bench_function("opentelemetry_inject", |b| {
        b.iter(|| {
            let mut headers = HashMap::new();
            propagator.inject_context(black_box(&theirs), &mut headers);
            headers
        });
    });
    group.finish();
}

criterion_group!(benches, trace);
criterion_main!(benches);
