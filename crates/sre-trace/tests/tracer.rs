//! Spans of calls: their places, attributes and outcomes, and the agent events that they give.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sre_core::{AgentEvent, EventKind, ManualClock, Observe, Signal, SpanRole, Timestamp};
use sre_trace::{
    A2aRequest, BrokenHop, McpRequest, McpTransport, ProtocolSpan, ProtocolTracer, ProtocolType, Span, SpanLink,
    TraceContext, TraceTree, TracerOptions, meta_headers,
};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A tracer whose clock is set by hand, with the events that it emits.
struct Traced {
    tracer: ProtocolTracer,
    clock: Arc<ManualClock>,
    events: Arc<Mutex<Vec<AgentEvent>>>,
}

impl Traced {
    fn new(agent: &str) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let options = TracerOptions {
            clock: clock.clone(),
            events: Some(Arc::new(move |event| sink.lock().unwrap().push(event))),
            ..TracerOptions::default()
        };
        Self { tracer: ProtocolTracer::with_options(agent, options), clock, events }
    }

    fn spans(&self) -> Vec<Span> {
        self.tracer.protocol_spans().into_iter().map(|record| record.span).collect()
    }

    /// Returns the events without ids, times and spans.
    fn events(&self) -> Vec<Value> {
        let short = |event: &AgentEvent| {
            let mut json = serde_json::to_value(event).unwrap();
            for field in ["time", "agent", "task", "trace_id", "span_id", "parent_span_id", "span"] {
                json.as_object_mut().unwrap().remove(field);
            }
            json
        };
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event.event.kind() != EventKind::SpanFinished).map(short).collect()
    }
}

fn no_headers() -> [(&'static str, &'static str); 0] {
    []
}

fn attributes(span: &ProtocolSpan) -> Value {
    serde_json::to_value(&span.record().attributes).unwrap()
}

/// Sends an MCP request from one tracer to another, in JSON.
fn mcp_hop(from: &ProtocolTracer, to: &ProtocolTracer) -> (ProtocolSpan, ProtocolSpan) {
    let mut body =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "_meta": {}}});
    let call = from.mcp_call(to.agent_id(), McpRequest::from_json_rpc(&body));
    call.context().write_meta(body["params"]["_meta"].as_object_mut().unwrap());
    let meta = body["params"]["_meta"].as_object().unwrap();
    let received = to.receive_mcp(from.agent_id(), meta_headers(meta), McpRequest::from_json_rpc(&body));
    (call, received)
}

fn a2a_hop(from: &ProtocolTracer, to: &ProtocolTracer) -> (ProtocolSpan, ProtocolSpan) {
    let request = A2aRequest { message_id: Some("m-1"), ..A2aRequest::task("write") };
    let call = from.a2a_call(to.agent_id(), request.clone());
    let received = to.receive_a2a(from.agent_id(), from.inject(&call), request);
    (call, received)
}

#[test]
fn five_hops_of_both_protocols_are_one_tree() {
    let agents = ["planner", "writer", "editor", "web", "cache", "store"].map(Traced::new);
    let task = agents[0].tracer.task("plan");
    let mut here = task.tracer();
    let mut open = vec![task];
    for (hop, next) in agents[1..].iter().enumerate() {
        let (call, received) = if hop % 2 == 0 { a2a_hop(&here, &next.tracer) } else { mcp_hop(&here, &next.tracer) };
        here = received.tracer();
        open.extend([call, received]);
    }
    while let Some(span) = open.pop() {
        span.end();
    }
    let trees = TraceTree::build(agents.iter().flat_map(Traced::spans));
    assert_eq!(trees.len(), 1);
    assert_eq!((trees[0].nodes.len(), trees[0].nodes.last().unwrap().depth), (11, 10), "{}", trees[0]);
    assert_eq!(trees[0].broken_hops, []);
}

