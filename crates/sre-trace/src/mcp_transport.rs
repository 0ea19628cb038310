use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use rmcp::ErrorData;
use rmcp::model::{
    CancelledNotification, GetExtensions, GetMeta, JsonRpcMessage, JsonRpcNotification, NotificationMetaObject,
    RequestId, RequestMetaObject, RequestParamsMeta,
};
use rmcp::service::{RxJsonRpcMessage, ServiceRole, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde::Serialize;
use serde_json::{Value, json};
use sre_core::private::lock;

use crate::context::{TRACEPARENT, TraceContext};
use crate::mcp::{self, McpRequest, McpTransport};
use crate::meta::meta_headers;
use crate::protocol_span::ProtocolSpan;
use crate::tracer::ProtocolTracer;

/// A transport of the [`rmcp`] crate that traces the requests which are sent over it.
///
/// Every request is a client span, from sending it to its response, and its `_meta` has the context of that span: those of the handshake,
/// too, whatever the version of the protocol. A request that is cancelled or times out, or whose connection closes, has failed. Spans begin
/// below the tracer of the transport, or else where [`WithParent`] puts the request. Notifications have no spans, and the context of the
/// transport's tracer in their `_meta`.
///
/// Requests of a server to its client, which versions before 2026-07-28 have, are traced on both sides if both have such a transport: in a
/// client's handler, the tracer below a request is in its extensions.
///
/// ```
/// use rmcp::model::CallToolRequestParams;
/// use rmcp::transport::IntoTransport;
/// use rmcp::{RoleClient, RoleServer, ServerHandler, ServiceExt};
/// use sre_trace::{ProtocolTracer, TracedMcpHandler, TracedMcpTransport, WithParent};
///
/// struct Orders;
///
/// impl ServerHandler for Orders {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (to_server, to_client) = tokio::io::duplex(4096);
/// let server = TracedMcpHandler::new(Orders, &ProtocolTracer::new("orders"));
/// tokio::spawn(async move { server.serve(to_client).await.unwrap().waiting().await });
///
/// let tracer = ProtocolTracer::new("support");
/// let transport = IntoTransport::<RoleClient, _, _>::into_transport(to_server);
/// let client = ().serve(TracedMcpTransport::stdio(transport, &tracer, "orders")).await.unwrap();
///
/// let task = tracer.task("answer");
/// let lookup = CallToolRequestParams::new("lookup").with_parent(&task.tracer());
/// assert!(client.call_tool(lookup).await.is_err(), "the server has no tools");
/// let spans = tracer.protocol_spans();
/// assert_eq!((&*spans[0].span.name, &*spans[1].span.name), ("initialize", "tools/call lookup"));
/// assert_eq!(spans[1].span.parent_span_id, Some(task.span_id()));
/// assert_eq!(spans[1].attribute("error.type"), Some("-32601"));
/// # }
/// ```
#[derive(Debug)]
pub struct TracedMcpTransport<T> {
    transport: T,
    requests: Arc<Requests>,
}

impl<T> TracedMcpTransport<T> {
    /// Wraps a connection to a process, such as one of `TokioChildProcess`. The name of the other side is recorded as the spans' peer.
    pub fn stdio(transport: T, tracer: &ProtocolTracer, peer: impl Into<String>) -> Self {
        Self::new(transport, tracer, peer.into(), None)
    }

    /// Wraps a connection by streamable HTTP, such as one of `StreamableHttpClientTransport`.
    pub fn http(transport: T, tracer: &ProtocolTracer, peer: impl Into<String>, url: impl Into<String>) -> Self {
        Self::new(transport, tracer, peer.into(), Some(url.into()))
    }

    fn new(transport: T, tracer: &ProtocolTracer, peer: String, url: Option<String>) -> Self {
        let requests = Requests {
            tracer: tracer.clone(),
            peer,
            url,
            protocol_version: Mutex::default(),
            pending: Mutex::default(),
            received: Mutex::default(),
        };
        Self { transport, requests: Arc::new(requests) }
    }
}

impl<R, T> Transport<R> for TracedMcpTransport<T>
where
    R: ServiceRole<Not: GetMeta<Metadata = NotificationMetaObject>>,
    T: Transport<R>,
{
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(&mut self, message: TxJsonRpcMessage<R>) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        let (message, id) = match message {
            JsonRpcMessage::Request(mut request) => {
                self.requests.start(&request.id, &mut request.request);
                let id = request.id.clone();
                (JsonRpcMessage::Request(request), Some(id))
            }
            JsonRpcMessage::Notification(JsonRpcNotification { jsonrpc, notification }) => {
                let mut notification = match notification.try_into() {
                    Ok(cancelled) => {
                        self.requests.cancel(&cancelled);
                        cancelled.into()
                    }
                    Err(other) => other,
                };
                let meta = &mut notification.get_meta_mut().0.0;
                if let Some(parent) = self.requests.tracer.parent().filter(|_| !meta.contains_key(TRACEPARENT)) {
                    parent.write_meta(meta);
                }
                (JsonRpcMessage::Notification(JsonRpcNotification { jsonrpc, notification }), None)
            }
            JsonRpcMessage::Response(response) => {
                self.requests.respond(&response.id, None);
                (JsonRpcMessage::Response(response), None)
            }
            JsonRpcMessage::Error(error) => {
                if let Some(id) = &error.id {
                    self.requests.respond(id, Some(&error.error));
                }
                (JsonRpcMessage::Error(error), None)
            }
        };
        let (sent, requests) = (self.transport.send(message), self.requests.clone());
        async move {
            let sent = sent.await;
            if let (Err(_), Some(id)) = (&sent, id) {
                // The error may have the URL with its secrets.
                requests.end(&id, |span| span.set_error("the request could not be sent"));
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<R>> {
        let mut message = self.transport.receive().await;
        match &mut message {
            // Those to a server are traced by its handler.
            Some(JsonRpcMessage::Request(request)) if R::IS_CLIENT => {
                self.requests.receive(&request.id, &mut request.request);
            }
            Some(JsonRpcMessage::Response(response)) => self.requests.succeed(&response.id, &response.result),
            Some(JsonRpcMessage::Error(error)) => {
                if let Some(id) = &error.id {
                    self.requests.end(id, |span| span.set_response(&json!({"error": error.error}), None));
                }
            }
            Some(_) => {}
            None => self.requests.close(),
        }
        message
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.transport.close().await
    }
}

/// Puts requests of the [`rmcp`] crate below a span.
pub trait WithParent: RequestParamsMeta + Sized {
    /// Puts a request where the tracer's calls begin, such as below the task or the request for which it is made. A [`TracedMcpTransport`]
    /// makes a span of it there; over any other, the server sees that position as the caller's.
    #[must_use]
    fn with_parent(mut self, tracer: &ProtocolTracer) -> Self {
        if let Some(parent) = tracer.parent() {
            parent.write_meta(&mut self.meta_or_default().0.0);
        }
        self
    }
}

impl<P: RequestParamsMeta> WithParent for P {}

/// The requests of a connection.
#[derive(Debug)]
struct Requests {
    tracer: ProtocolTracer,
    peer: String,
    url: Option<String>,
    /// The version that `initialize` has agreed on. Later versions have none, and every request says its own.
    protocol_version: Mutex<Option<String>>,
    /// Those without a response, by the id as text, since peers may return a number as one.
    pending: Mutex<HashMap<String, ProtocolSpan>>,
    /// Those of a server to which no response was sent.
    received: Mutex<HashMap<String, ProtocolSpan>>,
}

impl Requests {
    /// Starts the span of a request that is sent.
    fn start(&self, id: &RequestId, request: &mut (impl Serialize + GetMeta<Metadata = RequestMetaObject>)) {
        let body = serde_json::to_value(&*request).unwrap_or_default();
        let agreed = lock(&self.protocol_version).clone();
        let call = self.describe(id, &body, agreed.as_deref());
        let parent = body["params"]["_meta"].as_object().and_then(|meta| TraceContext::from_meta(meta).ok());
        let tracer = parent.map(|parent| self.tracer.below(parent));
        let span = tracer.as_ref().unwrap_or(&self.tracer).mcp_call(&self.peer, call);
        span.context().write_meta(&mut request.get_meta_mut().0.0);
        lock(&self.pending).insert(id.to_string(), span);
    }

    /// Starts the span of a request that is received.
    fn receive(
        &self,
        id: &RequestId,
        request: &mut (impl Serialize + GetMeta<Metadata = RequestMetaObject> + GetExtensions),
    ) {
        let body = serde_json::to_value(&*request).unwrap_or_default();
        let agreed = lock(&self.protocol_version).clone();
        let call = self.describe(id, &body, agreed.as_deref());
        let meta = &request.get_meta().0.0;
        // Without a context, it is for the connection.
        let span = match self.tracer.parent().filter(|_| !meta.contains_key(TRACEPARENT)) {
            Some(parent) => self.tracer.receive_mcp(&self.peer, parent.to_headers(), call),
            None => self.tracer.receive_mcp(&self.peer, meta_headers(meta), call),
        };
        request.extensions_mut().insert(span.tracer());
        lock(&self.received).insert(id.to_string(), span);
    }

    fn describe<'a>(&'a self, id: &RequestId, body: &'a Value, agreed: Option<&'a str>) -> McpRequest<'a> {
        let request = McpRequest::from_json_rpc(body);
        McpRequest {
            request_id: Some(id.to_string().into()),
            protocol_version: request.protocol_version.or(agreed),
            transport: Some(if self.url.is_some() { McpTransport::Http } else { McpTransport::Stdio }),
            server_url: self.url.as_deref(),
            ..request
        }
    }

    /// Ends the span of a request that was received.
    fn respond(&self, id: &RequestId, error: Option<&ErrorData>) {
        let span = lock(&self.received).remove(&id.to_string());
        if let Some(mut span) = span {
            if let Some(error) = error {
                span.set_response(&json!({"error": error}), None);
            }
            span.end();
        }
    }

    fn succeed(&self, id: &RequestId, result: &impl Serialize) {
        self.end(id, |span| {
            let is_initialize = mcp::is_initialize(span.record());
            // Of other results, nothing is recorded.
            let has_outcome = is_initialize || mcp::is_tool_call(span.record());
            let result = if has_outcome { serde_json::to_value(result).unwrap_or_default() } else { Value::Null };
            if is_initialize {
                *lock(&self.protocol_version) = result["protocolVersion"].as_str().map(str::to_owned);
            }
            span.set_response(&result, None);
        });
    }

    fn cancel(&self, notification: &CancelledNotification) {
        const TIMEOUTS: [&str; 2] = ["request timeout", "maximum total timeout exceeded"];
        let Some(id) = &notification.params.request_id else { return };
        let is_timeout = notification.params.reason.as_deref().is_some_and(|reason| TIMEOUTS.contains(&reason));
        let span = lock(&self.pending).remove(&id.to_string());
        if let Some(mut span) = span.filter(|_| is_timeout) {
            span.set_timeout();
        }
    }

    /// Ends the span of a request that was sent, unless that was cancelled.
    fn end(&self, id: &RequestId, set_outcome: impl FnOnce(&mut ProtocolSpan)) {
        let span = lock(&self.pending).remove(&id.to_string());
        if let Some(mut span) = span {
            set_outcome(&mut span);
        }
    }

    fn close(&self) {
        let pending = std::mem::take(&mut *lock(&self.pending));
        for mut span in pending.into_values() {
            span.set_error("the connection closed before the response");
        }
    }
}
