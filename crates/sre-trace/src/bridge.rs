use sre_core::SpanId;

use crate::context::TraceContext;
use crate::record::SpanRecord;

/// A span of a tracing library that stands for one of a tracer.
#[derive(Clone, Debug)]
pub(crate) enum LibrarySpan {
    /// No library is built in.
    #[cfg(not(feature = "opentelemetry"))]
    None,
    #[cfg(feature = "opentelemetry")]
    OpenTelemetry(opentelemetry::Context),
    #[cfg(feature = "tracing")]
    Tracing(tracing::Span),
}

/// Where a span begins.
#[derive(Clone, Copy)]
pub(crate) enum Parent<'a> {
    /// No span of a tracer: in the library's current span, or as a root.
    Current,
    /// In another process.
    Remote(&'a TraceContext),
    /// In this process.
    Local(&'a LibrarySpan),
}

/// A span that a library has started.
pub(crate) struct Started {
    pub(crate) span: LibrarySpan,
    /// Its place, without baggage; `None` if the library does not record.
    pub(crate) context: Option<TraceContext>,
    /// The library's current span, in which it was started.
    pub(crate) current: Option<SpanId>,
}

/// Starts and ends the spans of a tracer in a tracing library.
pub(crate) trait SpanBridge: Send + Sync {
    fn start(&self, record: &SpanRecord, parent: Parent<'_>) -> Started;

    /// Takes the final place of a span that was started.
    fn set_place(&self, _span: &LibrarySpan, _context: &TraceContext) {}

    /// Adds what the record has more than `started`, and ends the span.
    fn end(&self, span: &LibrarySpan, started: &SpanRecord, record: &SpanRecord);
}
