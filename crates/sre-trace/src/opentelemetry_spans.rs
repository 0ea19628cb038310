use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceContextExt, TraceState, Tracer,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value as OtelValue};
use serde_json::Value;
use sre_core::{SpanId, SpanRole, Timestamp};

use crate::bridge::{LibrarySpan, Parent, SpanBridge, Started};
use crate::context::TraceContext;
use crate::record::{SpanEvent, SpanLink, SpanRecord};

/// Starts the spans of a [`ProtocolTracer`](crate::ProtocolTracer) on a tracer of the `opentelemetry` crate.
///
/// Its sampler decides, by the parent as usual. A call begins below the span of its tracer or, if that has none, below the
/// current span of the thread.
///
/// ```
/// use sre_trace::{McpRequest, OpenTelemetrySpans, ProtocolTracer, TracerOptions};
/// let tracer = opentelemetry::global::tracer("planner");
/// let options = TracerOptions { opentelemetry: Some(OpenTelemetrySpans::new(tracer)), ..TracerOptions::default() };
/// let tracer = ProtocolTracer::with_options("planner", options);
/// tracer.mcp_call("web", McpRequest::tool("search")).end();
/// ```
#[derive(Clone)]
pub struct OpenTelemetrySpans(Arc<dyn SpanBridge>);

impl OpenTelemetrySpans {
    /// Creates it for a tracer.
    pub fn new<T>(tracer: T) -> Self
    where
        T: Tracer + Send + Sync + 'static,
        T::Span: Send + Sync + 'static,
    {
        Self(Arc::new(Bridge(tracer)))
    }

    pub(crate) fn into_bridge(self) -> Arc<dyn SpanBridge> {
        self.0
    }
}

impl fmt::Debug for OpenTelemetrySpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTelemetrySpans").finish_non_exhaustive()
    }
}

struct Bridge<T>(T);

impl<T> SpanBridge for Bridge<T>
where
    T: Tracer + Send + Sync,
    T::Span: Send + Sync + 'static,
{
    fn start(&self, record: &SpanRecord, parent: Parent<'_>) -> Started {
        let parent = match parent {
            Parent::Current => Context::current(),
            Parent::Remote(context) => Context::current().with_remote_span_context(SpanContext::from(context)),
            Parent::Local(span) => span.clone(),
        };
        let above = parent.span().span_context().span_id();
        let builder = SpanBuilder::from_name(record.span.name.clone())
            .with_kind(kind(record.span.role))
            .with_start_time(system_time(record.span.start))
            .with_attributes(record.attributes.iter().map(|(key, value)| attribute(key, value)));
        let span = self.0.build_with_context(builder, &parent);
        let span = parent.with_span(span);
        let context = TraceContext::from_span_context(span.span().span_context());
        // A tracer that does nothing passes the parent on.
        let context = context.filter(|context| context.span_id.to_bytes() != above.to_bytes());
        Started { context, current: SpanId::from_bytes(above.to_bytes()), span }
    }

    fn end(&self, span: &LibrarySpan, started: &SpanRecord, record: &SpanRecord) {
        let span = span.span();
        // An attribute that is set twice may be exported twice.
        let is_new = |(key, value): &(&&'static str, &Value)| started.attributes.get(*key) != Some(*value);
        for (key, value) in record.attributes.iter().filter(is_new) {
            span.set_attribute(attribute(key, value));
        }
        for SpanEvent { time, name, attributes } in &record.events {
            let attributes = attributes.iter().map(|(key, value)| KeyValue::new(*key, value.clone())).collect();
            span.add_event_with_timestamp(name.clone(), system_time(*time), attributes);
        }
        for SpanLink { trace_id, span_id, relationship } in &record.links {
            let linked = SpanContext::new(
                opentelemetry::TraceId::from_bytes(trace_id.to_bytes()),
                OtelSpanId::from_bytes(span_id.to_bytes()),
                Default::default(),
                true,
                TraceState::NONE,
            );
            span.add_link(linked, vec![KeyValue::new("sre.link.relationship", relationship.clone())]);
        }
        if let Some(error) = &record.span.error {
            span.set_status(Status::error(error.clone()));
        }
        span.end_with_timestamp(system_time(record.span.end));
    }
}

const fn kind(role: SpanRole) -> SpanKind {
    match role {
        SpanRole::Client => SpanKind::Client,
        SpanRole::Server => SpanKind::Server,
        SpanRole::Producer => SpanKind::Producer,
        SpanRole::Consumer => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

fn attribute(key: &'static str, value: &Value) -> KeyValue {
    let value = match value {
        Value::String(text) => OtelValue::from(text.clone()),
        Value::Bool(flag) => OtelValue::from(*flag),
        Value::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap_or(0.0).into(), OtelValue::from),
        Value::Array(list) => {
            let texts = list.iter().filter_map(Value::as_str).map(|text| StringValue::from(text.to_owned()));
            OtelValue::Array(Array::String(texts.collect()))
        }
        other => OtelValue::from(other.to_string()),
    };
    KeyValue::new(key, value)
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(time.as_nanos().max(0).unsigned_abs())
}
