//! Runs the test suite of the W3C's working group (`w3c/`, unchanged) against the example service, and against spans of OpenTelemetry.

#[path = "../examples/trace_service.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_service;

use std::net::TcpListener;
use std::path::Path;

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use sre_testkit::outside;
use sre_trace::{Propagator, TraceContext};

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/w3c/test");
const TESTS: usize = 41;

async fn run_against(headers_of_calls: trace_service::HeadersOfCalls) {
    let Some(mut python) = outside::python_with("aiohttp", "the W3C test suite") else { return };
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/test", service.local_addr().unwrap());
    tokio::spawn(trace_service::serve(service, headers_of_calls));
    let harness = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    python.args(["-B", "test.py", &url]).current_dir(Path::new(SUITE)).envs([
        ("SPEC_LEVEL", "2"),
        ("STRICT_LEVEL", "2"),
        ("HARNESS_PORT", &harness.to_string()),
    ]);
    let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains(&format!("Ran {TESTS} tests")) && printed.trim_end().ends_with("OK"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_the_working_group_passes() {
    run_against(trace_service::headers_of_calls).await;
}

struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }

    fn get_all(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.0.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_with_spans_of_opentelemetry() {
    run_against(|received, calls| {
        let tracer = SdkTracerProvider::builder().build().tracer("service");
        let caller = Propagator::default().extract(&Received(received));
        let request = caller.with_span(tracer.start_with_context("request", &caller));
        let headers = |_| {
            let call = request.with_span(tracer.start_with_context("call", &request));
            let mut headers = std::collections::HashMap::new();
            Propagator::default().inject_context(&call, &mut headers);
            headers.into_iter().collect()
        };
        (0..calls).map(headers).collect()
    })
    .await;
}

#[test]
fn baggage_and_an_invalid_context_go_through_opentelemetry() {
    let headers = HeaderMap::from_iter([
        ("baggage".parse().unwrap(), "tenant=a%20b;p=1,plan=pro".parse().unwrap()),
        ("traceparent".parse().unwrap(), "00-0".parse().unwrap()),
    ]);
    let context = Propagator::default().extract_with_context(&opentelemetry::Context::new(), &Received(&headers));
    assert!(!context.span().span_context().is_valid());
    let mut sent = std::collections::HashMap::new();
    Propagator::default().inject_context(&context, &mut sent);
    assert_eq!((sent.len(), &*sent["baggage"]), (1, "plan=pro,tenant=a%20b;p=1"));
    let mut root = TraceContext::root();
    root.tracestate = "a=1".parse().unwrap();
    let span = opentelemetry::trace::SpanContext::from(&root);
    assert_eq!(TraceContext::from_span_context(&span), Some(root));
}
