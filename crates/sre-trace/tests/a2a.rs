//! Clients and servers of the official A2A crates, whose calls are spans.

mod servers;

use std::sync::Arc;

use a2a_client::jsonrpc::{JsonRpcTransport, JsonRpcTransportFactory};
use a2a_client::rest::RestTransport;
use a2a_client::{A2AClient, A2AClientFactory, Transport};
use a2a_grpc::{GrpcHandler, GrpcTransport};
use a2a_pb::proto::a2a_service_server::A2aServiceServer;
use a2a_server::{
    AgentExecutor, DefaultRequestHandler, ExecutorContext, HttpPushSender, HttpPushSenderConfig,
    InMemoryPushConfigStore, InMemoryTaskStore,
};
use a2a_types::{
    A2AError, AgentCard, Artifact, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest, GetTaskPushNotificationConfigRequest, GetTaskRequest,
    ListTaskPushNotificationConfigsRequest, ListTasksRequest, Message, Part, Role, SendMessageRequest,
    SendMessageResponse, StreamResponse, SubscribeToTaskRequest, TaskArtifactUpdateEvent, TaskPushNotificationConfig,
    TaskState, TaskStatus, TaskStatusUpdateEvent,
};
use axum::http::HeaderMap;
use axum::{Json, Router};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use sre_trace::{
    A2aRequest, AttributeValue, McpRequest, ProtocolTracer, Span, SpanRecord, SpanRole, TraceContext, TraceTree,
    TracedA2aExecutor, TracedA2aHandler, TracedA2aTransport, TracedA2aTransportFactory,
};

/// An agent that looks something up, returns it in two parts, and completes the task; of `fail`, it fails.
struct Writer(ProtocolTracer);

impl AgentExecutor for Writer {
    fn execute(&self, context: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        self.0.for_a2a_request(&context.service_params).mcp_call("web", McpRequest::tool("search")).end();
        let is_bad = context.message.as_ref().and_then(Message::text) == Some("fail");
        let (task_id, context_id) = context.task_info();
        let status = |state| {
            let status = TaskStatus { state, message: None, timestamp: None };
            let (task_id, context_id) = (task_id.clone(), context_id.clone());
            Ok(StreamResponse::StatusUpdate(TaskStatusUpdateEvent { task_id, context_id, status, metadata: None }))
        };
        let artifact = |append| {
            let (name, description, metadata, extensions) = Default::default();
            let (artifact_id, parts) = ("a-1".to_owned(), vec![Part::text("text")]);
            let artifact = Artifact { artifact_id, name, description, parts, metadata, extensions };
            let (task_id, context_id) = (task_id.clone(), context_id.clone());
            let (append, last_chunk, metadata) = (Some(append), Some(append), None);
            let event = TaskArtifactUpdateEvent { task_id, context_id, artifact, append, last_chunk, metadata };
            Ok(StreamResponse::ArtifactUpdate(event))
        };
        let last = if is_bad { TaskState::Failed } else { TaskState::Completed };
        stream::iter([status(TaskState::Working), artifact(false), artifact(true), status(last)]).boxed()
    }

    fn cancel(&self, _: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        stream::empty().boxed()
    }
}

/// A client agent, and an agent behind a server on loopback.
struct Agents {
    planner: ProtocolTracer,
    writer: ProtocolTracer,
    http: reqwest::Client,
    url: String,
    grpc_url: String,
}

impl Agents {
    async fn start() -> Self {
        _ = rustls::crypto::ring::default_provider().install_default();
        let (planner, writer) = (ProtocolTracer::new("planner"), ProtocolTracer::new("writer"));
        let card: AgentCard = serde_json::from_value(json!({
            "name": "writer", "version": "2.1", "description": "Writes.", "supportedInterfaces": [], "capabilities": {}
        }))
        .unwrap();
        // The webhook is on loopback.
        let sender = HttpPushSenderConfig { validate_urls: false, ..HttpPushSenderConfig::default() };
        let executor = TracedA2aExecutor::new(Writer(writer.clone()));
        let handler = DefaultRequestHandler::new(executor, InMemoryTaskStore::new())
            .with_push_notifications(InMemoryPushConfigStore::new(), HttpPushSender::new(Some(sender)))
            .with_capabilities(a2a_types::AgentCapabilities {
                streaming: Some(true),
                push_notifications: Some(true),
                extended_agent_card: Some(true),
                ..Default::default()
            })
            .with_extended_agent_card(card.clone());
        let handler = Arc::new(TracedA2aHandler::new(handler, &writer).with_card(&card));
        let url = servers::serve(servers::a2a_routes(handler.clone())).await;
        let service = A2aServiceServer::new(GrpcHandler::new(handler));
        let grpc_url = servers::serve_grpc(tonic::transport::Server::builder().add_service(service)).await;
        Self { planner, writer, http: reqwest::Client::new(), url, grpc_url }
    }

