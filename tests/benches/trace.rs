//! The time of reading and writing trace headers, and of a span, compared with OpenTelemetry's propagator and tracer.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use sre_trace::{McpRequest, ProtocolTracer, TraceContext, Traceparent};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACESTATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// Takes spans and keeps none: the least that a processor can do.
#[derive(Debug)]
struct Discard;

impl SpanProcessor for Discard {
    fn on_start(&self, _span: &mut opentelemetry_sdk::trace::Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        black_box(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

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

    let tracer = ProtocolTracer::new("writer");
    group.bench_function("span", |b| b.iter(|| tracer.mcp_call("web", McpRequest::tool("search")).end()));
    let record = {
        tracer.mcp_call("web", McpRequest::tool("search")).end();
        tracer.protocol_spans().remove(0)
    };
    let attributes: Vec<(&'static str, String)> = record
        .attributes
        .iter()
        .map(|(name, _)| (name, record.attribute(name).unwrap_or_default().to_owned()))
        .collect();
    let library = SdkTracerProvider::builder().with_span_processor(Discard).build().tracer("writer");
    group.bench_function("opentelemetry_span", |b| {
        b.iter(|| {
            let attributes = attributes.iter().map(|(name, value)| KeyValue::new(*name, value.clone()));
            let span = library.span_builder(record.span.name.clone()).with_kind(SpanKind::Client);
            span.with_attributes(attributes).start(&library).end();
        });
    });
    group.finish();
}

criterion_group!(benches, trace);
criterion_main!(benches);
