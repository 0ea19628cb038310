use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use a2a_client::jsonrpc::JsonRpcTransport;
use a2a_client::rest::RestTransport;
use a2a_client::{A2AClient, Transport as A2aTransport};
use a2a_grpc::{GrpcHandler, GrpcTransport};
use a2a_pb::proto::a2a_service_server::A2aServiceServer;
use a2a_server::{AgentExecutor, DefaultRequestHandler, ExecutorContext, InMemoryTaskStore};
use a2a_types::{
    A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, TaskState, TaskStatus, TaskStatusUpdateEvent,
};
use axum::extract::Request;
use axum::middleware::map_request;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ProtocolVersion, ServerCapabilities, ServerConfig,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext};
use rmcp::transport::{IntoTransport, StreamableHttpClientTransport, Transport};
use rmcp::{ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt};
use serde_json::json;
use sre_trace::{
    ProtocolTracer, Span, SpanId, TracedA2aHandler, TracedA2aTransport, TracedMcpHandler, TracedMcpTransport,
    WithParent,
};
use tokio::net::unix::pipe::pipe;

use super::forgetful::Forgetful;
use super::hop::Hop;
use crate::servers;

/// Six agents, each of which forwards what it is asked to the next one.
pub(crate) struct Agents {
    first: Agent,
    names: Vec<String>,
    tracers: Vec<ProtocolTracer>,
    seen: Mutex<HashSet<SpanId>>,
}

impl Agents {
    pub(crate) async fn start() -> Self {
        _ = rustls::crypto::ring::default_provider().install_default();
        let names: Vec<String> = (0..=5).map(|number| format!("agent-{number}")).collect();
        let tracers: Vec<ProtocolTracer> = names.iter().map(ProtocolTracer::new).collect();
        let (broken_hop, http) = (Arc::new(AtomicUsize::new(usize::MAX)), reqwest::Client::new());
        let mut next = None;
        for (number, tracer) in tracers.iter().enumerate().rev() {
            let (tracer, broken_hop, http) = (tracer.clone(), broken_hop.clone(), http.clone());
            let agent = Agent { number, tracer, broken_hop, http, next };
            next = Some(Arc::new(agent.serve().await));
        }
        let first = Arc::into_inner(next.expect("six agents")).expect("the first is nobody's next").agent;
        Self { first, names, tracers, seen: Mutex::default() }
    }

    /// Returns the names of the agents: hop `n` is from agent `n` to `n + 1`.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Makes a call over some hops, of which one may drop the context. Returns all new spans.
    pub(crate) async fn call(&self, hops: &[Hop], broken_hop: Option<usize>) -> Vec<Span> {
        self.first.broken_hop.store(broken_hop.unwrap_or(usize::MAX), Ordering::Relaxed);
        let task = self.first.tracer.task("forward");
        self.first.forward(&task.tracer(), hops).await;
        task.end();
        let mut seen = self.seen.lock().unwrap();
        let records = self.tracers.iter().flat_map(ProtocolTracer::protocol_spans);
        records.map(|record| record.span).filter(|span| seen.insert(span.span_id)).collect()
    }
}

#[derive(Clone)]
struct Agent {
    number: usize,
    tracer: ProtocolTracer,
    /// The number of the agent whose calls lose their context on the way.
    broken_hop: Arc<AtomicUsize>,
    http: reqwest::Client,
    next: Option<Arc<Server>>,
}

/// An agent behind its servers.
struct Server {
    agent: Agent,
    url: String,
    grpc_url: String,
}

impl Agent {
    async fn serve(self) -> Server {
        let handler = DefaultRequestHandler::new(self.clone(), InMemoryTaskStore::new());
        let handler = Arc::new(TracedA2aHandler::new(handler, &self.tracer));
        let (server, is_forgotten) = (TracedMcpHandler::new(self.clone(), &self.tracer), self.is_forgotten());
        let forget = move |mut request: Request| {
            if is_forgotten() {
                request.headers_mut().remove("traceparent");
            }
            std::future::ready(request)
        };
        let routes = servers::a2a_routes(handler.clone()).layer(map_request(forget)).merge(servers::mcp_routes(server));
        let is_forgotten = self.is_forgotten();
        let grpc =
            A2aServiceServer::with_interceptor(GrpcHandler::new(handler), move |mut request: tonic::Request<()>| {
                if is_forgotten() {
                    request.metadata_mut().remove("traceparent");
                }
                Ok(request)
            });
        let grpc = tonic::transport::Server::builder().add_service(grpc);
        Server { agent: self, url: servers::serve(routes).await, grpc_url: servers::serve_grpc(grpc).await }
    }

