//! Clients and servers of the `rmcp` crate, within a process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientJsonRpcMessage, ClientRequest,
    GetMeta, PingRequest, ReadResourceRequestParams, RequestId, ServerRequest,
};
use rmcp::service::{PeerRequestOptions, RequestContext, RunningService};
use rmcp::transport::{IntoTransport, Transport};
use rmcp::{ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt};
use sre_core::{AgentEvent, Event};
use sre_trace::{
    ProtocolTracer, SpanRecord, SpanRole, TraceTree, TracedMcpHandler, TracedMcpTransport, TracerOptions, WithParent,
};
use tokio::sync::mpsc;

/// Answers `quick`, pings the client for `ask`, and says when any other call has arrived, which lasts until it is cancelled.
#[derive(Clone)]
struct Tools(mpsc::UnboundedSender<()>);

impl ServerHandler for Tools {
    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match &*params.name {
            "quick" => {}
            "ask" => {
                let tracer = context.extensions.get::<ProtocolTracer>().unwrap();
                let ping = PingRequest { method: Default::default(), extensions: Default::default() };
                let mut request = ServerRequest::PingRequest(ping);
                tracer.context().write_meta(&mut request.get_meta_mut().0.0);
                context.peer.send_request(request).await.unwrap();
            }
            _ => {
                self.0.send(()).unwrap();
                context.ct.cancelled().await;
            }
        }
        Ok(CallToolResult::success(Vec::new()).into())
    }
}

struct Connection {
    client: RunningService<RoleClient, ()>,
    arrived: mpsc::UnboundedReceiver<()>,
}

/// Connects a client below one tracer with a server of another.
async fn connect(client: &ProtocolTracer, server: &ProtocolTracer) -> Connection {
    let (to_server, to_client) = tokio::io::duplex(4096);
    let (sender, arrived) = mpsc::unbounded_channel();
    let handler = TracedMcpHandler::new(Tools(sender), server);
    let transport = IntoTransport::<RoleServer, _, _>::into_transport(to_client);
    let transport = TracedMcpTransport::stdio(transport, server, "agent");
    tokio::spawn(async move { drop(handler.serve(transport).await.unwrap().waiting().await) });
    let transport = IntoTransport::<RoleClient, _, _>::into_transport(to_server);
    let client = ().serve(TracedMcpTransport::stdio(transport, client, "tools")).await.unwrap();
    Connection { client, arrived }
}

fn call(tool: &'static str) -> CallToolRequestParams {
    CallToolRequestParams::new(tool)
}