#[test]
fn a_peer_that_drops_the_context_is_named() {
    let (planner, writer) = (Traced::new("planner"), Traced::new("writer"));
    let request = A2aRequest { message_id: Some("m-1"), ..A2aRequest::default() };
    let ask = planner.tracer.a2a_call("writer", request.clone());
    let answer = writer.tracer.receive_a2a("planner", no_headers(), request);
    assert_eq!(answer.context().parent_span_id, None, "the root of another trace");
    answer.end();
    ask.end();
    let trees = TraceTree::build(planner.spans().into_iter().chain(writer.spans()));
    assert_eq!(trees.len(), 2);
    for tree in trees {
        let [BrokenHop::DroppedContext { caller, receiver, .. }] = &*tree.broken_hops else { panic!("{tree}") };
        assert_eq!((caller.agent.as_deref(), receiver.agent.as_deref()), (Some("planner"), Some("writer")));
    }
}

#[test]
fn an_a2a_call_has_the_attributes_of_the_conventions() {
    let planner = Traced::new("planner");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {
        "tenant": "billing", "message": {"messageId": "m-1", "contextId": "c-1", "referenceTaskIds": ["t-7", "t-8"],
            "parts": [{"text": "secret"}]}}});
    let request = A2aRequest {
        target_url: Some("https://user:secret@writer.example:8443/a2a?key=secret"),
        protocol_version: Some("1.0"),
        agent_version: Some("2.1"),
        agent_description: Some("Writes."),
        ..A2aRequest::from_json_rpc(&body)
    };
    let mut call = planner.tracer.a2a_call("writer", request);
    assert_eq!((&*call.record().span.name, call.record().span.role), ("SendMessage", SpanRole::Client));
    call.set_task_state("working");
    call.set_response(
        &json!({"jsonrpc": "2.0", "id": 1, "result": {"task": {"id": "t-1", "contextId": "c-1",
            "status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [{"artifactId": "a", "parts": [{"text": "secret"}]}]}}}),
        Some("0.05".parse().unwrap()),
    );
    assert_eq!(
        attributes(&call),
        json!({
            "a2a.method.name": "SendMessage", "a2a.message.id": "m-1", "a2a.task.id": "t-1", "a2a.tenant": "billing",
            "a2a.task.state": "TASK_STATE_COMPLETED", "a2a.protocol.version": "1.0", "gen_ai.conversation.id": "c-1",
            "a2a.message.reference_task_ids": ["t-7", "t-8"], "gen_ai.agent.name": "writer",
            "gen_ai.agent.version": "2.1", "gen_ai.agent.description": "Writes.", "server.address": "writer.example", "server.port": 8443,
        })
    );
    let record = call.record().clone();
    assert_eq!(
        (record.a2a_task_id(), record.a2a_message_id(), record.a2a_artifact_count),
        (Some("t-1"), Some("m-1"), 1)
    );
    assert_eq!((record.remote_agent_id(), record.mcp_server_id()), (Some("writer"), None));
    let states: Vec<&str> = record.events.iter().map(|event| &*event.attributes["a2a.task.state"]).collect();
    assert_eq!(states, ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]);
    call.end();
    let report = planner.tracer.report();
    assert_eq!((report.total_cost_usd().to_string(), report.error_count()), ("0.05".to_owned(), 0));
    assert!(!serde_json::to_string(&report).unwrap().contains("secret"), "contents and credentials are not kept");
}

#[test]
fn an_mcp_call_has_the_attributes_of_the_conventions() {
    let support = Traced::new("support");
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "lookup", "arguments": {"order": "secret"}}});
    let request = McpRequest {
        session_id: Some("s-1"),
        protocol_version: Some("2025-11-25"),
        transport: Some(McpTransport::Http),
        server_url: Some("http://[::1]:9000/mcp"),
        ..McpRequest::from_json_rpc(&body)
    };
    let call = support.tracer.mcp_call("orders", request);
    assert_eq!((&*call.record().span.name, call.record().span.role), ("tools/call lookup", SpanRole::Client));
    assert_eq!(
        attributes(&call),
        json!({
            "mcp.method.name": "tools/call", "mcp.session.id": "s-1", "mcp.protocol.version": "2025-11-25",
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "jsonrpc.request.id": "7",
            "network.transport": "tcp", "network.protocol.name": "http", "service.peer.name": "orders",
            "server.address": "::1", "server.port": 9000,
        })
    );
    let record = call.record();
    assert_eq!(
        (record.mcp_server_id(), record.mcp_tool_name(), record.mcp_request_id()),
        (Some("orders"), Some("lookup"), Some("7"))
    );
    assert_eq!(record.span.call_id.as_deref(), Some("s-1/7"));

    let list = McpRequest { method: "tools/list", transport: Some(McpTransport::Stdio), ..McpRequest::default() };
    let list = support.tracer.mcp_call("orders", list);
    assert_eq!(
        attributes(&list),
        json!({"mcp.method.name": "tools/list", "network.transport": "pipe", "service.peer.name": "orders"})
    );
}

