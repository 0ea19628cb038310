use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sre_core::adapter::EventSink;
use sre_core::{Clock, Span, SpanId, SpanRole, SystemClock, TraceId};

use crate::a2a::{self, A2aRequest, TaskUpdate};
use crate::agent_events;
use crate::bridge::{Parent, Started};
use crate::context::{Headers, TraceContext};
use crate::mcp::McpRequest;
use crate::meta::meta_headers;
use crate::protocol_span::{OpenRecord, ProtocolSpan};
use crate::record::{AGENT_NAME, OPERATION_NAME, PEER_NAME, ProtocolType, SpanRecord};
use crate::report::TracingReport;
use crate::shared::{Place, Position, Shared, State};
use crate::span_buffer::SpanBuffer;
use crate::span_library::SpanLibrary;

/// Traces an agent's calls of other agents (A2A), tools (MCP) and services (HTTP), and the calls that it receives.
///
/// A tracer is a position in a trace: its calls begin below it. [`ProtocolSpan::tracer`] returns the one below a span. Copies and tracers
/// below share what they keep: the spans that have ended, for [`report`](Self::report).
///
/// ```
/// use serde_json::json;
/// use sre_trace::{A2aRequest, McpRequest, ProtocolTracer};
///
/// // The planner asks the writer …
/// let planner = ProtocolTracer::new("planner");
/// let mut ask = planner.a2a_call("writer", A2aRequest::task("summarize"));
/// let headers = planner.inject(&ask);
///
/// // … which, in another process, calls a tool.
/// let writer = ProtocolTracer::new("writer");
/// let request = writer.receive_a2a("planner", headers, A2aRequest::task("summarize"));
/// let mut search = request.tracer().mcp_call("web", McpRequest::tool("search"));
/// search.set_response(&json!({"isError": true, "content": []}), None);
/// search.end();
/// request.end();
///
/// ask.set_response(&json!({"task": {"id": "t-1", "status": {"state": "TASK_STATE_COMPLETED"}}}), None);
/// ask.end();
/// assert_eq!((planner.report().a2a_calls(), writer.report().error_count()), (1, 1));
/// println!("{}", writer.report());
/// ```
#[derive(Clone)]
pub struct ProtocolTracer {
    shared: Arc<Shared>,
    position: Position,
}

/// The settings of a [`ProtocolTracer`].
///
/// Later versions may have more fields: end with `..TracerOptions::default()`.
#[derive(Clone)]
pub struct TracerOptions {
    /// The span below which calls begin, such as that of a request that another library has received. Without it, a new trace begins.
    pub parent_context: Option<TraceContext>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Receives the calls as agent events, so that objectives, breakers and budgets count them.
    pub events: Option<Arc<dyn EventSink>>,
    /// The spans that are kept for the report, at most; the oldest give way.
    pub max_spans: usize,
    /// The memory that they take, at most, in bytes.
    pub max_bytes: usize,
    /// The tracing library in which every span is started, too. Needs a feature: `opentelemetry` or `tracing`.
    pub library: Option<SpanLibrary>,
}

impl Default for TracerOptions {
    fn default() -> Self {
        Self {
            parent_context: None,
            clock: Arc::new(SystemClock),
            events: None,
            max_spans: 10_000,
            max_bytes: 16 << 20,
            library: None,
        }
    }
}

impl ProtocolTracer {
    /// Creates a tracer for an agent, at the top of a new trace.
    pub fn new(agent_id: impl Into<String>) -> Self {
        Self::with_options(agent_id, TracerOptions::default())
    }

    /// Creates a tracer for an agent.
    pub fn with_options(agent_id: impl Into<String>, options: TracerOptions) -> Self {
        let place = if options.parent_context.is_some() { Place::Remote } else { Place::Top };
        let context = options.parent_context.unwrap_or_else(TraceContext::root);
        let shared = Shared {
            agent_id: agent_id.into().into(),
            clock: options.clock,
            events: options.events,
            bridge: options.library.map(SpanLibrary::into_bridge),
            state: Mutex::new(State::new(SpanBuffer::new(options.max_spans, options.max_bytes))),
        };
        Self { shared: Arc::new(shared), position: Position { context, place, task: None } }
    }

    /// Returns the agent.
    pub fn agent_id(&self) -> &str {
        &self.shared.agent_id
    }

    /// Returns the trace in which calls begin.
    pub fn trace_id(&self) -> TraceId {
        self.position.context.trace_id
    }

    /// Returns the position below which calls begin.
    pub fn context(&self) -> &TraceContext {
        &self.position.context
    }

