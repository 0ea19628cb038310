use std::fmt;
use std::sync::Arc;

use crate::bridge::SpanBridge;
#[cfg(feature = "opentelemetry")]
use crate::opentelemetry_bridge::OpenTelemetryBridge;
#[cfg(feature = "tracing")]
use crate::tracing_bridge::TracingBridge;

/// A tracing library in which every span of a [`ProtocolTracer`](crate::ProtocolTracer) is a span, too.
///
/// Its sampler decides, by the parent as usual. A call begins below the span of its tracer or, if that has none, below the current span of
/// the thread.
#[derive(Clone)]
pub struct SpanLibrary(Arc<dyn SpanBridge>);

impl SpanLibrary {
    /// Starts spans on a tracer of the `opentelemetry` crate.
    ///
    /// ```
    /// use sre_trace::{McpRequest, ProtocolTracer, SpanLibrary, TracerOptions};
    /// let library = SpanLibrary::opentelemetry(opentelemetry::global::tracer("planner"));
    /// let options = TracerOptions { library: Some(library), ..TracerOptions::default() };
    /// let tracer = ProtocolTracer::with_options("planner", options);
    /// tracer.mcp_call("web", McpRequest::tool("search")).end();
    /// ```
    #[cfg(feature = "opentelemetry")]
    pub fn opentelemetry<T>(tracer: T) -> Self
    where
        T: opentelemetry::trace::Tracer + Send + Sync + 'static,
        T::Span: Send + Sync + 'static,
    {
        Self(Arc::new(OpenTelemetryBridge(tracer)))
    }

    /// Starts spans of the `tracing` crate, with the target `sre_trace` and the level `INFO`. With a layer of `tracing-opentelemetry`, they
    /// have its ids and all attributes; without, the fields `agent`, `peer`, `trace_id`, `span_id` and `error`.
    ///
    /// Such a span closes when the [`ProtocolSpan`](crate::ProtocolSpan) and the tracers below it are dropped.
    ///
    /// ```
    /// use sre_trace::{McpRequest, ProtocolTracer, SpanLibrary, TracerOptions};
    /// let options = TracerOptions { library: Some(SpanLibrary::tracing()), ..TracerOptions::default() };
    /// let tracer = ProtocolTracer::with_options("planner", options);
    /// let call = tracer.mcp_call("web", McpRequest::tool("search"));
    /// call.tracing_span().unwrap().in_scope(|| tracing::info!("a line within the call"));
    /// call.end();
    /// ```
    #[cfg(feature = "tracing")]
    pub fn tracing() -> Self {
        Self(Arc::new(TracingBridge))
    }

    pub(crate) fn into_bridge(self) -> Arc<dyn SpanBridge> {
        self.0
    }
}

impl fmt::Debug for SpanLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanLibrary").finish_non_exhaustive()
    }
}
