//! A planner asks a writer, an agent in another process, which calls a tool in a third one: over A2A and MCP, in one trace.
//!
//! ```text
//! cargo run -p sre-trace --all-features --example three_processes
//! ```
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use a2a_client::A2AClient;
use a2a_client::jsonrpc::JsonRpcTransport;
use a2a_server::jsonrpc::jsonrpc_router;
use a2a_server::{AgentExecutor, DefaultRequestHandler, ExecutorContext, InMemoryTaskStore};
use a2a_types::{
    A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, TaskState, TaskStatus, TaskStatusUpdateEvent,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use sre_trace::{
    ProtocolTracer, Span, TraceTree, TracedA2aHandler, TracedA2aTransport, TracedMcpHandler, TracedMcpTransport,
    WithParent,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["writer", folder] => writer(Path::new(folder)).await,
        ["search", folder] => search(Path::new(folder)).await,
        _ => {
            for tree in planner().await? {
                println!("{tree}");
            }
            Ok(())
        }
    }
}

/// Asks the writer. Returns the traces of all three processes.
pub(crate) async fn planner() -> Result<Vec<TraceTree>> {
    let folder = std::env::temp_dir().join(format!("three-processes-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut writer = start("writer", &folder)?;
    let mut url = String::new();
    BufReader::new(writer.stdout.take().ok_or("no output")?).read_line(&mut url).await?;

    // For the HTTP client, which is built for TLS, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tracer = ProtocolTracer::new("planner");
    let task = tracer.task("answer");
    let transport = JsonRpcTransport::new(reqwest::Client::new(), url.trim().to_owned());
    let client = A2AClient::new(TracedA2aTransport::new(transport, &task.tracer(), "writer"));
    let message = Message::new(Role::User, vec![Part::text("What is new?")]);
    client.send_message(&SendMessageRequest { message, configuration: None, metadata: None, tenant: None }).await?;
    task.end();

    drop(writer.stdin.take());
    writer.wait().await?;
    write_spans(&folder, &tracer)?;
    let mut spans: Vec<Span> = Vec::new();
    for file in std::fs::read_dir(&folder)? {
        spans.extend(serde_json::from_slice::<Vec<Span>>(&std::fs::read(file?.path())?)?);
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(TraceTree::build(spans))
}

/// Serves the writer by A2A until standard input ends.
async fn writer(folder: &Path) -> Result<()> {
    let tracer = ProtocolTracer::new("writer");
    let executor = Writer { tracer: tracer.clone(), folder: folder.to_owned() };
    let handler = TracedA2aHandler::new(DefaultRequestHandler::new(executor, InMemoryTaskStore::new()), &tracer);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let until_end = async { _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await };
    axum::serve(listener, jsonrpc_router(Arc::new(handler))).with_graceful_shutdown(until_end).await?;
    write_spans(folder, &tracer)
}

struct Writer {
    tracer: ProtocolTracer,
    folder: PathBuf,
}

impl AgentExecutor for Writer {
    fn execute(&self, context: ExecutorContext) -> BoxStream<'static, std::result::Result<StreamResponse, A2AError>> {
        let tracer = self.tracer.for_a2a_request(&context.service_params);
        let (task_id, context_id) = context.task_info();
        let folder = self.folder.clone();
        stream::once(async move {
            let found = call_search(&tracer, &folder).await;
            let state = if found.is_ok() { TaskState::Completed } else { TaskState::Failed };
            let status = TaskStatus { state, message: None, timestamp: None };
            Ok(StreamResponse::StatusUpdate(TaskStatusUpdateEvent { task_id, context_id, status, metadata: None }))
        })
        .boxed()
    }

    fn cancel(&self, _: ExecutorContext) -> BoxStream<'static, std::result::Result<StreamResponse, A2AError>> {
        stream::empty().boxed()
    }
}

/// Calls the tool in a process of its own, by MCP over its standard input and output.
async fn call_search(tracer: &ProtocolTracer, folder: &Path) -> Result<CallToolResult> {
    let mut process = start("search", folder)?;
    let pipes = process.stdout.take().zip(process.stdin.take()).ok_or("no pipes")?;
    let transport = rmcp::transport::IntoTransport::<rmcp::RoleClient, _, _>::into_transport(pipes);
    let client = ().serve(TracedMcpTransport::stdio(transport, tracer, "search")).await?;
    let result = client.call_tool(CallToolRequestParams::new("search").with_parent(tracer)).await?;
    client.cancel().await?;
    process.wait().await?;
    Ok(result)
}

/// Serves the tool by MCP until standard input ends.
async fn search(folder: &Path) -> Result<()> {
    let tracer = ProtocolTracer::new("search");
    let server = TracedMcpHandler::new(Search, &tracer).serve((tokio::io::stdin(), tokio::io::stdout())).await?;
    server.waiting().await?;
    write_spans(folder, &tracer)
}

#[derive(Clone)]
struct Search;

impl ServerHandler for Search {
    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("Nothing.")]).into())
    }
}

/// Starts this program in a role, with pipes.
fn start(role: &str, folder: &Path) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

fn write_spans(folder: &Path, tracer: &ProtocolTracer) -> Result<()> {
    let spans: Vec<Span> = tracer.protocol_spans().into_iter().map(|record| record.span).collect();
    std::fs::write(folder.join(tracer.agent_id()), serde_json::to_vec(&spans)?)?;
    Ok(())
}