    /// Starts a task of the agent itself, whose calls are made by the [`tracer`](ProtocolSpan::tracer) of its span.
    pub fn task(&self, name: &str) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Internal);
        record.span.name = format!("invoke_agent {}", self.agent_id());
        record.set(OPERATION_NAME, Some("invoke_agent"));
        record.set(AGENT_NAME, Some(self.agent_id()));
        record.set("sre.task.name", Some(name));
        self.start(record, &self.position, None)
    }

    /// Starts a call of another agent.
    pub fn a2a_call(&self, target_agent: &str, request: A2aRequest<'_>) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Client);
        request.describe(&mut record);
        a2a::set_agent(&mut record, target_agent);
        record.set_server(request.target_url);
        self.start(record, &self.position, None)
    }

    /// Starts a call of an MCP server.
    pub fn mcp_call(&self, server_id: &str, request: McpRequest<'_>) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Client);
        request.describe(&mut record);
        record.set(PEER_NAME, Some(server_id));
        record.set_server(request.server_url);
        self.start(record, &self.position, self.arguments_hash(&request))
    }

    /// Starts an HTTP request to `target`, such as `https://example.com`.
    pub fn http_call(&self, target: &str, method: &str, path: &str) -> ProtocolSpan {
        self.named_http_call(method.to_owned(), target, method, path)
    }

    pub(crate) fn named_http_call(&self, name: String, target: &str, method: &str, path: &str) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Client);
        record.protocol = ProtocolType::Http;
        record.span.name = name;
        record.set("http.request.method", Some(method));
        record.set_server(Some(&format!("{}{path}", target.trim_end_matches('/'))));
        record.set("url.full", record.peer_url.clone());
        self.start(record, &self.position, None)
    }

    /// Starts the handling of a request from another agent. Its caller's context is in the headers of the HTTP request or, by
    /// [`meta_headers`](crate::meta_headers), in the metadata of the message. Without one, a new trace begins.
    pub fn receive_a2a<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        caller_agent: &str,
        headers: impl IntoIterator<Item = (N, V)>,
        request: A2aRequest<'_>,
    ) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Server);
        request.describe(&mut record);
        a2a::set_agent(&mut record, self.agent_id());
        self.receive(record, caller_agent, Headers::read(headers), None)
    }

    /// Starts the handling of a push notification, which an agent sends when a task has changed. Its sender's context is in the headers of the
    /// HTTP request, or else in the metadata of the event. Without one, a new trace begins.
    ///
    /// ```
    /// use serde_json::json;
    /// use sre_trace::ProtocolTracer;
    /// let body = json!({"statusUpdate": {"taskId": "t-1", "status": {"state": "TASK_STATE_COMPLETED"}}});
    /// let tracer = ProtocolTracer::new("planner");
    /// let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    /// tracer.receive_push_notification("writer", headers, &body).end();
    /// assert_eq!(tracer.protocol_spans()[0].a2a_task_id(), Some("t-1"));
    /// ```
    pub fn receive_push_notification<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        sending_agent: &str,
        headers: impl IntoIterator<Item = (N, V)>,
        body: &Value,
    ) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Server);
        A2aRequest::from_push_notification(body).describe(&mut record);
        a2a::set_agent(&mut record, self.agent_id());
        let headers = Headers::read(headers);
        let metadata = a2a::event(body)["metadata"].as_object().filter(|_| !headers.has_context());
        let headers = metadata.map_or(headers, |metadata| Headers::read(meta_headers(metadata)));
        let mut span = self.receive(record, sending_agent, headers, None);
        span.set_task(TaskUpdate::read(body));
        span
    }

    /// Starts the handling of an MCP request. Its caller's context is in `params._meta`, by [`meta_headers`](crate::meta_headers), or else
    /// in the headers of the HTTP request. Without one, a new trace begins.
    pub fn receive_mcp<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        caller_id: &str,
        headers: impl IntoIterator<Item = (N, V)>,
        request: McpRequest<'_>,
    ) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Server);
        request.describe(&mut record);
        self.receive(record, caller_id, Headers::read(headers), self.arguments_hash(&request))
    }

    /// Starts the handling of an HTTP request. Without a caller's context in its headers, a new trace begins.
    pub fn receive_http<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        headers: impl IntoIterator<Item = (N, V)>,
        method: &str,
        path: &str,
    ) -> ProtocolSpan {
        self.receive_named_http(method.to_owned(), headers, method, path)
    }

    pub(crate) fn receive_named_http<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        name: String,
        headers: impl IntoIterator<Item = (N, V)>,
        method: &str,
        path: &str,
    ) -> ProtocolSpan {
        let mut record = self.record(SpanRole::Server);
        record.protocol = ProtocolType::Http;
        record.span.name = name;
        record.set("http.request.method", Some(method));
        record.set("url.path", path.split('?').next());
        self.receive(record, "", Headers::read(headers), None)
    }

    /// Returns the headers by which the receiver of a call continues its trace. [`TraceContext::write_meta`] writes the same into the
    /// metadata of a message.
    pub fn inject(&self, span: &ProtocolSpan) -> Vec<(&'static str, String)> {
        span.context().to_headers()
    }

    /// Returns the caller's context in the headers of a request, or that of a new trace.
    pub fn extract<N: AsRef<str>, V: AsRef<[u8]>>(&self, headers: impl IntoIterator<Item = (N, V)>) -> TraceContext {
        TraceContext::extract(headers)
    }

    /// Returns the spans that have ended, by end. Spans of traces that are not sampled are not kept.
    pub fn protocol_spans(&self) -> Vec<SpanRecord> {
        self.shared.state().finished.spans().cloned().collect()
    }

    /// Returns a report on the spans that have ended.
    pub fn report(&self) -> TracingReport {
        let (spans, dropped) = {
            let State { finished, .. } = &*self.shared.state();
            (finished.spans().cloned().collect(), finished.dropped())
        };
        TracingReport::new(self.agent_id(), self.trace_id(), spans, dropped)
    }

    /// Returns the record of a span that starts now.
    fn record(&self, role: SpanRole) -> Box<SpanRecord> {
        let TraceContext { trace_id, span_id, .. } = self.position.context;
        let mut span = Span::new(trace_id, span_id, "", self.shared.clock.now());
        (span.role, span.agent) = (role, Some(self.shared.agent_id.clone()));
        Box::new(SpanRecord::new(span, ProtocolType::Internal))
    }

    /// Returns the hash of the arguments of a call, which its event has.
    fn arguments_hash(&self, request: &McpRequest<'_>) -> Option<String> {
        self.shared.events.as_ref().and_then(|_| request.arguments_hash())
    }

    fn receive(
        &self,
        mut record: Box<SpanRecord>,
        caller: &str,
        headers: Headers,
        arguments_hash: Option<String>,
    ) -> ProtocolSpan {
        record.set(PEER_NAME, Some(caller).filter(|caller| !caller.is_empty()));
        let baggage = headers.baggage.clone();
        let position = match headers.context() {
            Ok(context) => Position { context, place: Place::Remote, task: None },
            Err(_) => {
                Position { context: TraceContext { baggage, ..TraceContext::root() }, place: Place::Top, task: None }
            }
        };
        self.start(record, &position, arguments_hash)
    }

    fn start(&self, mut record: Box<SpanRecord>, position: &Position, arguments_hash: Option<String>) -> ProtocolSpan {
        let parent = match &position.place {
            Place::Top => Parent::Current,
            Place::Remote | Place::Local(None) => Parent::Remote(&position.context),
            Place::Local(Some(span)) => Parent::Local(span),
        };
        let mut context = position.context.child();
        if matches!(position.place, Place::Top) {
            context.parent_span_id = None;
        }
        let mut library_span = None;
        if let Some(bridge) = &self.shared.bridge {
            let Started { span, context: started, current } = bridge.start(&record, parent);
            if let Some(started) = started {
                context = placed_by_library(started, context, current);
            }
            bridge.set_place(&span, &context);
            library_span = Some((span, record.clone()));
        }
        let span = &mut record.span;
        (span.trace_id, span.span_id, span.parent_span_id) =
            (context.trace_id, context.span_id, context.parent_span_id);
        let starts_task = agent_events::starts_task(&record);
        record.span.task = if starts_task { Some(task_key(&context)) } else { position.task.clone() };
        let is_remote = matches!(position.place, Place::Remote);
        if let Some(events) = &self.shared.events
            && let Some(started) = agent_events::started(&record)
        {
            events.accept(started);
        }
        let (shared, record, has_outcome) = (self.shared.clone(), OpenRecord(Some(record)), false);
        ProtocolSpan { shared, record, context, library_span, arguments_hash, is_remote, has_outcome }
    }

    /// Creates a tracer whose calls begin at a position.
    pub(crate) fn at(shared: &Arc<Shared>, position: Position) -> Self {
        Self { shared: shared.clone(), position }
    }

    /// Returns the tracer whose calls begin below the span of a context: of this process if it is known, or else of another.
    #[cfg(any(feature = "a2a-server", feature = "rmcp"))]
    pub(crate) fn below(&self, context: TraceContext) -> Self {
        Self::at(&self.shared, self.shared.position_below(context))
    }

    /// Returns the span below which calls begin, if there is one.
    #[cfg(feature = "rmcp")]
    pub(crate) fn parent(&self) -> Option<&TraceContext> {
        Some(&self.position.context).filter(|_| !matches!(self.position.place, Place::Top))
    }
}