    fn json_rpc(&self) -> TracedA2aTransport<JsonRpcTransport> {
        let url = format!("{}/rpc", self.url);
        TracedA2aTransport::new(JsonRpcTransport::new(self.http.clone(), url.clone()), &self.planner, "writer")
            .with_url(url)
    }

    fn rest(&self) -> TracedA2aTransport<RestTransport> {
        let url = format!("{}/rest", self.url);
        TracedA2aTransport::new(RestTransport::new(self.http.clone(), url.clone()), &self.planner, "writer")
            .with_url(url)
    }

    /// Returns the spans of the client and those of the server, by start.
    fn spans(&self) -> [Vec<SpanRecord>; 2] {
        [&self.planner, &self.writer].map(|tracer| {
            let mut spans = tracer.protocol_spans();
            spans.sort_by_key(|record| record.span.start);
            spans
        })
    }
}

fn message(text: &str) -> SendMessageRequest {
    let message = Message::new(Role::User, vec![Part::text(text)]);
    SendMessageRequest { message, configuration: None, metadata: None, tenant: None }
}

fn states(record: &SpanRecord) -> Vec<&str> {
    record.events.iter().map(|event| &*event.attributes["a2a.task.state"]).collect()
}

/// Calls every method once. Returns the id of the task.
async fn call_all(client: &A2AClient<impl Transport>) -> String {
    let SendMessageResponse::Task(task) = client.send_message(&message("write")).await.unwrap() else { panic!() };
    let (id, tenant) = (task.id, None);
    let events: Vec<_> = client.send_streaming_message(&message("write")).await.unwrap().collect().await;
    assert!(events.len() > 3 && events.iter().all(Result::is_ok), "{events:?}");
    client.get_task(&GetTaskRequest { id: id.clone(), history_length: None, tenant: None }).await.unwrap();
    let list: ListTasksRequest = serde_json::from_value(json!({})).unwrap();
    client.list_tasks(&list).await.unwrap();
    // The task has ended.
    let cancel = CancelTaskRequest { id: id.clone(), metadata: None, tenant: None };
    assert!(client.cancel_task(&cancel).await.is_err());
    assert!(client.subscribe_to_task(&SubscribeToTaskRequest { id: id.clone(), tenant: None }).await.is_err());
    let config: TaskPushNotificationConfig =
        serde_json::from_value(json!({"url": "https://planner.example/hook", "id": "c-1", "taskId": id})).unwrap();
    client.create_push_config(&config).await.unwrap();
    let (task_id, config) = (id.clone(), "c-1".to_owned());
    let get = GetTaskPushNotificationConfigRequest { task_id, id: config.clone(), tenant: None };
    client.get_push_config(&get).await.unwrap();
    let list =
        ListTaskPushNotificationConfigsRequest { task_id: id.clone(), page_size: None, page_token: None, tenant };
    client.list_push_configs(&list).await.unwrap();
    let delete = DeleteTaskPushNotificationConfigRequest { task_id: id.clone(), id: config, tenant: None };
    client.delete_push_config(&delete).await.unwrap();
    client.get_extended_agent_card(&GetExtendedAgentCardRequest { tenant: None }).await.unwrap();
    id
}

