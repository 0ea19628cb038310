//! Tests the taps of `docs/serve.md` with the real packages: an agent runs against a fake model server, and the service reports
//! what it received. `cargo xtask test --install` installs the packages.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use sre_core::HttpClient;
use sre_http::{Client, Options};
use sre_server::{Config, Server};
use sre_testkit::outside;

#[path = "taps/outage.rs"]
mod outage;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/taps");

/// Returns the model's response: a tool call if the prompt asks for one, an error if it asks to fail, else a text.
async fn completion(body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let last = request["messages"].as_array().unwrap().last().unwrap();
    let prompt = last["content"].to_string();
    if prompt.contains("#fail") {
        let error = json!({"error": {"message": "the model does not answer", "type": "invalid_request_error"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let call = json!([{"index": 0, "id": "c1", "type": "function",
        "function": {"name": "lookup", "arguments": "{\"q\":\"1\"}"}}]);
    let (message, reason) = if prompt.contains("#tool") && last["role"] == "user" {
        (json!({"role": "assistant", "content": null, "tool_calls": call}), "tool_calls")
    } else {
        (json!({"role": "assistant", "content": "All is well."}), "stop")
    };
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60});
    let of = |kind: &str, choices: Value, usage: Value| json!({"id": "x", "object": kind, "created": 1, "model": request["model"], "choices": choices, "usage": usage});
    if request["stream"] != true {
        let choices = json!([{"index": 0, "message": message, "finish_reason": reason}]);
        return Json(of("chat.completion", choices, usage)).into_response();
    }
    let chunk = |choices: Value, usage: Value| format!("data: {}\n\n", of("chat.completion.chunk", choices, usage));
    let text = chunk(json!([{"index": 0, "delta": message, "finish_reason": null}]), Value::Null)
        + &chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]), Value::Null)
        + &chunk(json!([]), usage)
        + "data: [DONE]\n\n";
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

async fn model_server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/chat/completions", post(completion));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}/v1")
}

async fn start_service(data: &Path, listen: SocketAddr) -> Server {
    Server::start(Config { listen, data: data.into(), ..Config::default() }).await.unwrap()
}

/// Polls the service until the totals of its only agent are as expected.
async fn until_totals(service: &Server, expected: &Value, output: &str) {
    let client = Client::new(Options::default()).unwrap();
    let begun = Instant::now();
    loop {
        let request = http::Request::get(format!("{}/v1/agents", service.url())).body(bytes::Bytes::new()).unwrap();
        let answer = client.send(request).await.unwrap();
        let agents = serde_json::from_slice::<Value>(answer.body()).unwrap()["agents"].take();
        let keys = expected.as_object().unwrap().keys();
        let found: Value = keys.map(|key| (key.clone(), agents[0][key].clone())).collect();
        if found == *expected {
            return assert_eq!(agents.as_array().unwrap().len(), 1, "{agents}");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "found {agents}, expected {expected}: {output}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Runs an agent with a tap, and waits until the service's totals are as expected.
async fn run_with_tap(mut agent: Command, path: &str, expected: Value) {
    let folder = tempfile::tempdir().unwrap();
    let service = start_service(folder.path(), "127.0.0.1:0".parse().unwrap()).await;
    agent.env("MODEL_URL", model_server().await).env("SRE_URL", format!("{}{path}", service.url()));
    // Disables the telemetry of the frameworks.
    agent.env("OPENAI_API_KEY", "none").env("LANGSMITH_TRACING", "false");
    let output: Output = tokio::task::spawn_blocking(move || agent.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("failed: "), "one task fails: {text}");
    until_totals(&service, &expected, &text).await;
    service.stop().await;
}

/// Totals of four tasks: one calls a tool, and one fails because its model call fails.
fn with_a_tool() -> Value {
    json!({
        "agent": "support", "tasks": 4, "succeeded": 3, "failed": 1, "incomplete": 0, "tool_calls": 1, "tool_errors": 0,
        "llm_calls": 5, "llm_errors": 1, "input_tokens": 200, "output_tokens": 40,
    })
}

/// Totals of four tasks without tools, of which one fails because its model call fails.
fn without_tools() -> Value {
    json!({
        "agent": "support", "tasks": 4, "succeeded": 3, "failed": 1, "incomplete": 0,
        "llm_calls": 4, "llm_errors": 1, "input_tokens": 150, "output_tokens": 30,
    })
}

fn python(module: &str, agent: &str, test: &str) -> Option<Command> {
    let python = Path::new(INSTALLED).join("venv/bin/python");
    let mut command = outside::interpreter_with(&python, &["-c", &format!("import {module}")], test)?;
    command.arg(tap_test(agent)).env("PYTHONPATH", format!("{ROOT}/docs/examples/taps"));
    Some(command)
}

fn tap_test(file: &str) -> PathBuf {
    Path::new(ROOT).join("tests/taps").join(file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langgraph() {
    let Some(agent) = python("langgraph, langchain_openai", "langgraph_agent.py", "taps: langgraph") else { return };
    run_with_tap(agent, "/v1/events/langgraph", with_a_tool()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_agents() {
    let Some(agent) = python("agents", "openai_agents_agent.py", "taps: openai_agents") else { return };
    run_with_tap(agent, "/v1/events/openai-agents", with_a_tool()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_opentelemetry() {
    let Some(agent) = python("opentelemetry.sdk", "otel_agent.py", "taps: plain_opentelemetry") else { return };
    run_with_tap(agent, "/v1/traces", without_tools()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetry_over_grpc() {
    let module = "opentelemetry.exporter.otlp.proto.grpc";
    let Some(agent) = python(module, "otel_grpc_agent.py", "taps: opentelemetry_over_grpc") else { return };
    run_with_tap(agent, "", without_tools()).await;
}

/// Returns the agent of the Vercel AI SDK with its tap.
fn vercel_agent(test: &str) -> Option<Command> {
    // Node.js resolves modules relative to the importing file.
    let folder = Path::new(INSTALLED).join("node");
    let has = ["--input-type=module", "-e", "import 'ai'; import '@ai-sdk/otel'"];
    let mut agent = outside::interpreter_in(&folder, Path::new("node"), &has, test)?;
    static COPIED: Once = Once::new();
    COPIED.call_once(|| {
        for file in [tap_test("vercel_ai.mjs"), Path::new(ROOT).join("docs/examples/taps/vercel_ai_tap.mjs")] {
            std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    });
    agent.current_dir(&folder).args(["--import", "./vercel_ai_tap.mjs", "vercel_ai.mjs"]);
    Some(agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vercel_ai_sdk() {
    let Some(agent) = vercel_agent("taps: vercel_ai_sdk") else { return };
    run_with_tap(agent, "/v1/traces", with_a_tool()).await;
}