    /// Returns whether requests to this agent lose their context.
    fn is_forgotten(&self) -> impl Fn() -> bool + Clone + Send + Sync + 'static {
        let (number, broken_hop) = (self.number, self.broken_hop.clone());
        move || broken_hop.load(Ordering::Relaxed).wrapping_add(1) == number
    }

    /// Calls the next agent over the first of the hops, and has it forward the rest.
    fn forward<'a>(&'a self, tracer: &'a ProtocolTracer, hops: &'a [Hop]) -> BoxFuture<'a, ()> {
        async move {
            let Some((&hop, rest)) = hops.split_first() else { return };
            let next = self.next.as_ref().expect("five hops at most");
            let (rpc, rest_url) = (format!("{}/rpc", next.url), format!("{}/rest", next.url));
            match hop {
                Hop::A2aJsonRpc => send(tracer, JsonRpcTransport::new(self.http.clone(), rpc), rest).await,
                Hop::A2aHttpJson => send(tracer, RestTransport::new(self.http.clone(), rest_url), rest).await,
                Hop::A2aGrpc => send(tracer, GrpcTransport::connect(&*next.grpc_url).await.unwrap(), rest).await,
                Hop::McpStdio | Hop::McpStdioWithInitialize => {
                    let ((to_server, input), (output, from_server)) = (pipe().unwrap(), pipe().unwrap());
                    let server = TracedMcpHandler::new(next.agent.clone(), &next.agent.tracer);
                    tokio::spawn(async move { server.serve((input, output)).await.unwrap().waiting().await });
                    let pipes = IntoTransport::<RoleClient, _, _>::into_transport((from_server, to_server));
                    let transport = TracedMcpTransport::stdio(self.forgetful(pipes), tracer, "next");
                    call(tracer, transport, hop, rest).await;
                }
                Hop::McpHttp | Hop::McpHttpWithInitialize => {
                    let url = format!("{}/mcp", next.url);
                    let http = self.forgetful(StreamableHttpClientTransport::from_uri(&*url));
                    call(tracer, TracedMcpTransport::http(http, tracer, "next", url), hop, rest).await;
                }
            }
        }
        .boxed()
    }

    fn forgetful<T>(&self, transport: T) -> Forgetful<T> {
        Forgetful { transport, drops_context: self.broken_hop.load(Ordering::Relaxed) == self.number }
    }
}

/// Sends hops in an A2A message.
async fn send(tracer: &ProtocolTracer, transport: impl A2aTransport, hops: &[Hop]) {
    let client = A2AClient::new(TracedA2aTransport::new(transport, tracer, "next"));
    let message = Message::new(Role::User, vec![Part::text(serde_json::to_string(hops).unwrap())]);
    let request = SendMessageRequest { message, configuration: None, metadata: None, tenant: None };
    client.send_message(&request).await.unwrap();
}

/// Sends hops in the arguments of an MCP tool.
async fn call(
    tracer: &ProtocolTracer,
    transport: TracedMcpTransport<impl Transport<RoleClient> + 'static>,
    hop: Hop,
    hops: &[Hop],
) {
    let lifecycle = match hop.has_initialize() {
        true => ClientLifecycleMode::Initialize,
        false => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    let client = ().serve_with_lifecycle(transport, lifecycle).await.unwrap();
    let arguments = json!({"hops": hops}).as_object().unwrap().clone();
    let forward = CallToolRequestParams::new("forward").with_arguments(arguments).with_parent(tracer);
    client.call_tool(forward).await.unwrap();
    client.cancel().await.unwrap();
}

impl AgentExecutor for Agent {
    fn execute(&self, context: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let (agent, tracer) = (self.clone(), self.tracer.for_a2a_request(&context.service_params));
        let (task_id, context_id) = context.task_info();
        let hops = context.message.as_ref().and_then(Message::text).expect("a message with the hops");
        let hops: Vec<Hop> = serde_json::from_str(hops).unwrap();
        stream::once(async move {
            agent.forward(&tracer, &hops).await;
            let status = TaskStatus { state: TaskState::Completed, message: None, timestamp: None };
            Ok(StreamResponse::StatusUpdate(TaskStatusUpdateEvent { task_id, context_id, status, metadata: None }))
        })
        .boxed()
    }

    fn cancel(&self, _: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        stream::empty().boxed()
    }
}

impl ServerHandler for Agent {
    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tracer = context.extensions.get::<ProtocolTracer>().expect("that of the request");
        let hops = params.arguments.unwrap()["hops"].take();
        self.forward(tracer, &serde_json::from_value::<Vec<Hop>>(hops).unwrap()).await;
        Ok(CallToolResult::success(Vec::new()).into())
    }

    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}