/// Returns the span of the only call of a tool, once it has ended.
async fn called(tracer: &ProtocolTracer) -> SpanRecord {
    loop {
        let spans = tracer.protocol_spans();
        if let Some(record) = spans.into_iter().find(|record| record.attribute("mcp.method.name") == Some("tools/call"))
        {
            return record;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_below_a_task_is_a_tool_call_of_the_task() {
    let events = Arc::new(Mutex::new(Vec::<AgentEvent>::new()));
    let sink = events.clone();
    let sink = Arc::new(move |event| sink.lock().unwrap().push(event));
    let agent = ProtocolTracer::with_options("agent", TracerOptions { events: Some(sink), ..TracerOptions::default() });
    let tools = ProtocolTracer::new("tools");
    let connection = connect(&agent, &tools).await;
    let task = agent.task("answer");
    connection.client.call_tool(call("quick").with_parent(&task.tracer())).await.unwrap();
    task.end();
    let task = agent.protocol_spans().pop().unwrap();
    let events = events.lock().unwrap();
    let of_tool = events.iter().find(|event| matches!(event.event, Event::ToolCall(_))).unwrap();
    let started = events.iter().find(|event| matches!(event.event, Event::TaskStarted(_))).unwrap();
    assert_eq!((&of_tool.task, of_tool.parent_span_id), (&started.task, Some(task.span.span_id)));
    assert!(of_tool.task.is_some());
    let spans = [agent.protocol_spans(), tools.protocol_spans()].concat().into_iter().map(|record| record.span);
    let tree = TraceTree::build(spans).remove(0);
    assert_eq!((tree.nodes.len(), tree.broken_hops.len()), (5, 0), "{tree}");
}

#[tokio::test]
async fn a_request_of_the_server_is_below_the_call_for_which_it_asks() {
    let (agent, tools) = (ProtocolTracer::new("agent"), ProtocolTracer::new("tools"));
    let connection = connect(&agent, &tools).await;
    connection.client.call_tool(call("ask")).await.unwrap();
    let spans = [agent.protocol_spans(), tools.protocol_spans()].concat().into_iter().map(|record| record.span);
    let tree = TraceTree::build(spans).remove(0);
    let last: Vec<_> =
        tree.nodes.iter().rev().take(4).map(|node| (node.depth, &*node.span.name, node.span.role)).collect();
    let expected = [
        (3, "ping", SpanRole::Server),
        (2, "ping", SpanRole::Client),
        (1, "tools/call ask", SpanRole::Server),
        (0, "tools/call ask", SpanRole::Client),
    ];
    assert_eq!(last, expected, "{tree}");
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_on_both_sides() {
    let (agent, tools) = (ProtocolTracer::new("agent"), ProtocolTracer::new("tools"));
    let mut connection = connect(&agent, &tools).await;
    let client = connection.client.peer().clone();
    let pending = tokio::spawn(async move { client.call_tool_once(call("slow")).await });
    connection.arrived.recv().await.unwrap();
    pending.abort();
    for tracer in [&agent, &tools] {
        assert_eq!(called(tracer).await.attribute("error.type"), Some("cancelled"));
    }
}

#[tokio::test]
async fn a_call_without_a_response_in_time_has_timed_out() {
    let (agent, tools) = (ProtocolTracer::new("agent"), ProtocolTracer::new("tools"));
    let connection = connect(&agent, &tools).await;
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(call("slow")));
    let options = PeerRequestOptions::with_timeout(Duration::from_millis(1));
    let handle = connection.client.send_cancellable_request(request, options).await.unwrap();
    handle.await_response().await.unwrap_err();
    assert_eq!(called(&agent).await.attribute("error.type"), Some("timeout"));
}

#[tokio::test]
async fn a_call_whose_connection_closes_has_failed() {
    let agent = ProtocolTracer::new("agent");
    let (to_server, to_client) = tokio::io::duplex(4096);
    let transport = IntoTransport::<RoleClient, _, _>::into_transport(to_server);
    let mut transport = TracedMcpTransport::stdio(transport, &agent, "tools");
    let request = |id| {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(call("slow")));
        ClientJsonRpcMessage::request(request, RequestId::Number(id))
    };
    Transport::<RoleClient>::send(&mut transport, request(1)).await.unwrap();
    drop(to_client);
    assert!(Transport::<RoleClient>::receive(&mut transport).await.is_none());
    Transport::<RoleClient>::send(&mut transport, request(2)).await.unwrap_err();
    let errors: Vec<_> = agent.protocol_spans().into_iter().map(|record| record.span.error.unwrap()).collect();
    assert_eq!(errors, ["the connection closed before the response", "the request could not be sent"]);
}

#[tokio::test]
async fn an_error_of_the_server_is_that_of_both_spans() {
    let (agent, tools) = (ProtocolTracer::new("agent"), ProtocolTracer::new("tools"));
    let connection = connect(&agent, &tools).await;
    connection.client.read_resource(ReadResourceRequestParams::new("file:///orders")).await.unwrap_err();
    for tracer in [&agent, &tools] {
        let record = tracer.protocol_spans().pop().unwrap();
        assert_eq!(record.span.name, "resources/read");
        assert_eq!(record.attribute("error.type"), Some("-32601"));
        assert_eq!(record.attribute("mcp.resource.uri"), Some("file:///orders"));
        assert_eq!(record.attribute("jsonrpc.request.id"), Some("1"));
    }
}
