use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceContextExt, TraceState, Tracer,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use sre_core::{SpanId, SpanRole, Timestamp};

use crate::attributes::AttributeValue;
use crate::bridge::{LibrarySpan, Parent, SpanBridge, Started};
use crate::context::TraceContext;
use crate::record::{SpanEvent, SpanLink, SpanRecord};

/// Starts spans on a tracer of the `opentelemetry` crate.
pub(crate) struct OpenTelemetryBridge<T>(pub(crate) T);

impl<T> SpanBridge for OpenTelemetryBridge<T>
where
    T: Tracer + Send + Sync,
    T::Span: Send + Sync + 'static,
{
    fn start(&self, record: &SpanRecord, parent: Parent<'_>) -> Started {
        let parent = match parent {
            Parent::Local(LibrarySpan::OpenTelemetry(span)) => span.clone(),
            Parent::Remote(context) => Context::current().with_remote_span_context(SpanContext::from(context)),
            _ => Context::current(),
        };
        let above = parent.span().span_context().span_id();
        let builder = SpanBuilder::from_name(record.span.name.clone())
            .with_kind(kind(record.span.role))
            .with_start_time(system_time(record.span.start))
            .with_attributes(record.attributes.iter().map(attribute));
        let span = self.0.build_with_context(builder, &parent);
        let span = parent.with_span(span);
        let context = TraceContext::from_span_context(span.span().span_context());
        // A tracer that does nothing passes the parent on.
        let context = context.filter(|context| context.span_id.to_bytes() != above.to_bytes());
        Started { context, current: SpanId::from_bytes(above.to_bytes()), span: LibrarySpan::OpenTelemetry(span) }
    }

    fn end(&self, span: &LibrarySpan, started: &SpanRecord, record: &SpanRecord) {
        #[cfg_attr(
            not(feature = "tracing"),
            expect(clippy::infallible_destructuring_match, reason = "each library is a feature")
        )]
        let context = match span {
            LibrarySpan::OpenTelemetry(context) => context,
            #[cfg(feature = "tracing")]
            LibrarySpan::Tracing(_) => return,
        };
        let span = context.span();
        for attribute in attributes_since(started, record) {
            span.set_attribute(attribute);
        }
        for event in &record.events {
            span.add_event_with_timestamp(event.name.clone(), system_time(event.time), event_attributes(event));
        }
        for link in &record.links {
            let (linked, attributes) = linked(link);
            span.add_link(linked, attributes);
        }
        if let Some(error) = &record.span.error {
            span.set_status(Status::error(error.clone()));
        }
        span.end_with_timestamp(system_time(record.span.end));
    }
}

/// Returns the attributes of a record that it did not have when it started: one that is set twice may be exported twice.
pub(crate) fn attributes_since(started: &SpanRecord, record: &SpanRecord) -> Vec<KeyValue> {
    let is_new = |(key, value): &(&'static str, AttributeValue<'_>)| started.attributes.get(key) != Some(*value);
    record.attributes.iter().filter(is_new).map(attribute).collect()
}

pub(crate) fn event_attributes(event: &SpanEvent) -> Vec<KeyValue> {
    event.attributes.iter().map(|(key, value)| KeyValue::new(*key, value.clone())).collect()
}

pub(crate) fn linked(link: &SpanLink) -> (SpanContext, Vec<KeyValue>) {
    let SpanLink { trace_id, span_id, relationship, attributes } = link;
    let linked = SpanContext::new(
        opentelemetry::TraceId::from_bytes(trace_id.to_bytes()),
        OtelSpanId::from_bytes(span_id.to_bytes()),
        Default::default(),
        true,
        TraceState::NONE,
    );
    let relationship = KeyValue::new("sre.link.relationship", relationship.clone());
    let attributes = attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    (linked, std::iter::once(relationship).chain(attributes).collect())
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

pub(crate) fn attribute((key, value): (&'static str, AttributeValue<'_>)) -> KeyValue {
    match value {
        AttributeValue::Text(text) => KeyValue::new(key, text.to_owned()),
        AttributeValue::Number(number) => KeyValue::new(key, number.cast_signed()),
        AttributeValue::Texts(texts) => {
            let texts = texts.iter().cloned().map(StringValue::from).collect();
            KeyValue::new(key, Value::Array(Array::String(texts)))
        }
    }
}

pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(time.as_nanos().max(0).unsigned_abs())
}
