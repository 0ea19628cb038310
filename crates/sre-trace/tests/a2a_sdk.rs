//! The official A2A SDK for Python as client and as server: its spans and ours are one trace.

mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_client::jsonrpc::JsonRpcTransport;
use a2a_client::rest::RestTransport;
use a2a_client::{A2AClient, Transport};
use a2a_grpc::{GrpcHandler, GrpcTransport};
use a2a_pb::proto::a2a_service_server::A2aServiceServer;
use a2a_server::{AgentExecutor, DefaultRequestHandler, ExecutorContext, InMemoryTaskStore};
use a2a_types::{
    A2AError, AgentCapabilities, GetTaskRequest, Message, Part, Role, SendMessageRequest, SendMessageResponse,
    StreamResponse, TaskState, TaskStatus, TaskStatusUpdateEvent,
};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Json, Router};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use sre_testkit::servers::{Server, free_port, programs};
use sre_trace::{
    A2aRequest, BrokenHop, ProtocolTracer, Span, SpanId, SpanRecord, SpanRef, SpanRole, TraceTree, TracedA2aHandler,
    TracedA2aTransport,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/a2a_agent.py");
/// The name of the SDK's spans.
const PYTHON: &str = "python";

fn sdk() -> Option<PathBuf> {
    _ = rustls::crypto::ring::default_provider().install_default();
    programs("a2a", "a2a", "a2a")
}

/// The part of the trace context that the SDK passes on, by what is instrumented.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Propagation {
    All,
    Received,
    Nothing,
}

impl Propagation {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Received => "received",
            Self::Nothing => "nothing",
        }
    }
}

/// The agent to which the SDK's forwards its messages.
#[derive(Clone, Copy)]
struct Delegate<'a> {
    url: &'a str,
    /// Whether messages get ids of their own.
    has_new_id: bool,
}

/// An agent of the SDK, behind a server on loopback.
struct PythonAgent {
    _server: Server,
    folder: tempfile::TempDir,
    url: String,
    grpc_url: String,
}

impl PythonAgent {
    /// Starts it.
    async fn start(programs: &Path) -> Self {
        Self::start_with(programs, Propagation::All, None).await
    }

    async fn start_with(programs: &Path, propagation: Propagation, delegate: Option<Delegate<'_>>) -> Self {
        let (folder, ports) = (tempfile::tempdir().unwrap(), [free_port(), free_port()]);
        let [url, grpc_url] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(programs.join("python"));
        command.arg(SCRIPT).arg("serve").arg(folder.path().join("spans"));
        command.args(ports.map(|port| port.to_string())).args(delegate.map(|delegate| delegate.url));
        command.env("PROPAGATE", propagation.as_str());
        command.env("NEW_ID", if delegate.is_some_and(|delegate| delegate.has_new_id) { "1" } else { "0" });
        let card = format!("{url}/.well-known/agent-card.json");
        Self { _server: Server::start(command, folder.path(), &card).await, folder, url, grpc_url }
    }

    fn spans(&self) -> Vec<Span> {
        spans_in(&self.folder.path().join("spans"))
    }
}

/// Reads the spans that the SDK has written, of which the last may not be complete yet.
fn spans_in(file: &Path) -> Vec<Span> {
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// An agent of the official Rust crates, and the webhook of a client.
#[derive(Clone)]
struct Writer(ProtocolTracer);

impl AgentExecutor for Writer {
    fn execute(&self, context: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        self.0.for_a2a_request(&context.service_params).task("write").end();
        let (task_id, context_id) = context.task_info();
        let update = move |state| {
            let status = TaskStatus { state, message: None, timestamp: None };
            let (task_id, context_id) = (task_id.clone(), context_id.clone());
            Ok(StreamResponse::StatusUpdate(TaskStatusUpdateEvent { task_id, context_id, status, metadata: None }))
        };
        stream::iter([update(TaskState::Working), update(TaskState::Completed)]).boxed()
    }

    fn cancel(&self, _: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        stream::empty().boxed()
    }
}

/// Serves an agent over every binding, with an endpoint for version 0.3 and a webhook. Returns the URL, and that for gRPC.
async fn serve(tracer: &ProtocolTracer) -> [String; 2] {
    let streaming = AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() };
    let handler = DefaultRequestHandler::new(Writer(tracer.clone()), InMemoryTaskStore::new());
    let handler = Arc::new(TracedA2aHandler::new(handler.with_capabilities(streaming), tracer));
    let app = Router::new()
        .route("/hook", axum::routing::post(take_notification))
        .route("/old", axum::routing::post(answer_in_0_3))
        .with_state(tracer.clone())
        .merge(servers::a2a_routes(handler.clone()));
    let service = A2aServiceServer::new(GrpcHandler::new(handler));
    let services = tonic::transport::Server::builder().add_service(service);
    [servers::serve(app).await, servers::serve_grpc(services).await]
}