#[test]
fn failures_have_the_type_that_the_conventions_name() {
    let support = Traced::new("support");
    let failed = json!({"task": {"id": "t", "status": {"state": "TASK_STATE_FAILED"}}});
    let refused = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "Task not found"}});
    let a2a = |response: &Value| {
        let mut call = support.tracer.a2a_call("writer", A2aRequest::default());
        call.set_response(response, None);
        (call.record().attribute("error.type").map(str::to_owned), call.record().span.error.clone())
    };
    let mcp = |response: &Value| {
        let mut call = support.tracer.mcp_call("orders", McpRequest::tool("lookup"));
        call.set_response(response, None);
        (call.record().attribute("error.type").map(str::to_owned), call.record().span.error.clone())
    };
    let error = |kind: &str, message: &str| (Some(kind.to_owned()), Some(message.to_owned()));
    assert_eq!(a2a(&failed), error("TASK_STATE_FAILED", "task failed"));
    assert_eq!(a2a(&refused), error("-32001", "Task not found"));
    assert_eq!(a2a(&json!({"id": "t", "status": {"state": "input-required"}})), (None, None), "version 0.3");
    assert_eq!(mcp(&refused), error("-32001", "Task not found"));
    assert_eq!(
        mcp(&json!({"content": [{"type": "text", "text": "no"}], "isError": true})),
        error("tool_error", "the tool returned an error")
    );
    assert_eq!(mcp(&json!({"result": {"content": []}})), (None, None));
    let mut request = support.tracer.http_call("https://example.com/", "GET", "/orders?key=secret");
    request.set_status(503);
    assert_eq!(request.record().span.error.as_deref(), Some("HTTP status 503"));
    assert_eq!(attributes(&request)["url.full"], "https://example.com/orders");
    drop(request);
    drop(support.tracer.a2a_call("writer", A2aRequest::default()));
    assert_eq!(support.spans().last().unwrap().error.as_deref(), Some("cancelled"));
}

