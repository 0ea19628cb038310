use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde_json::Value;
use sre_core::{SpanId, SpanRole, Usd};

use crate::a2a::{self, TaskUpdate};
use crate::agent_events;
use crate::bridge::LibrarySpan;
use crate::context::TraceContext;
use crate::mcp;
#[cfg(feature = "rmcp")]
use crate::record::TIMEOUT;
use crate::record::{OTHER_ERROR, ProtocolType, SpanEvent, SpanLink, SpanRecord};
use crate::shared::{Place, Position, Shared};
use crate::tracer::ProtocolTracer;

/// A call that is being made or handled, from a [`ProtocolTracer`].
///
/// [`end`](Self::end) it when the response has been read or sent. Dropping it ends it, too: as cancelled, if neither a response nor an
/// error was set, because a future was dropped or a thread panicked.
///
/// ```
/// use serde_json::json;
/// use sre_trace::{McpRequest, ProtocolTracer};
/// let tracer = ProtocolTracer::new("support");
/// let mut call = tracer.mcp_call("orders", McpRequest::tool("lookup"));
/// call.set_response(&json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Unknown tool"}}), None);
/// call.end();
/// let spans = tracer.protocol_spans();
/// assert_eq!(spans[0].span.error.as_deref(), Some("Unknown tool"));
/// assert_eq!(spans[0].attribute("error.type"), Some("-32602"));
/// ```
#[must_use = "a span that is dropped ends"]
pub struct ProtocolSpan {
    pub(crate) shared: Arc<Shared>,
    pub(crate) record: OpenRecord,
    pub(crate) context: TraceContext,
    /// The span of a library, and the record with which it was started.
    pub(crate) library_span: Option<(LibrarySpan, Box<SpanRecord>)>,
    pub(crate) arguments_hash: Option<String>,
    /// Whether the parent is in another process.
    pub(crate) is_remote: bool,
    pub(crate) has_outcome: bool,
}

impl ProtocolSpan {
    /// Returns the span's id.
    pub fn span_id(&self) -> SpanId {
        self.context.span_id
    }

    /// Returns the span's position, which travels with the request.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Returns what is recorded so far.
    pub fn record(&self) -> &SpanRecord {
        &self.record
    }

    /// Returns the time since the start, in milliseconds.
    pub fn duration_ms(&self) -> f64 {
        self.shared.clock.now().millis_since(self.record.span.start)
    }

    /// Returns the tracer whose calls begin below this span.
    pub fn tracer(&self) -> ProtocolTracer {
        #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
        self.register();
        ProtocolTracer::at(&self.shared, self.position())
    }

    /// Lets requests that name the span by its context alone begin below it, until it ends.
    #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
    pub(crate) fn register(&self) {
        self.shared.register(self.position());
    }

    /// Returns the position below the span.
    fn position(&self) -> Position {
        let library_span = self.library_span.as_ref().map(|(span, _)| span.clone());
        let task = self.record.span.task.clone();
        Position { context: self.context.clone(), place: Place::Local(library_span), task }
    }

    /// Returns the context with the span of the `opentelemetry` crate, to be made the current one; `None` unless the tracer's library is that
    /// crate.
    #[cfg(feature = "opentelemetry")]
    pub fn opentelemetry_context(&self) -> Option<&opentelemetry::Context> {
        match self.library_span.as_ref()? {
            (LibrarySpan::OpenTelemetry(context), _) => Some(context),
            #[cfg(feature = "tracing")]
            (LibrarySpan::Tracing(_), _) => None,
        }
    }

    /// Returns the span of the `tracing` crate, to be entered or to instrument a future; `None` unless the tracer's library is that crate.
    #[cfg(feature = "tracing")]
    pub fn tracing_span(&self) -> Option<&tracing::Span> {
        match self.library_span.as_ref()? {
            (LibrarySpan::Tracing(span), _) => Some(span),
            (LibrarySpan::OpenTelemetry(_), _) => None,
        }
    }

