//! Spans of a tracer are those of the `opentelemetry` crate.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Array, Context, KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use serde_json::json;
use sre_trace::{A2aRequest, McpRequest, ProtocolTracer, SpanLibrary, SpanLink, TracerOptions};

#[derive(Clone, Debug, Default)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Exported {
    fn tracer(&self) -> (ProtocolTracer, opentelemetry_sdk::trace::SdkTracer) {
        let provider = SdkTracerProvider::builder().with_simple_exporter(self.clone()).build();
        let library = provider.tracer("test");
        let spans = Some(SpanLibrary::opentelemetry(library.clone()));
        let options = TracerOptions { library: spans, ..TracerOptions::default() };
        (ProtocolTracer::with_options("support", options), library)
    }

    fn spans(&self) -> Vec<SpanData> {
        self.0.lock().unwrap().clone()
    }
}

fn caller(flags: &str) -> [(&'static str, String); 2] {
    let traceparent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    [("traceparent", traceparent), ("tracestate", "a=1".to_owned())]
}

#[test]
fn both_have_the_same_ids_parents_and_attributes() {
    let exported = Exported::default();
    let (tracer, _) = exported.tracer();
    let mut request =
        tracer.receive_a2a("user", caller("03"), A2aRequest { message_id: Some("m-1"), ..Default::default() });
    let mut call = request.tracer().mcp_call("orders", McpRequest::tool("lookup"));
    assert!(tracer.inject(&call)[0].1.ends_with("-03"), "{:?}", tracer.inject(&call));
    call.set_response(&json!({"isError": true}), None);
    call.end();
    request.set_response(&json!({"task": {"id": "t-1", "status": {"state": "TASK_STATE_COMPLETED"}}}), None);
    request.end();

    let (theirs, ours) = (exported.spans(), tracer.protocol_spans());
    assert_eq!((theirs.len(), ours.len()), (2, 2));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.span_context.trace_id().to_string(), ours.span.trace_id.to_string());
        assert_eq!(theirs.span_context.span_id().to_string(), ours.span.span_id.to_string());
        assert_eq!(theirs.parent_span_id.to_string(), ours.span.parent_span_id.unwrap().to_string());
        assert_eq!(theirs.name, ours.span.name);
        let keys: Vec<&str> = theirs.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "{keys:?}");
        assert!(
            ours.attributes.iter().all(|(key, _)| keys.contains(&key)) && keys.len() == ours.attributes.iter().len()
        );
        for attribute in &theirs.attributes {
            assert_eq!(attribute.value.as_str(), ours.attribute(attribute.key.as_str()).unwrap());
        }
    }
    let [call, request] = &*theirs else { panic!() };
    assert_eq!((&call.span_kind, &request.span_kind), (&SpanKind::Client, &SpanKind::Server));
    assert_eq!((call.parent_span_is_remote, request.parent_span_is_remote), (false, true));
    assert_eq!(call.status, Status::error("the tool returned an error"));
    assert_eq!((request.events.len(), &*request.events[0].name), (1, "a2a.task.state"));
    assert_eq!(request.span_context.trace_state().header(), "a=1");
}

#[test]
fn several_texts_are_an_array() {
    let exported = Exported::default();
    let (tracer, _) = exported.tracer();
    tracer.a2a_call("writer", A2aRequest { reference_task_ids: vec!["t-7", "t-8"], ..Default::default() }).end();
    let array = Value::Array(Array::String(vec!["t-7".into(), "t-8".into()]));
    assert!(exported.spans()[0].attributes.contains(&KeyValue::new("a2a.message.reference_task_ids", array)));
}

#[test]
fn a_link_has_its_relation_and_attributes() {
    let exported = Exported::default();
    let (tracer, _) = exported.tracer();
    let (first, mut second) = (tracer.task("draft"), tracer.task("review"));
    second.add_link(SpanLink::new(first.context().trace_id, first.span_id()).with_attribute("reason", "retry"));
    second.end();
    let spans = exported.spans();
    let [link] = &*spans[0].links.links else { panic!("{spans:?}") };
    assert_eq!(link.span_context.span_id().to_string(), first.span_id().to_string());
    let expected = [("sre.link.relationship", "follows_from"), ("reason", "retry")];
    assert_eq!(link.attributes, expected.map(|(key, value)| KeyValue::new(key, value)));
}

#[test]
fn sampling_follows_the_parent() {
    let exported = Exported::default();
    let (tracer, _) = exported.tracer();
    let request = tracer.receive_a2a("user", caller("00"), A2aRequest::default());
    let call = request.tracer().mcp_call("orders", McpRequest::tool("lookup"));
    assert!(tracer.inject(&call)[0].1.ends_with("-00"));
    call.end();
    request.end();
    assert_eq!((exported.spans().len(), tracer.protocol_spans().len()), (0, 0));
}

#[test]
fn a_call_begins_in_the_current_span_of_the_program() {
    let exported = Exported::default();
    let (tracer, library) = exported.tracer();
    let outer = library.start("handle");
    let context = Context::current_with_span(outer);
    let call = {
        let _current = context.clone().attach();
        tracer.mcp_call("orders", McpRequest::tool("lookup"))
    };
    let above = context.span().span_context().clone();
    assert_eq!(call.context().trace_id.to_string(), above.trace_id().to_string());
    assert_eq!(call.context().parent_span_id.unwrap().to_string(), above.span_id().to_string());
    // Spans of other libraries begin below the call.
    let inner = library.start_with_context("POST", call.opentelemetry_context().unwrap());
    drop(inner);
    call.end();
    let spans = exported.spans();
    assert_eq!(spans[0].parent_span_id, spans[1].span_context.span_id());
}

#[test]
fn a_tracer_that_does_nothing_leaves_the_ids_to_ours() {
    let spans = Some(SpanLibrary::opentelemetry(opentelemetry::trace::noop::NoopTracer::new()));
    let tracer = ProtocolTracer::with_options("support", TracerOptions { library: spans, ..Default::default() });
    let request = tracer.receive_a2a("user", caller("01"), A2aRequest::default());
    let call = request.tracer().mcp_call("orders", McpRequest::tool("lookup"));
    assert_eq!(call.context().parent_span_id, Some(request.span_id()));
    assert_eq!(request.context().parent_span_id.unwrap().to_string(), "b7ad6b7169203331");
    call.end();
    request.end();
    assert_eq!(tracer.report().traces[0].nodes.len(), 2);
}