fn headers(map: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    map.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

async fn take_notification(State(tracer): State<ProtocolTracer>, map: HeaderMap, Json(body): Json<Value>) {
    tracer.receive_push_notification("writer", headers(&map), &body).end();
}

/// A server of version 0.3 that answers every message with a task that is completed.
async fn answer_in_0_3(State(tracer): State<ProtocolTracer>, map: HeaderMap, Json(body): Json<Value>) -> Json<Value> {
    let version = map.get("a2a-version").and_then(|value| value.to_str().ok());
    let request = A2aRequest::from_json_rpc(&body).with_version(version);
    let mut span = tracer.receive_a2a("", headers(&map), request);
    let task = json!({"kind": "task", "id": "t-1", "contextId": "c-1", "status": {"state": "completed"}});
    let response = json!({"jsonrpc": "2.0", "id": body["id"], "result": task});
    span.set_response(&response, None);
    span.end();
    Json(response)
}

fn message(text: &str) -> SendMessageRequest {
    let message = Message::new(Role::User, vec![Part::text(text)]);
    SendMessageRequest { message, configuration: None, metadata: None, tenant: None }
}

/// Waits until everything that belongs to the traces of our spans is written, which the SDK does after it has answered. Returns their
/// trees.
async fn trees(ours: &[&ProtocolTracer], theirs: impl Fn() -> Vec<Span>, spans_of_sdk: usize) -> Vec<TraceTree> {
    let begun = Instant::now();
    loop {
        let ours: Vec<Span> =
            ours.iter().flat_map(|tracer| tracer.protocol_spans()).map(|record| record.span).collect();
        let is_of_ours = |span: &Span| ours.iter().any(|our| our.trace_id == span.trace_id);
        let theirs: Vec<Span> = theirs().into_iter().filter(is_of_ours).collect();
        let count = theirs.len();
        let trees = TraceTree::build(ours.into_iter().chain(theirs));
        let is_missing = |hop: &BrokenHop| matches!(hop, BrokenHop::MissingParent { .. });
        let is_whole = !trees.iter().flat_map(|tree| &tree.broken_hops).any(is_missing);
        if (is_whole && count >= spans_of_sdk) || begun.elapsed() > Duration::from_secs(60) {
            return trees;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the spans directly below a span.
fn below(tree: &TraceTree, id: SpanId) -> Vec<&Span> {
    tree.nodes.iter().map(|node| &node.span).filter(|span| span.parent_span_id == Some(id)).collect()
}

fn states(record: &SpanRecord) -> Vec<&str> {
    record.events.iter().map(|event| &*event.attributes["a2a.task.state"]).collect()
}

/// Sends a message that is answered and one whose answer streams, and asks for a task.
async fn call(client: A2AClient<impl Transport>) {
    let SendMessageResponse::Task(task) = client.send_message(&message("write")).await.unwrap() else { panic!() };
    let get = GetTaskRequest { id: task.id, history_length: None, tenant: None };
    client.get_task(&get).await.unwrap();
    let events: Vec<_> = client.send_streaming_message(&message("write")).await.unwrap().collect().await;
    assert!(events.iter().all(Result::is_ok), "{events:?}");
    client.send_message(&message("fail")).await.unwrap();
}

async fn check_our_client(binding: &str) {
    let Some(programs) = sdk() else { return };
    let agent = PythonAgent::start(&programs).await;
    let planner = ProtocolTracer::new("planner");
    let task = planner.task("plan");
    let http = reqwest::Client::new();
    let transport: Box<dyn Transport> = match binding {
        "JSONRPC" => Box::new(JsonRpcTransport::new(http, format!("{}/rpc", agent.url))),
        "HTTP+JSON" => Box::new(RestTransport::new(http, format!("{}/rest", agent.url))),
        _ => Box::new(GrpcTransport::connect(&*agent.grpc_url).await.unwrap()),
    };
    call(A2AClient::new(TracedA2aTransport::new(transport, &task.tracer(), "writer"))).await;
    task.end();
    let trees = trees(&[&planner], || agent.spans(), 100).await;
    let [tree] = &*trees else { panic!("{}", trees.len()) };
    assert!(tree.broken_hops.is_empty(), "{tree}");
    assert_eq!(tree.nodes.iter().filter(|node| node.depth == 0).count(), 1, "{tree}");
    let calls: Vec<SpanRecord> =
        planner.protocol_spans().into_iter().filter(|record| record.span.role == SpanRole::Client).collect();
    let names: Vec<&str> = calls.iter().map(|record| &*record.span.name).collect();
    assert_eq!(names, ["SendMessage", "GetTask", "SendStreamingMessage", "SendMessage"]);
    for call in &calls {
        let received = below(tree, call.span.span_id);
        let [received] = &*received else { panic!("{tree}") };
        assert_eq!((received.agent.as_deref(), received.role), (Some(PYTHON), SpanRole::Server));
    }
    assert_eq!(states(&calls[2]), ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]);
    assert_eq!((calls[2].a2a_artifact_count, calls[2].span.error.as_deref()), (1, None));
    assert_eq!(calls[3].span.error.as_deref(), Some("task failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_calls_over_json_rpc_and_the_spans_of_the_sdk_s_server_are_one_trace() {
    check_our_client("JSONRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_calls_over_http_and_json_and_the_spans_of_the_sdk_s_server_are_one_trace() {
    check_our_client("HTTP+JSON").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_calls_over_grpc_and_the_spans_of_the_sdk_s_server_are_one_trace() {
    check_our_client("GRPC").await;
}

async fn check_our_server(binding: &str) {
    let Some(programs) = sdk() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans");
    let writer = ProtocolTracer::new("writer");
    let [http, grpc] = serve(&writer).await;
    let url = match binding {
        "JSONRPC" => format!("{http}/rpc"),
        "HTTP+JSON" => format!("{http}/rest"),
        _ => grpc.trim_start_matches("http://").to_owned(),
    };
    call_with_sdk(&programs, &file, &[&url, binding]).await;
    let trees = trees(&[&writer], || spans_in(&file), 5).await;
    let [tree] = &*trees else { panic!("{}", trees.len()) };
    assert!(tree.broken_hops.is_empty(), "{tree}");
    assert_eq!(
        (&*tree.nodes[0].span.name, tree.nodes[0].span.agent.as_deref()),
        ("invoke_agent planner", Some(PYTHON))
    );
    let mut served: Vec<SpanRecord> =
        writer.protocol_spans().into_iter().filter(|record| record.span.role == SpanRole::Server).collect();
    served.sort_by_key(|record| record.span.start);
    let received: Vec<_> = served.iter().map(|record| (&*record.span.name, record.a2a_message_id())).collect();
    assert_eq!(received, [("SendMessage", Some("m-1")), ("SendStreamingMessage", Some("m-2"))]);
    for record in &served {
        let parent = tree.nodes.iter().find(|node| Some(node.span.span_id) == record.span.parent_span_id).unwrap();
        assert_eq!((parent.span.agent.as_deref(), parent.span.role), (Some(PYTHON), SpanRole::Client));
        assert_eq!(record.attribute("a2a.protocol.version"), Some("1.0"));
        let [task] = &*below(tree, record.span.span_id) else { panic!("{tree}") };
        assert_eq!((&*task.name, &record.span.error), ("invoke_agent writer", &None));
    }
    assert!(states(&served[1]).ends_with(&["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]), "{served:?}");
}

/// Runs the SDK's client beside the server of the test.
async fn call_with_sdk(programs: &Path, file: &Path, arguments: &[&str]) {
    let arguments: Vec<String> =
        ["call", file.to_str().unwrap()].iter().chain(arguments).map(|&one| one.to_owned()).collect();
    let programs = programs.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(programs.join("python"));
        let output = command.arg(SCRIPT).args(arguments).env("PROPAGATE", "all").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_sdk_s_client_over_json_rpc_and_our_spans_are_one_trace() {
    check_our_server("JSONRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_sdk_s_client_over_http_and_json_and_our_spans_are_one_trace() {
    check_our_server("HTTP+JSON").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_sdk_s_client_over_grpc_and_our_spans_are_one_trace() {
    check_our_server("GRPC").await;
}

/// Our client asks an agent of the SDK, which asks our agent.
struct Delegation {
    planner: ProtocolTracer,
    writer: ProtocolTracer,
    agent: PythonAgent,
}

impl Delegation {
    async fn start(propagation: Propagation, has_new_id: bool) -> Option<Self> {
        let programs = sdk()?;
        let (planner, writer) = (ProtocolTracer::new("planner"), ProtocolTracer::new("writer"));
        let url = format!("{}/rpc", serve(&writer).await[0]);
        let agent = PythonAgent::start_with(&programs, propagation, Some(Delegate { url: &url, has_new_id })).await;
        let transport = JsonRpcTransport::new(reqwest::Client::new(), format!("{}/rpc", agent.url));
        let client = A2AClient::new(TracedA2aTransport::new(transport, &planner, "editor"));
        client.send_message(&message("write")).await.unwrap();
        Some(Self { planner, writer, agent })
    }

    /// Returns the trees without those that are of the SDK only.
    async fn trees(&self, spans_of_sdk: usize) -> Vec<TraceTree> {
        trees(&[&self.planner, &self.writer], || self.agent.spans(), spans_of_sdk).await
    }

    /// Returns callers and receivers of the dropped contexts, as soon as they are as expected or after a minute.
    async fn dropped_contexts(&self, expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let is_expected = |found: &(String, String)| expected.contains(&(&*found.0, &*found.1));
        let begun = Instant::now();
        loop {
            let tracers = [&self.planner, &self.writer];
            let ours = tracers.into_iter().flat_map(ProtocolTracer::protocol_spans).map(|record| record.span);
            let trees = TraceTree::build(ours.chain(self.agent.spans()));
            let dropped = trees.iter().flat_map(|tree| &tree.broken_hops).filter_map(|hop| match hop {
                BrokenHop::DroppedContext { caller, receiver, .. } => Some([caller, receiver]),
                _ => None,
            });
            let name = |span: &SpanRef| {
                format!("{} {}", span.agent.as_deref().unwrap(), span.name.rsplit('.').next().unwrap())
            };
            let mut found: Vec<_> = dropped.map(|[caller, receiver]| (name(caller), name(receiver))).collect();
            found.sort();
            found.dedup();
            if (found.len() == expected.len() && found.iter().all(is_expected))
                || begun.elapsed() > Duration::from_secs(60)
            {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_an_agent_of_the_sdk_delegates_is_one_trace() {
    let Some(delegation) = Delegation::start(Propagation::All, true).await else { return };
    let trees = delegation.trees(20).await;
    let [tree] = &*trees else { panic!("{}", trees.len()) };
    assert!(tree.broken_hops.is_empty(), "{tree}");
    let agents: Vec<_> = tree.nodes.iter().map(|node| node.span.agent.as_deref().unwrap()).collect();
    assert_eq!((agents[0], agents.contains(&PYTHON), agents.contains(&"writer")), ("planner", true, true), "{tree}");
}

/// The SDK may send the message with its id or with another, and export no spans.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_sdk_drops_the_context_of_a_message_that_it_delegates_the_broken_hop_is_named() {
    for has_new_id in [false, true] {
        let Some(delegation) = Delegation::start(Propagation::Nothing, has_new_id).await else { return };
        let trees = delegation.trees(0).await;
        let call = &delegation.planner.protocol_spans()[0].span;
        let tree = trees.iter().find(|tree| tree.trace_id == call.trace_id).unwrap();
        let [BrokenHop::DroppedContext { caller, receiver, .. }] = &*tree.broken_hops else { panic!("{tree}") };
        assert_eq!((caller.span_id, caller.agent.as_deref()), (call.span_id, Some("planner")));
        assert_eq!((&*receiver.name, receiver.agent.as_deref()), ("SendMessage", Some("writer")));
        assert!(receiver.trace_id != call.trace_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_sdk_has_spans_the_broken_hops_on_both_of_its_sides_are_named() {
    let received = ("planner SendMessage", "python on_message_send");
    let sent = ("python send_message", "writer SendMessage");
    for (propagation, expected) in [(Propagation::Nothing, &[received, sent] as &[_]), (Propagation::Received, &[sent])]
    {
        let Some(delegation) = Delegation::start(propagation, true).await else { return };
        let found = delegation.dropped_contexts(expected).await;
        let expected: Vec<_> =
            expected.iter().map(|&(caller, receiver)| (caller.to_owned(), receiver.to_owned())).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_notification_of_the_sdk_continues_the_trace_of_the_message() {
    let Some(programs) = sdk() else { return };
    let agent = PythonAgent::start(&programs).await;
    let planner = ProtocolTracer::new("planner");
    let hook = format!("{}/hook", serve(&planner).await[0]);
    let transport = RestTransport::new(reqwest::Client::new(), format!("{}/rest", agent.url));
    let client = A2AClient::new(TracedA2aTransport::new(transport, &planner, "writer"));
    let mut request = message("write");
    request.configuration = Some(serde_json::from_value(json!({"taskPushNotificationConfig": {"url": hook}})).unwrap());
    client.send_message(&request).await.unwrap();
    let has_completed = |record: &SpanRecord| record.attribute("a2a.task.state") == Some("TASK_STATE_COMPLETED");
    // The SDK notifies beside its response.
    let begun = Instant::now();
    while planner.protocol_spans().iter().filter(|record| has_completed(record)).count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", planner.report());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let trees = trees(&[&planner], || agent.spans(), 40).await;
    let [tree] = &*trees else { panic!("{}", trees.len()) };
    assert!(tree.broken_hops.is_empty(), "{tree}");
    let spans = planner.protocol_spans();
    let mut notified = spans.iter().filter(|record| record.span.name == "PushNotification");
    assert!(notified.any(has_completed), "{tree}");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_version_0_3_are_traced() {
    let Some(programs) = sdk() else { return };
    // Our client, and a server of the SDK.
    let agent = PythonAgent::start(&programs).await;
    let planner = ProtocolTracer::new("planner");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {
        "kind": "message", "messageId": "m-1", "role": "user", "parts": [{"kind": "text", "text": "write"}]
    }}});
    let mut call = planner.a2a_call("writer", A2aRequest::from_json_rpc(&body).with_version(None));
    let mut request = reqwest::Client::new().post(format!("{}/rpc", agent.url));
    for (name, value) in planner.inject(&call) {
        request = request.header(name, value);
    }
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    let response: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    call.set_response(&response, None);
    call.end();
    let spans = planner.protocol_spans();
    let attribute = |name| spans[0].attribute(name);
    assert_eq!((&*spans[0].span.name, attribute("a2a.protocol.version")), ("SendMessage", Some("0.3")));
    assert_eq!(attribute("a2a.task.state"), Some("TASK_STATE_COMPLETED"), "{response:#}");
    let of_call = trees(&[&planner], || agent.spans(), 20).await;
    assert!(of_call.len() == 1 && of_call[0].broken_hops.is_empty(), "{}", of_call[0]);

    // Our server, and a client of the SDK.
    let writer = ProtocolTracer::new("writer");
    let (url, file) = (format!("{}/old", serve(&writer).await[0]), agent.folder.path().join("client"));
    call_with_sdk(&programs, &file, &[&url, "JSONRPC", "0.3"]).await;
    let of_sdk = trees(&[&writer], || spans_in(&file), 4).await;
    assert!(of_sdk.len() == 1 && of_sdk[0].broken_hops.is_empty(), "{}", of_sdk[0]);
    let served = &writer.protocol_spans()[0];
    assert_eq!((&*served.span.name, served.a2a_message_id()), ("SendMessage", Some("m-1")));
    assert_eq!(served.attribute("a2a.protocol.version"), Some("0.3"));
    assert!(served.span.parent_span_id.is_some());
}
