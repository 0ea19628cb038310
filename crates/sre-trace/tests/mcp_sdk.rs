//! One trace through peers of the Model Context Protocol: the official SDK for Python, which traces by itself, and published
//! servers of the older versions.

mod servers;

use std::path::Path;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext, RunningService};
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess, Transport};
use rmcp::{ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use sre_testkit::outside;
use sre_testkit::servers::{Server, free_port, programs};
use sre_trace::{
    ProtocolTracer, Span, SpanId, SpanRecord, SpanRole, TraceTree, TracedMcpHandler, TracedMcpTransport, WithParent,
};
use tempfile::TempDir;
use tokio::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/mcp_peer.py");
/// The versions of the protocol, as the client for Python names them: with `initialize`, and without.
const MODES: [&str; 2] = ["legacy", "2026-07-28"];

type Client = RunningService<RoleClient, ()>;

/// Connects in one of the modes.
async fn connect<T: Transport<RoleClient> + 'static>(transport: TracedMcpTransport<T>, mode: &str) -> Client {
    let lifecycle = match mode {
        "legacy" => ClientLifecycleMode::Initialize,
        _ => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    ().serve_with_lifecycle(transport, lifecycle).await.unwrap()
}

fn http(url: &str) -> impl Transport<RoleClient> + 'static {
    // The HTTP client of `rmcp` uses the default of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    StreamableHttpClientTransport::from_uri(url)
}

/// A server, or a client, of the SDK for Python, and the file with its spans.
struct Python {
    folder: TempDir,
    program: String,
}

impl Python {
    fn new(test: &str) -> Option<Self> {
        let programs = programs("mcp", "mcp, opentelemetry.sdk", &format!("mcp: {test}"))?;
        let program = programs.join("python").display().to_string();
        Some(Self { folder: tempfile::tempdir().unwrap(), program })
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.arg(SCRIPT).args(arguments);
        command.env("MCP_SPANS", self.folder.path().join("spans"));
        command
    }

    async fn serve_http(&self) -> (Server, String) {
        let port = free_port().to_string();
        let command = self.command(&["serve", &port]);
        let server = Server::start(command, self.folder.path(), &format!("http://127.0.0.1:{port}/health")).await;
        (server, format!("http://127.0.0.1:{port}/mcp"))
    }