/// Returns the place of a span that a library has started, with what the library does not carry: the baggage and, within the same trace,
/// the flag of a random id and the `tracestate`.
fn placed_by_library(started: TraceContext, planned: TraceContext, current: Option<SpanId>) -> TraceContext {
    let is_same_trace = started.trace_id == planned.trace_id;
    let flags = if is_same_trace { planned.flags.with_sampled(started.is_sampled()) } else { started.flags };
    let is_kept = is_same_trace && started.tracestate.is_empty();
    let tracestate = if is_kept { planned.tracestate } else { started.tracestate };
    TraceContext { parent_span_id: current, flags, tracestate, baggage: planned.baggage, ..started }
}

/// Returns the name of the task of a span: its trace, as in OpenTelemetry traces, and its span unless it is the root.
fn task_key(context: &TraceContext) -> Arc<str> {
    match context.parent_span_id {
        None => context.trace_id.to_string().into(),
        Some(_) => format!("{}-{}", context.trace_id, context.span_id).into(),
    }
}

impl fmt::Debug for ProtocolTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolTracer")
            .field("agent_id", &self.shared.agent_id)
            .field("context", &self.position.context)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TracerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracerOptions")
            .field("parent_context", &self.parent_context)
            .field("max_spans", &self.max_spans)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