#[test]
fn calls_are_agent_events() {
    let support = Traced::new("support");
    let request = support.tracer.receive_a2a("user", [("traceparent", CALLER)], A2aRequest::task("refund"));
    let inside = request.tracer();
    support.clock.advance(Duration::from_secs(1));
    let arguments = json!({"order": 7});
    let mut lookup = inside.mcp_call("orders", McpRequest { params: Some(&arguments), ..McpRequest::tool("lookup") });
    support.clock.advance(Duration::from_secs(2));
    lookup.set_error("timed out");
    lookup.end();
    inside.mcp_call("orders", McpRequest { method: "tools/list", ..McpRequest::default() }).end();
    inside.a2a_call("writer", A2aRequest::default()).end();
    inside.a2a_call("writer", A2aRequest { method: "tasks/get", ..A2aRequest::default() }).end();
    let mut http = inside.http_call("https://example.com", "GET", "/x");
    http.set_status(200);
    http.end();
    request.end();
    let hash = sre_core::arguments_hash(&arguments.to_string());
    assert_eq!(
        support.events(),
        [
            json!({"event": "task_started", "name": "refund"}),
            json!({"event": "tool_call", "tool": "lookup", "arguments_hash": hash, "success": false, "error": "timed out", "duration_ms": 2000.0}),
            json!({"event": "handoff", "from": "support", "to": "writer", "depth": 1}),
            json!({"event": "step_finished", "name": "writer", "kind": "a2a", "success": true, "duration_ms": 0.0}),
            json!({"event": "step_finished", "name": "writer", "kind": "a2a", "success": true, "duration_ms": 0.0}),
            json!({"event": "http_request", "url": "https://example.com/x", "status_code": 200}),
            json!({"event": "task_finished", "success": true, "duration_ms": 3000.0}),
        ]
    );
    let events = support.events.lock().unwrap();
    assert!(events.iter().all(|event| event.task == events[0].task && event.agent == "support"));
    assert!(events.iter().all(|event| event.trace_id == events[0].trace_id));
    let spans = |tree: &[TraceTree]| tree[0].nodes.iter().map(|node| node.span.clone()).collect::<Vec<_>>();
    let tree = TraceTree::build(events.iter().filter_map(Span::of));
    assert_eq!((tree.len(), tree[0].broken_hops.len()), (1, 1), "the caller's span is in its own process");
    assert_eq!(spans(&tree), spans(&TraceTree::build(support.spans())), "events have their spans as they are");
}

/// As in traces from OpenTelemetry: the client reports the call, and a request is never a task.
#[test]
fn a_server_reports_a_tool_call_only_if_it_knows_of_no_client() {
    let orders = Traced::new("orders");
    orders.tracer.receive_mcp("support", [("traceparent", CALLER)], McpRequest::tool("lookup")).end();
    assert_eq!(orders.events(), [] as [Value; 0]);
    orders.tracer.receive_mcp("support", no_headers(), McpRequest::tool("lookup")).end();
    orders
        .tracer
        .receive_mcp("support", no_headers(), McpRequest { method: "tools/list", ..McpRequest::default() })
        .end();
    assert_eq!(orders.events(), [json!({"event": "tool_call", "tool": "lookup", "success": true, "duration_ms": 0.0})]);
    assert_eq!(orders.events.lock().unwrap()[0].task, None);
}

#[test]
fn an_engine_observes_calls_without_an_adapter() {
    struct Failures(Mutex<Vec<String>>);
    impl Observe for Failures {
        fn observe(&self, event: &AgentEvent, _: &mut dyn FnMut(Signal)) {
            if event.event.outcome() == Some(false) {
                self.0.lock().unwrap().push(event.agent.clone());
            }
        }
    }
    let engine = Arc::new(Failures(Mutex::default()));
    let observer = engine.clone();
    let events = move |event: AgentEvent| observer.observe(&event, &mut |_| {});
    let options = TracerOptions { events: Some(Arc::new(events)), ..TracerOptions::default() };
    let tracer = ProtocolTracer::with_options("support", options);
    tracer.mcp_call("orders", McpRequest::tool("lookup")).set_error("timed out");
    assert_eq!(*engine.0.lock().unwrap(), ["support"]);
}

#[test]
fn a_trace_that_is_not_sampled_is_propagated_and_counted_but_not_kept() {
    let support = Traced::new("support");
    let caller = CALLER.replace("-01", "-00");
    let request = support.tracer.receive_a2a("user", [("traceparent", &caller)], A2aRequest::default());
    let call = request.tracer().mcp_call("orders", McpRequest::tool("lookup"));
    assert!(support.tracer.inject(&call)[0].1.ends_with("-00"));
    call.end();
    request.end();
    assert_eq!((support.spans(), support.events().len()), (vec![], 3));
}