    /// Calls our server. Returns the answers.
    async fn call(&self, arguments: &[&str]) -> Value {
        let output = Command::from(self.command(&[&["call"], arguments].concat())).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn spans(&self) -> Vec<Span> {
        let lines = std::fs::read_to_string(self.folder.path().join("spans")).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Orders that can be looked up.
#[derive(Clone, Debug)]
struct Orders;

impl ServerHandler for Orders {
    async fn list_tools(
        &self,
        _params: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str| {
            let schema = json!({"type": "object"});
            Tool::new(name, name, schema.as_object().unwrap().clone())
        };
        Ok(ListToolsResult::with_all_items(vec![tool("lookup"), tool("fail")]))
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tracer = context.extensions.get::<ProtocolTracer>().unwrap();
        tracer.http_call("http://orders.example", "GET", "/o-1").end();
        let content = vec![ContentBlock::text(tracer.trace_id().to_string())];
        let is_lookup = params.name == "lookup";
        Ok(if is_lookup { CallToolResult::success(content) } else { CallToolResult::error(content) }.into())
    }

    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// Serves orders by streamable HTTP. Returns the URL.
async fn serve(tracer: &ProtocolTracer) -> String {
    let routes = servers::mcp_routes(TracedMcpHandler::new(Orders, tracer));
    format!("{}/mcp", servers::serve(routes).await)
}

/// Asserts that spans are one complete tree, and returns it.
fn one_tree(spans: Vec<Span>) -> TraceTree {
    let mut trees = TraceTree::build(spans);
    assert_eq!(trees.len(), 1, "{trees:#?}");
    let tree = trees.remove(0);
    assert!(tree.broken_hops.is_empty(), "{tree}");
    assert_eq!(tree.nodes.iter().filter(|node| node.parent.is_none()).count(), 1, "{tree}");
    tree
}

/// Returns the names of the spans from one up to the root, with the agents that recorded them.
fn path(tree: &TraceTree, span_id: SpanId) -> Vec<(String, String)> {
    let mut at = tree.nodes.iter().position(|node| node.span.span_id == span_id);
    let mut path = Vec::new();
    while let Some(index) = at {
        let node = &tree.nodes[index];
        path.push((node.span.agent.as_deref().unwrap_or_default().to_owned(), node.span.name.clone()));
        at = node.parent;
    }
    path
}

fn spans_of(tracer: &ProtocolTracer) -> Vec<Span> {
    tracer.protocol_spans().into_iter().map(|record| record.span).collect()
}

fn named(records: &[SpanRecord], name: &str) -> SpanRecord {
    records.iter().find(|record| record.span.name == name).unwrap_or_else(|| panic!("no {name}: {records:#?}")).clone()
}

fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

/// Calls tools of a server for Python, below a step of a task.
async fn call_python<T: Transport<RoleClient> + 'static>(
    python: &Python,
    tracer: &ProtocolTracer,
    transport: impl FnOnce(&ProtocolTracer) -> TracedMcpTransport<T>,
    mode: &str,
) {
    let task = tracer.task("answer");
    let client = connect(transport(&task.tracer()), mode).await;
    let step = task.tracer().task("look up");
    let call = async |tool: &'static str| {
        client.call_tool(CallToolRequestParams::new(tool).with_parent(&step.tracer())).await.unwrap()
    };
    let received: Value = serde_json::from_str(text(&call("received_meta").await)).unwrap();
    assert_eq!(call("fail").await.is_error, Some(true));
    client.list_all_tools().await.unwrap();
    client.cancel().await.unwrap();
    let (step_id, task_id) = (step.span_id(), task.span_id());
    step.end();
    task.end();

    let records = tracer.protocol_spans();
    let called = named(&records, "tools/call received_meta");
    let context = format!("00-{}-{}", called.span.trace_id, called.span.span_id);
    assert!(received["traceparent"].as_str().unwrap().starts_with(&context), "{received}");
    assert_eq!(called.span.parent_span_id, Some(step_id));
    assert_eq!(named(&records, "tools/list").span.parent_span_id, Some(task_id));
    assert_eq!(named(&records, "tools/call fail").attribute("error.type"), Some("tool_error"));
    let version = if mode == "legacy" { "2025-11-25" } else { mode };
    assert_eq!(called.attribute("mcp.protocol.version"), Some(version));
    let opening = if mode == "legacy" { "initialize" } else { "server/discover" };
    assert_eq!(named(&records, opening).span.parent_span_id, Some(task_id));

    let of_python = python.spans();
    let served = of_python.iter().find(|span| span.name == "tools/call received_meta").unwrap();
    assert_eq!((served.role, served.parent_span_id), (SpanRole::Server, Some(called.span.span_id)));
    one_tree([of_python, spans_of(tracer)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_for_python_continues_our_trace_over_stdio() {
    for mode in MODES {
        let Some(python) = Python::new("a_server_for_python_continues_our_trace_over_stdio") else { return };
        let process = TokioChildProcess::new(Command::from(python.command(&["serve", "stdio"]))).unwrap();
        let tracer = ProtocolTracer::new("agent");
        let transport = |tracer: &ProtocolTracer| TracedMcpTransport::stdio(process, tracer, "python");
        call_python(&python, &tracer, transport, mode).await;
        let called = named(&tracer.protocol_spans(), "tools/call fail");
        assert_eq!(called.attribute("network.transport"), Some("pipe"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_for_python_continues_our_trace_over_http() {
    for mode in MODES {
        let Some(python) = Python::new("a_server_for_python_continues_our_trace_over_http") else { return };
        let (_server, url) = python.serve_http().await;
        let tracer = ProtocolTracer::new("agent");
        let transport = |tracer: &ProtocolTracer| TracedMcpTransport::http(http(&url), tracer, "python", &url);
        call_python(&python, &tracer, transport, mode).await;
        let called = named(&tracer.protocol_spans(), "tools/call fail");
        assert_eq!(called.attribute("network.protocol.name"), Some("http"));
        assert_eq!(called.attribute("server.address"), Some("127.0.0.1"));
    }
}

/// Checks what a client for Python has recorded, and our server.
fn check_calls(answers: &Value, of_python: Vec<Span>, records: Vec<SpanRecord>, mode: &str) {
    assert_eq!(answers["tools"], json!(["lookup", "fail"]));
    assert_eq!((&answers["lookup"], &answers["failed"]), (&json!(records[0].span.trace_id), &json!(true)));
    let served = named(&records, "tools/call lookup");
    let called = of_python.iter().find(|span| Some(span.span_id) == served.span.parent_span_id).unwrap();
    assert_eq!((&*called.name, called.role), ("MCP send tools/call lookup", SpanRole::Client));
    let version = if mode == "legacy" { "2025-11-25" } else { mode };
    assert_eq!(served.attribute("mcp.protocol.version"), Some(version));
    assert_eq!(served.attribute("service.peer.name"), Some("mcp"));
    assert_eq!(named(&records, "tools/call fail").attribute("error.type"), Some("tool_error"));
    let opening = if mode == "legacy" { "initialize" } else { "tools/list" };
    named(&records, opening);
    let below = records.iter().filter(|record| record.span.parent_span_id == Some(served.span.span_id));
    assert_eq!(below.map(|record| &*record.span.name).collect::<Vec<_>>(), ["GET"]);
    one_tree([of_python, records.into_iter().map(|record| record.span).collect()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_continues_the_trace_of_a_client_for_python_over_http() {
    for mode in MODES {
        let Some(python) = Python::new("our_server_continues_the_trace_of_a_client_for_python_over_http") else {
            return;
        };
        let tracer = ProtocolTracer::new("orders");
        let url = serve(&tracer).await;
        let answers = python.call(&[mode, &url]).await;
        let records = tracer.protocol_spans();
        let served = named(&records, "tools/call lookup");
        assert_eq!(served.attribute("network.protocol.name"), Some("http"));
        assert_eq!(served.attribute("mcp.session.id").is_some(), mode == "legacy");
        check_calls(&answers, python.spans(), records, mode);
    }
}

const SPANS_OF_CHILD: &str = "SRE_MCP_SERVER_SPANS";

#[tokio::test(flavor = "multi_thread")]
async fn our_server_continues_the_trace_of_a_client_for_python_over_stdio() {
    for mode in MODES {
        let Some(python) = Python::new("our_server_continues_the_trace_of_a_client_for_python_over_stdio") else {
            return;
        };
        let spans = python.folder.path().join("spans of the server");
        // The test harness prints to standard output.
        let program = std::env::current_exe().unwrap().display().to_string();
        let script = format!("{SPANS_OF_CHILD}='{}' exec '{program}' child --exact 3>&1 >&2", spans.display());
        let answers = python.call(&[mode, "sh", "-c", &script]).await;
        let lines = std::fs::read_to_string(&spans).unwrap();
        let of_server: Vec<Value> = serde_json::from_str(&lines).unwrap();
        assert_eq!(answers["lookup"], of_server[0]["trace_id"]);
        let served = of_server.iter().find(|span| span["name"] == "tools/call lookup").unwrap();
        assert_eq!(served["attributes"]["network.transport"], "pipe");
        let span_id = serde_json::from_value(served["span_id"].clone()).unwrap();
        let of_server = of_server.into_iter().map(|span| serde_json::from_value(span).unwrap());
        let tree = one_tree(python.spans().into_iter().chain(of_server).collect());
        let path: Vec<String> = path(&tree, span_id).into_iter().map(|(_, name)| name).collect();
        assert_eq!(path, ["tools/call lookup", "MCP send tools/call lookup", "agent"]);
    }
}

/// The server of the test above, when that starts it.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(spans) = std::env::var(SPANS_OF_CHILD) else { return };
    let input = tokio::fs::File::open("/dev/fd/0").await.unwrap();
    let output = tokio::fs::File::options().write(true).open("/dev/fd/3").await.unwrap();
    let tracer = ProtocolTracer::new("orders");
    let server = TracedMcpHandler::new(Orders, &tracer).serve((input, output)).await.unwrap();
    server.waiting().await.unwrap();
    std::fs::write(spans, serde_json::to_vec(&tracer.protocol_spans()).unwrap()).unwrap();
}

/// Returns a published server, which is of the versions with `initialize` and does not trace.
fn published(name: &str, test: &str) -> Option<std::process::Command> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/taps/node"));
    let module = format!("node_modules/@modelcontextprotocol/server-{name}/dist/index.js");
    let check = format!("require('fs').accessSync('{module}')");
    let mut command = outside::interpreter_in(folder, Path::new("node"), &["-e", &check], &format!("mcp: {test}"))?;
    command.arg(folder.join(module));
    Some(command)
}

/// Calls a tool of a published server, and one that it does not have.
async fn call_published<T: Transport<RoleClient> + 'static>(
    transport: impl FnOnce(&ProtocolTracer) -> TracedMcpTransport<T>,
    tool: &'static str,
    arguments: Value,
) {
    let tracer = ProtocolTracer::new("agent");
    let task = tracer.task("answer");
    let client = connect(transport(&task.tracer()), "legacy").await;
    let call = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
    let result = client.call_tool(call).await.unwrap();
    assert!(result.is_error != Some(true), "{result:?}");
    client.list_all_tools().await.unwrap();
    let unknown = client.call_tool(CallToolRequestParams::new("unknown")).await;
    assert!(unknown.is_err() || unknown.unwrap().is_error == Some(true));
    client.cancel().await.unwrap();
    task.end();
    let records = tracer.protocol_spans();
    let called = named(&records, &format!("tools/call {tool}"));
    assert_eq!(called.attribute("mcp.protocol.version"), Some("2025-11-25"));
    for record in [called, named(&records, "initialize"), named(&records, "tools/list")] {
        assert_eq!(record.span.error, None);
    }
    assert!(named(&records, "tools/call unknown").span.error.is_some());
    one_tree(spans_of(&tracer));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_do_not_trace_are_called_over_stdio() {
    let folder = tempfile::tempdir().unwrap();
    let thought = json!({"thought": "1", "thoughtNumber": 1, "totalThoughts": 1, "nextThoughtNeeded": false});
    for (name, argument, tool, arguments) in [
        ("everything", "stdio", "echo", json!({"message": "hello"})),
        ("filesystem", folder.path().to_str().unwrap(), "list_allowed_directories", json!({})),
        ("memory", "", "read_graph", json!({})),
        ("sequential-thinking", "", "sequentialthinking", thought),
    ] {
        let Some(mut command) = published(name, "servers_that_do_not_trace_are_called_over_stdio") else { return };
        command.arg(argument).env("MEMORY_FILE_PATH", folder.path().join("memory"));
        let process = TokioChildProcess::new(Command::from(command)).unwrap();
        call_published(|tracer| TracedMcpTransport::stdio(process, tracer, name), tool, arguments).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_trace_is_called_over_http() {
    let test = "a_server_that_does_not_trace_is_called_over_http";
    let Some(mut command) = published("everything", test) else { return };
    let port = free_port();
    command.arg("streamableHttp").env("PORT", port.to_string());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _server = Command::from(command).kill_on_drop(true).spawn().unwrap();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let url = format!("http://127.0.0.1:{port}/mcp");
    let transport = |tracer: &ProtocolTracer| TracedMcpTransport::http(http(&url), tracer, "everything", &url);
    call_published(transport, "echo", json!({"message": "hello"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_of_every_version_and_transport_make_one_tree() {
    // Our agent → Python, by stdio without `initialize` → our server, by HTTP, in either mode.
    for mode in MODES {
        let Some(python) = Python::new("hops_of_every_version_and_transport_make_one_tree") else { return };
        let orders = ProtocolTracer::new("orders");
        let url = serve(&orders).await;
        let agent = ProtocolTracer::new("agent");
        let task = agent.task("answer");
        let process = TokioChildProcess::new(Command::from(python.command(&["serve", "stdio"]))).unwrap();
        let client = connect(TracedMcpTransport::stdio(process, &task.tracer(), "python"), "2026-07-28").await;
        let arguments = json!({"mode": mode, "url": url}).as_object().unwrap().clone();
        let forward = CallToolRequestParams::new("forward").with_arguments(arguments);
        let result = client.call_tool(forward.with_parent(&task.tracer())).await.unwrap();
        assert_eq!(text(&result), task.context().trace_id.to_string());
        client.cancel().await.unwrap();
        task.end();
        let tree = one_tree([spans_of(&agent), python.spans(), spans_of(&orders)].concat());
        let last = named(&orders.protocol_spans(), "GET").span.span_id;
        let expected = [
            ("orders", "GET"),
            ("orders", "tools/call lookup"),
            ("python", "MCP send tools/call lookup"),
            ("python", "tools/call forward"),
            ("agent", "tools/call forward"),
            ("agent", "invoke_agent agent"),
        ];
        assert_eq!(path(&tree, last), expected.map(|(agent, name)| (agent.to_owned(), name.to_owned())));
    }
}
