use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use sre_core::SpanId;
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::bridge::{LibrarySpan, Parent, SpanBridge, Started};
use crate::context::TraceContext;
use crate::opentelemetry_bridge::{attribute, attributes_since, event_attributes, linked, system_time};
use crate::record::SpanRecord;

/// Starts spans of the `tracing` crate.
pub(crate) struct TracingBridge;

impl SpanBridge for TracingBridge {
    fn start(&self, record: &SpanRecord, parent: Parent<'_>) -> Started {
        let outer = match parent {
            Parent::Local(LibrarySpan::Tracing(span)) => span.clone(),
            _ => Span::current(),
        };
        let above = match parent {
            Parent::Remote(context) => Context::new().with_remote_span_context(SpanContext::from(context)),
            _ => outer.context(),
        };
        let span = tracing::info_span!(
            target: "sre_trace",
            parent: outer.id(),
            "call",
            otel.name = %record.span.name,
            otel.kind = record.span.role.as_str(),
            agent = record.span.agent.as_deref(),
            peer = record.peer(),
            trace_id = Empty,
            span_id = Empty,
            error = Empty,
        );
        // Without a layer of `tracing-opentelemetry`, there is no parent either.
        let _ = span.set_parent(above.clone());
        for attribute in record.attributes.iter().map(attribute) {
            span.set_attribute(attribute.key, attribute.value);
        }
        let above = above.span().span_context().span_id();
        let context = TraceContext::from_span_context(span.context().span().span_context());
        let context = context.filter(|context| context.span_id.to_bytes() != above.to_bytes());
        Started { context, current: SpanId::from_bytes(above.to_bytes()), span: LibrarySpan::Tracing(span) }
    }

    fn set_place(&self, span: &LibrarySpan, context: &TraceContext) {
        if let LibrarySpan::Tracing(span) = span {
            span.record("trace_id", display(context.trace_id)).record("span_id", display(context.span_id));
        }
    }

    fn end(&self, span: &LibrarySpan, started: &SpanRecord, record: &SpanRecord) {
        let LibrarySpan::Tracing(span) = span else { return };
        for attribute in attributes_since(started, record) {
            span.set_attribute(attribute.key, attribute.value);
        }
        for event in &record.events {
            span.add_event_with_timestamp(event.name.clone(), system_time(event.time), event_attributes(event));
        }
        for link in &record.links {
            let (linked, attributes) = linked(link);
            span.add_link_with_attributes(linked, attributes);
        }
        if let Some(error) = &record.span.error {
            span.record("error", error);
            span.set_status(Status::error(error.clone()));
        }
    }
}