#[test]
fn what_travels_with_the_caller_travels_on() {
    let support = Traced::new("support");
    let headers = [("traceparent", CALLER), ("tracestate", "a=1"), ("baggage", "tenant=x")];
    let request = support.tracer.receive_a2a("user", headers, A2aRequest::default());
    let call = request.tracer().a2a_call("writer", A2aRequest::default());
    let sent = support.tracer.inject(&call);
    assert_eq!(sent[1..], [("tracestate", "a=1".to_owned()), ("baggage", "tenant=x".to_owned())]);
    let begun = support.tracer.receive_a2a("user", [("baggage", "tenant=x")], A2aRequest::default());
    assert_eq!((begun.context().parent_span_id, begun.context().baggage.get("tenant")), (None, Some("x")));
    assert_eq!(support.tracer.extract(headers).span_id.to_string(), "b7ad6b7169203331");
}

#[test]
fn a_tracer_begins_below_the_context_it_is_given() {
    let parent = TraceContext::from_traceparent(CALLER).unwrap();
    let options = TracerOptions { parent_context: Some(parent.clone()), ..TracerOptions::default() };
    let tracer = ProtocolTracer::with_options("support", options);
    assert_eq!((tracer.trace_id(), tracer.context()), (parent.trace_id, &parent));
    let call = tracer.mcp_call("orders", McpRequest::tool("lookup"));
    assert_eq!(call.context().parent_span_id, Some(parent.span_id));
    let top = ProtocolTracer::new("support");
    let (one, other) = (top.task("a"), top.task("b"));
    assert_eq!((one.context().trace_id, one.context().parent_span_id), (top.trace_id(), None));
    assert_eq!(other.context().trace_id, top.trace_id());
}

#[test]
fn a_report_counts_and_orders_what_was_traced() {
    let support = Traced::new("support");
    let task = support.tracer.task("refund");
    support.clock.advance(Duration::from_secs(1));
    let task_id = (task.context().trace_id, task.span_id());
    let mut lookup = task.tracer().mcp_call("orders", McpRequest::tool("lookup"));
    let link = SpanLink::new(task_id.0, task_id.1);
    lookup.add_link(link.clone());
    lookup.add_link(link.with_relationship("caused_by").with_attribute("reason", "retry"));
    support.clock.advance(Duration::from_secs(2));
    assert_eq!(lookup.duration_ms(), 2000.0);
    lookup.end();
    let mut ask = task.tracer().a2a_call("writer", A2aRequest::default());
    support.clock.advance(Duration::from_secs(1));
    ask.set_error("refused");
    drop(ask);
    task.end();
    let report = support.tracer.report();
    assert_eq!((&*report.agent_id, report.trace_id), ("support", support.tracer.trace_id()));
    assert_eq!((report.a2a_calls(), report.mcp_calls(), report.error_count()), (1, 1, 1));
    assert_eq!(
        report.protocol_breakdown().into_iter().collect::<Vec<_>>(),
        [(ProtocolType::A2a, 1), (ProtocolType::Mcp, 1), (ProtocolType::Internal, 1)]
    );
    assert_eq!((report.total_duration_ms(), report.dropped_spans), (4000.0, 0));
    let labels: Vec<&str> = report.timeline.iter().map(|entry| &*entry.label).collect();
    assert_eq!(labels, ["invoke_agent support", "tools/call lookup", "SendMessage"]);
    assert_eq!(report.timeline[1].peer_agent.as_deref(), Some("orders"));
    let links = serde_json::to_value(&report.protocol_spans[0].links).unwrap();
    let (trace_id, span_id) = (task_id.0.to_string(), task_id.1.to_string());
    assert_eq!(
        links,
        json!([
            {"trace_id": trace_id, "span_id": span_id, "relationship": "follows_from", "attributes": {}},
            {"trace_id": trace_id, "span_id": span_id, "relationship": "caused_by", "attributes": {"reason": "retry"}},
        ])
    );
    assert_eq!(report.traces.len(), 1);
    assert!(report.to_string().contains("└─ ✗ SendMessage: refused"), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["traces"][0]["errors"], &json["timeline"][2]["direction"]), (&1.into(), &"client".into()));
}