fn check_all([calls, served]: [Vec<SpanRecord>; 2], task: &str) {
    let of_a2a = |spans: &[SpanRecord]| -> Vec<SpanRecord> {
        spans.iter().filter(|record| record.attribute("a2a.method.name").is_some()).cloned().collect()
    };
    let (calls, requests) = (of_a2a(&calls), of_a2a(&served));
    let methods = [
        "SendMessage",
        "SendStreamingMessage",
        "GetTask",
        "ListTasks",
        "CancelTask",
        "SubscribeToTask",
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
        "GetExtendedAgentCard",
    ];
    let with_task = |method| !matches!(method, "SendStreamingMessage" | "ListTasks" | "GetExtendedAgentCard");
    for (records, role) in [(&calls, SpanRole::Client), (&requests, SpanRole::Server)] {
        let names: Vec<_> = records.iter().map(|record| record.attribute("a2a.method.name").unwrap()).collect();
        assert_eq!(names, methods);
        for (record, method) in records.iter().zip(methods) {
            assert_eq!((&*record.span.name, record.span.role), (method, role));
            assert_eq!(record.attribute("a2a.protocol.version"), Some("1.0"));
            let id = record.a2a_task_id().filter(|_| with_task(method));
            assert_eq!(id, Some(task).filter(|_| with_task(method)), "{method}");
            let is_bad = matches!(method, "CancelTask" | "SubscribeToTask");
            assert_eq!(record.span.error.is_some(), is_bad, "{method}: {:?}", record.span.error);
            assert_eq!(record.attribute("error.type").is_some_and(|code| code.starts_with("-32")), is_bad, "{method}");
        }
        let streamed = &records[1];
        let seen = states(streamed);
        assert!(seen.ends_with(&["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]), "{seen:?}");
        assert_eq!(streamed.a2a_artifact_count, 1);
        assert!(streamed.attribute("gen_ai.conversation.id").is_some());
    }
    for (call, request) in calls.iter().zip(&requests) {
        assert_eq!(request.span.parent_span_id, Some(call.span.span_id), "{}", call.span.name);
        assert_eq!(call.attribute("server.address"), Some("127.0.0.1"));
        assert_eq!(request.span.call_id, call.span.call_id);
    }
    // The executor's calls are below the requests.
    for request in &requests[..2] {
        let tool = served.iter().find(|record| record.span.parent_span_id == Some(request.span.span_id)).unwrap();
        assert_eq!((tool.mcp_tool_name(), &tool.span.task), (Some("search"), &request.span.task));
    }
}

#[tokio::test]
async fn every_method_over_json_rpc_is_a_client_and_a_server_span() {
    let agents = Agents::start().await;
    let task = call_all(&A2AClient::new(agents.json_rpc())).await;
    check_all(agents.spans(), &task);
}

#[tokio::test]
async fn every_method_over_http_and_json_is_a_client_and_a_server_span() {
    let agents = Agents::start().await;
    let task = call_all(&A2AClient::new(agents.rest())).await;
    check_all(agents.spans(), &task);
}

#[tokio::test]
async fn every_method_over_grpc_is_a_client_and_a_server_span() {
    let agents = Agents::start().await;
    let transport = GrpcTransport::connect(&*agents.grpc_url).await.unwrap();
    let transport = TracedA2aTransport::new(transport, &agents.planner, "writer").with_url(&*agents.grpc_url);
    let task = call_all(&A2AClient::new(transport)).await;
    check_all(agents.spans(), &task);
}

#[tokio::test]
async fn spans_have_what_the_card_of_the_agent_and_the_message_say() {
    let agents = Agents::start().await;
    let factory = JsonRpcTransportFactory::new(Some(agents.http.clone()));
    let factory = Arc::new(TracedA2aTransportFactory::new(factory, &agents.planner));
    let clients = A2AClientFactory::builder().no_defaults().register(factory).build();
    let interface =
        json!({"url": format!("{}/rpc", agents.url), "protocolBinding": "JSONRPC", "protocolVersion": "1.0"});
    let card: AgentCard = serde_json::from_value(json!({
        "name": "writer", "version": "2.1", "description": "Writes.", "supportedInterfaces": [interface],
        "capabilities": {}
    }))
    .unwrap();
    let client = clients.create_from_card(&card).await.unwrap();
    let mut request = message("write");
    request.message.reference_task_ids = Some(vec!["t-7".to_owned(), "t-8".to_owned()]);
    client.send_message(&request).await.unwrap();
    let [calls, served] = agents.spans();
    for record in [&calls[0], &served[0]] {
        let attributes = ["gen_ai.agent.name", "gen_ai.agent.version", "gen_ai.agent.description"];
        assert_eq!(attributes.map(|name| record.attribute(name)), ["writer", "2.1", "Writes."].map(Some));
        let references = record.attributes.get("a2a.message.reference_task_ids");
        assert_eq!(references, Some(AttributeValue::Texts(&["t-7".to_owned(), "t-8".to_owned()])));
    }
    assert_eq!(calls[0].remote_agent_url(), Some(&*format!("{}/rpc", agents.url)));
}

#[tokio::test]
async fn a_task_that_fails_is_an_error_of_both_sides() {
    let agents = Agents::start().await;
    let task = agents.planner.task("write");
    let client = A2AClient::new(agents.rest().below(&task.tracer()));
    client.send_message(&message("fail")).await.unwrap();
    task.end();
    let [calls, served] = agents.spans();
    let errors =
        |spans: &[SpanRecord]| -> Vec<_> { spans.iter().filter_map(|record| record.span.error.clone()).collect() };
    assert_eq!((errors(&calls), errors(&served)), (vec!["task failed".to_owned()], vec!["task failed".to_owned()]));
    let spans: Vec<Span> = calls.into_iter().chain(served).map(|record| record.span).collect();
    let trees = TraceTree::build(spans);
    let names: Vec<_> = trees[0].nodes.iter().map(|node| (node.depth, &*node.span.name)).collect();
    let expected = [(0, "invoke_agent planner"), (1, "SendMessage"), (2, "SendMessage"), (3, "tools/call search")];
    assert_eq!((names, trees.len(), trees[0].broken_hops.len()), (expected.to_vec(), 1, 0));
}

#[tokio::test]
async fn an_agent_finds_the_context_in_the_metadata_where_headers_are_dropped() {
    let agents = Agents::start().await;
    let call = agents.planner.a2a_call("writer", A2aRequest::task("write"));
    let mut request = message("write");
    let context = call.context().to_headers().into_iter();
    request.metadata = Some(context.map(|(name, value)| (name.to_owned(), Value::String(value))).collect());
    A2AClient::new(JsonRpcTransport::new(agents.http.clone(), format!("{}/rpc", agents.url)))
        .send_message(&request)
        .await
        .unwrap();
    let [_, served] = agents.spans();
    assert_eq!(served[0].span.parent_span_id, Some(call.span_id()));
    call.end();
    // A client writes it there if asked to; the headers come first.
    let client = A2AClient::new(agents.json_rpc().with_context_in_metadata());
    client.send_message(&message("write")).await.unwrap();
    let [calls, served] = agents.spans();
    let [_, sent] = &*calls else { panic!() };
    assert!(served.iter().any(|record| record.span.parent_span_id == Some(sent.span.span_id)));
}

#[tokio::test]
async fn a_stream_that_is_left_before_its_end_is_cancelled_unless_the_task_has_ended() {
    let agents = Agents::start().await;
    let client = A2AClient::new(agents.json_rpc());
    for last in ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"] {
        let mut events = client.send_streaming_message(&message("write")).await.unwrap();
        while let Some(Ok(event)) = events.next().await {
            if serde_json::to_value(event).unwrap()["statusUpdate"]["status"]["state"] == last {
                break;
            }
        }
    }
    let errors: Vec<_> = agents.planner.protocol_spans().into_iter().map(|record| record.span.error).collect();
    assert_eq!(errors, [Some("cancelled".to_owned()), None]);
}

#[tokio::test]
async fn push_notifications_continue_the_trace_of_the_message() {
    let agents = Agents::start().await;
    let tracer = agents.planner.clone();
    let hook = axum::routing::post(async move |headers: HeaderMap, Json(body): Json<Value>| {
        assert!(!headers.contains_key("traceparent"), "the crate sends headers now");
        tracer.receive_push_notification("writer", &headers, &body).end();
    });
    let hook = format!("{}/hook", servers::serve(Router::new().route("/hook", hook)).await);
    let mut request = message("write");
    request.configuration = Some(serde_json::from_value(json!({"taskPushNotificationConfig": {"url": hook}})).unwrap());
    A2AClient::new(agents.json_rpc()).send_message(&request).await.unwrap();
    let [calls, served] = agents.spans();
    let request = served.iter().find(|record| record.span.role == SpanRole::Server).unwrap();
    let notified: Vec<_> = calls.iter().filter(|record| record.span.name == "PushNotification").collect();
    let states: Vec<_> = notified.iter().map(|record| record.attribute("a2a.task.state")).collect();
    // The artifact comes in two parts.
    assert_eq!(states, [Some("TASK_STATE_WORKING"), None, None, Some("TASK_STATE_COMPLETED")]);
    for record in notified {
        assert_eq!((record.span.parent_span_id, record.peer()), (Some(request.span.span_id), Some("writer")));
        assert_eq!(record.a2a_task_id(), request.a2a_task_id());
    }
    let trees = TraceTree::build(calls.into_iter().chain(served).map(|record| record.span));
    assert_eq!((trees.len(), &*trees[0].broken_hops), (1, &[] as &[_]), "{}", trees[0]);
}

#[test]
fn the_headers_of_a_push_notification_come_before_its_metadata() {
    let tracer = ProtocolTracer::new("planner");
    let (one, other) = (TraceContext::root(), TraceContext::root());
    let metadata = json!({"traceparent": other.to_traceparent().to_string()});
    let body =
        json!({"statusUpdate": {"taskId": "t-1", "status": {"state": "TASK_STATE_WORKING"}, "metadata": metadata}});
    let parent = |headers| tracer.receive_push_notification("writer", headers, &body).context().parent_span_id;
    assert_eq!(parent(one.to_headers()), Some(one.span_id));
    assert_eq!(parent(Vec::new()), Some(other.span_id));
}

#[test]
fn requests_over_http_are_read_in_both_versions() {
    let message = json!({"messageId": "m-1", "taskId": "t-1", "contextId": "c-1", "referenceTaskIds": ["t-7"]});
    let body = json!({"message": message, "tenant": "acme"});
    let cases = [
        ("POST", "/message:send", "SendMessage"),
        ("POST", "/v1/message:stream", "SendStreamingMessage"),
        ("GET", "/acme/tasks?pageSize=5", "ListTasks"),
        ("GET", "/tasks/t-1?historyLength=1", "GetTask"),
        ("POST", "/v1/tasks/t-1:cancel", "CancelTask"),
        ("GET", "/tasks/t-1:subscribe", "SubscribeToTask"),
        ("POST", "/tasks/t-1/pushNotificationConfigs", "CreateTaskPushNotificationConfig"),
        ("GET", "/v1/tasks/t-1/pushNotificationConfigs/", "ListTaskPushNotificationConfigs"),
        ("GET", "/tasks/t-1/pushNotificationConfigs/c", "GetTaskPushNotificationConfig"),
        ("DELETE", "/tasks/t-1/pushNotificationConfigs/c", "DeleteTaskPushNotificationConfig"),
        ("GET", "/extendedAgentCard", "GetExtendedAgentCard"),
        ("GET", "/v1/card", "GetExtendedAgentCard"),
    ];
    for (method, path, operation) in cases {
        let request = A2aRequest::from_http(method, path, &body).unwrap_or_else(|| panic!("{path}"));
        let has_task = path.contains("t-1") || path.contains("message:");
        assert_eq!((request.method, request.task_id), (operation, Some("t-1").filter(|_| has_task)), "{path}");
        let is_message = path.contains("message:");
        assert_eq!(request.message_id, Some("m-1").filter(|_| is_message));
        assert_eq!(request.reference_task_ids, if is_message { vec!["t-7"] } else { Vec::new() });
    }
    for (method, path) in [("GET", "/message:send"), ("DELETE", "/tasks/t-1"), ("GET", "/health"), ("GET", "")] {
        assert_eq!(A2aRequest::from_http(method, path, &body), None, "{method} {path}");
    }
    assert_eq!(A2aRequest::default().with_version(None).protocol_version, Some("0.3"));
    assert_eq!(A2aRequest::default().with_version(Some(" 1.0 ")).protocol_version, Some("1.0"));
}

#[test]
fn what_an_executor_does_after_its_request_has_ended_is_below_it() {
    let tracer = ProtocolTracer::new("writer");
    let context = TraceContext::root();
    let params = context.to_headers().into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect();
    tracer.for_a2a_request(&params).mcp_call("web", McpRequest::tool("search")).end();
    assert_eq!(tracer.protocol_spans()[0].span.parent_span_id, Some(context.span_id));
}