    /// Reads a response: of A2A, a task, a message or an event of a stream; of MCP, a result; either may be in a JSON-RPC response. Of it,
    /// ids, states, the number of artifacts and errors are recorded, and no contents. `cost_usd` is the cost of the whole call.
    pub fn set_response(&mut self, response: &Value, cost_usd: Option<Usd>) {
        self.has_outcome = true;
        match self.record.protocol {
            ProtocolType::A2a => {
                if let Some(result) = self.record.read_json_rpc(response) {
                    self.set_task(TaskUpdate::read(result));
                }
            }
            ProtocolType::Mcp => mcp::read_response(&mut self.record, response),
            _ => {}
        }
        if cost_usd.is_some() {
            self.record.span.cost_usd = cost_usd;
        }
    }

    /// Records the state of an A2A task, of which 128 are kept as events, such as `TASK_STATE_WORKING` or, in version 0.3, `working`. One that failed or was rejected is an
    /// error.
    pub fn set_task_state(&mut self, state: &str) {
        let state = a2a::set_state(&mut self.record, state);
        self.add_state(state);
    }

    /// Records the status of an HTTP response. From 400 on it is an error of the client's call, and from 500 on one of the server.
    pub fn set_status(&mut self, status: u16) {
        self.has_outcome = true;
        self.record.set("http.response.status_code", Some(status));
        if status >= if self.record.span.role == SpanRole::Server { 500 } else { 400 } {
            self.record.fail(status.to_string(), format!("HTTP status {status}"));
        }
    }

    /// Records that the call failed. The message must not hold a secret.
    pub fn set_error(&mut self, error: &str) {
        self.fail(OTHER_ERROR, error);
    }

    /// Relates the span to another that is not above it.
    pub fn add_link(&mut self, link: SpanLink) {
        self.record.links.push(link);
    }

    /// Records that the caller got no response in time.
    #[cfg(feature = "rmcp")]
    pub(crate) fn set_timeout(&mut self) {
        self.fail(TIMEOUT, "timed out");
    }

    /// Ends the span. Without an error, it succeeded.
    pub fn end(mut self) {
        self.has_outcome = true;
    }

    /// Records what a response or an event of a stream tells of a task: a state that is another than before is an event.
    pub(crate) fn set_task(&mut self, update: TaskUpdate<'_>) {
        update.describe(&mut self.record);
        let Some(state) = update.state else { return };
        let before = self.record.attribute(a2a::TASK_STATE).map(str::to_owned);
        let state = a2a::set_state(&mut self.record, state);
        if Some(&state) != before.as_ref() {
            self.add_state(state);
        }
    }

    pub(crate) fn fail(&mut self, kind: &str, error: &str) {
        self.has_outcome = true;
        self.record.fail(kind, error);
    }

    fn add_state(&mut self, state: String) {
        if self.record.events.len() == MAX_EVENTS {
            return;
        }
        let time = self.shared.clock.now();
        let attributes = BTreeMap::from([(a2a::TASK_STATE, state)]);
        self.record.events.push(SpanEvent { time, name: "a2a.task.state".into(), attributes });
    }
}

impl fmt::Debug for ProtocolSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolSpan")
            .field("record", self.record())
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// What is recorded so far: `None` only once the span is dropped.
pub(crate) struct OpenRecord(pub(crate) Option<Box<SpanRecord>>);

impl Deref for OpenRecord {
    type Target = SpanRecord;

    fn deref(&self) -> &SpanRecord {
        self.0.as_ref().expect("a span that has not ended")
    }
}

impl DerefMut for OpenRecord {
    fn deref_mut(&mut self) -> &mut SpanRecord {
        self.0.as_mut().expect("a span that has not ended")
    }
}

/// The events of a span, at most: the limit of OpenTelemetry.
const MAX_EVENTS: usize = 128;

impl Drop for ProtocolSpan {
    fn drop(&mut self) {
        if !self.has_outcome {
            self.fail("cancelled", if std::thread::panicking() { "panicked" } else { "cancelled" });
        }
        self.record.span.end = self.shared.clock.now().max(self.record.span.start);
        if let (Some(bridge), Some((span, started))) = (&self.shared.bridge, &self.library_span) {
            bridge.end(span, started, &self.record);
        }
        if let Some(events) = &self.shared.events {
            let emit = &mut |event| events.accept(event);
            agent_events::ended(&self.record, self.arguments_hash.as_deref(), self.is_remote, emit);
        }
        if let Some(record) = self.record.0.take() {
            self.shared.finish(record, self.context.is_sampled());
        }
    }
}