#[test]
fn to_dict_has_exactly_the_fields_of_the_python_package() {
    let support = Traced::new("support");
    support
        .tracer
        .receive_a2a("user", no_headers(), A2aRequest { message_id: Some("m-1"), ..A2aRequest::default() })
        .end();
    let request = McpRequest { request_id: Some("7".into()), ..McpRequest::tool("lookup") };
    let mut lookup = support.tracer.mcp_call("orders", request);
    support.clock.advance(Duration::from_millis(1_500));
    lookup.set_response(&json!({"content": []}), "0.05".parse().ok());
    lookup.end();
    support.tracer.http_call("https://example.com", "GET", "/orders").set_error("refused");
    let report = support.tracer.report();
    let (dict, received) = (report.to_dict(), &report.protocol_spans[0].span);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let span = "attributes cost_usd duration_ms end_time error input_data kind links name output_data parent_id protocol \
                remote_agent_id remote_agent_url role span_id start_time status trace_id traceparent";
    let with = |own: &str| {
        let mut all: Vec<&str> = span.split(' ').chain(own.split(' ')).filter(|key| !key.is_empty()).collect();
        all.sort_unstable();
        all.join(" ")
    };
    let spans = dict["spans"].as_array().unwrap();
    assert_eq!(keys(&spans[0]), with("a2a_artifact_count a2a_message_id a2a_task_id"));
    assert_eq!(keys(&spans[1]), with("mcp_request_id mcp_server_id mcp_tool_name"));
    assert_eq!(keys(&spans[2]), with(""));
    let field = |name: &str| spans.iter().map(|span| span[name].as_str().unwrap_or("")).collect::<Vec<_>>();
    assert_eq!(field("kind"), ["agent_task", "tool_call", "delegation"]);
    assert_eq!(field("status"), ["ok", "ok", "error"]);
    assert_eq!(field("remote_agent_id"), ["user", "", "example.com"]);
    assert_eq!(field("traceparent")[0], format!("00-{}-{}-01", received.trace_id, received.span_id));
    assert_eq!((&spans[1]["mcp_server_id"], &spans[1]["cost_usd"]), (&"orders".into(), &"0.05".into()));
    assert_eq!(
        keys(&dict),
        "a2a_calls agent_id error_count mcp_calls protocol_breakdown spans timeline total_cost_usd total_duration_ms trace_id"
    );
    assert_eq!(dict["protocol_breakdown"], json!({"a2a": 1, "mcp": 1, "http": 1}));
    assert_eq!((&dict["a2a_calls"], &dict["error_count"]), (&1.into(), &1.into()));
    assert_eq!((&dict["total_cost_usd"], &dict["total_duration_ms"]), (&"0.05".into(), &1500.0.into()));
    assert_eq!(
        keys(&dict["timeline"][0]),
        "agent_id direction duration_ms label peer_agent protocol span_id timestamp"
    );
    assert_eq!(
        (&dict["timeline"][0]["direction"], &dict["timeline"][1]["direction"]),
        (&"receive".into(), &"send".into())
    );
}

#[test]
fn the_spans_that_are_kept_are_bounded() {
    let options = TracerOptions { max_spans: 10, ..TracerOptions::default() };
    let tracer = ProtocolTracer::with_options("support", options);
    (0..25).for_each(|_| tracer.mcp_call("orders", McpRequest::tool("lookup")).end());
    let report = tracer.report();
    assert_eq!((report.protocol_spans.len(), report.dropped_spans), (10, 15));
    assert!(report.to_string().ends_with("15 earlier spans are no longer kept\n"));
}
