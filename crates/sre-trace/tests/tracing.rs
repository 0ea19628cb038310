//! Spans of a tracer are those of the `tracing` crate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use serde_json::json;
use sre_trace::{A2aRequest, AttributeValue, McpRequest, ProtocolTracer, SpanLibrary, TracerOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

#[derive(Clone, Debug, Default)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Held by each test: a subscriber that comes or goes in one thread may hide a span from that of another.
static SUBSCRIBER: Mutex<()> = Mutex::new(());

fn tracer() -> ProtocolTracer {
    let options = TracerOptions { library: Some(SpanLibrary::tracing()), ..TracerOptions::default() };
    ProtocolTracer::with_options("support", options)
}

#[test]
fn with_a_layer_of_opentelemetry_they_are_in_its_trace() {
    let _alone = SUBSCRIBER.lock();
    let exported = Exported::default();
    let library = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build().tracer("test");
    with_default(Registry::default().with(tracing_opentelemetry::layer().with_tracer(library)), || {
        let tracer = tracer();
        let caller = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
        let mut request = tracer.receive_a2a("user", caller, A2aRequest::default());
        let mut call = request.tracer().mcp_call("orders", McpRequest::tool("lookup"));
        call.tracing_span().unwrap().in_scope(|| drop(tracing::info_span!("parse")));
        call.set_response(&json!({"isError": true}), None);
        call.end();
        request.set_response(&json!({"task": {"id": "t-1", "status": {"state": "TASK_STATE_COMPLETED"}}}), None);
        request.end();
        // A span of the program, outside.
        tracing::info_span!("job").in_scope(|| tracer.mcp_call("orders", McpRequest::tool("lookup")).end());

        let (theirs, ours) = (exported.0.lock().unwrap(), tracer.protocol_spans());
        let by_id: BTreeMap<String, &SpanData> =
            theirs.iter().map(|span| (span.span_context.span_id().to_string(), span)).collect();
        assert_eq!((by_id.len(), ours.len()), (5, 3));
        for ours in &ours {
            let theirs = by_id[&ours.span.span_id.to_string()];
            assert_eq!(theirs.name, ours.span.name);
            assert_eq!(theirs.span_context.trace_id().to_string(), ours.span.trace_id.to_string());
            assert_eq!(theirs.parent_span_id.to_string(), ours.span.parent_span_id.unwrap().to_string());
            for (key, value) in ours.attributes.iter() {
                let value = match value {
                    AttributeValue::Text(text) => text.to_owned(),
                    AttributeValue::Number(number) => number.to_string(),
                    other => panic!("{other:?}"),
                };
                let found: Vec<_> = theirs.attributes.iter().filter(|found| found.key.as_str() == key).collect();
                assert_eq!(found.len(), 1, "{key}: {found:?}");
                assert_eq!(found[0].value.as_str(), value);
            }
        }
        let [call, request, alone] = [0, 1, 2].map(|number| by_id[&ours[number].span.span_id.to_string()]);
        assert_eq!((&call.span_kind, &request.span_kind), (&SpanKind::Client, &SpanKind::Server));
        assert_eq!(request.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(request.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(request.events.len(), 1, "{:?}", request.events);
        assert!(matches!(call.status, Status::Error { .. }), "{:?}", call.status);
        let named = |name: &str| theirs.iter().find(|span| span.name == name).unwrap();
        assert_eq!(named("parse").parent_span_id, call.span_context.span_id());
        assert_eq!(alone.parent_span_id, named("job").span_context.span_id());
    });
}

/// Keeps the fields of each span.
#[derive(Clone, Default)]
struct Fields(Arc<Mutex<BTreeMap<u64, BTreeMap<&'static str, String>>>>);

struct Visitor<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Fields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _context: Context<'_, S>) {
        attributes.record(&mut Visitor(self.0.lock().unwrap().entry(id.into_u64()).or_default()));
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _context: Context<'_, S>) {
        record.record(&mut Visitor(self.0.lock().unwrap().entry(id.into_u64()).or_default()));
    }
}

#[test]
fn without_one_logs_have_their_place_and_error() {
    let _alone = SUBSCRIBER.lock();
    let fields = Fields::default();
    with_default(Registry::default().with(fields.clone()), || {
        let tracer = tracer();
        let mut call = tracer.mcp_call("orders", McpRequest::tool("lookup"));
        call.set_error("no route");
        let (trace_id, span_id) = (call.context().trace_id.to_string(), call.span_id().to_string());
        call.end();
        let fields = fields.0.lock().unwrap();
        let expected = [
            ("agent", "support"),
            ("error", "no route"),
            ("otel.kind", "client"),
            ("otel.name", "tools/call lookup"),
            ("peer", "orders"),
            ("span_id", &span_id),
            ("trace_id", &trace_id),
        ];
        let expected = expected.map(|(name, value)| (name, value.to_owned())).into();
        assert_eq!(fields.values().collect::<Vec<_>>(), [&expected]);
    });
}

#[test]
fn without_a_subscriber_the_tracer_keeps_its_spans() {
    let _alone = SUBSCRIBER.lock();
    let tracer = tracer();
    let request = tracer.receive_mcp("user", [("traceparent", "none")], McpRequest::tool("lookup"));
    request.tracer().http_call("https://example.com", "GET", "/orders").end();
    request.end();
    let spans = tracer.protocol_spans();
    assert_eq!(spans[0].span.parent_span_id, Some(spans[1].span.span_id));
    assert_eq!(spans[0].span.trace_id, spans[1].span.trace_id);
}
