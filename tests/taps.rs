//! Tests the taps with the real packages: an agent runs against a fake model server, and the service reports what it received.
//! `cargo xtask test --install` installs the packages.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
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
/// Disables the telemetry of the frameworks.
const QUIET: [(&str, &str); 5] = [
    ("OPENAI_API_KEY", "none"),
    ("LANGSMITH_TRACING", "false"),
    ("CREWAI_DISABLE_TELEMETRY", "true"),
    ("CREWAI_TRACING_ENABLED", "false"),
    ("OTEL_SDK_DISABLED", "false"),
];
/// The variable of OpenTelemetry's exporters that says where the service is.
const OTLP_URL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/taps");

/// Returns the model's response: a tool call if the prompt asks for one, an error if it asks to fail, a rate limit at the first
/// attempt if it asks for a retry, else a text.
async fn completion(headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let last = request["messages"].as_array().unwrap().last().unwrap();
    let prompt = last["content"].to_string();
    if prompt.contains("#fail") {
        let error = json!({"error": {"message": "the model does not answer", "type": "invalid_request_error"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    if prompt.contains("#retry") && headers.get("x-stainless-retry-count").is_none_or(|count| count == "0") {
        let error = json!({"error": {"message": "too many requests", "type": "rate_limit_error"}});
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after-ms", "1")], Json(error)).into_response();
    }
    let name = request["tools"][0]["function"]["name"].clone();
    let arguments = json!({"q": "1", "explode": prompt.contains("#explode")}).to_string();
    let call =
        json!([{"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}]);
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

/// Returns the service's answer to a GET request.
async fn get(service: &Server, path: &str) -> Value {
    let client = Client::new(Options::default()).unwrap();
    let request = http::Request::get(format!("{}{path}", service.url())).body(bytes::Bytes::new()).unwrap();
    serde_json::from_slice(client.send(request).await.unwrap().body()).unwrap()
}

/// Polls the service until the totals of its only agent are as expected.
async fn until_totals(service: &Server, expected: &Value, output: &str) {
    let begun = Instant::now();
    loop {
        let agents = get(service, "/v1/agents").await["agents"].take();
        let keys = expected.as_object().unwrap().keys();
        let found: Value = keys.map(|key| (key.clone(), agents[0][key].clone())).collect();
        if found == *expected {
            return assert_eq!(agents.as_array().unwrap().len(), 1, "{agents}");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "found {agents}, expected {expected}: {output}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Polls the service until the objective of the agent has counted its tasks. A workflow of Dify, which is replayed faster than it
/// ran, ends in the future.
async fn until_objective(service: &Server, expected: &Value) {
    let begun = Instant::now();
    loop {
        let report = get(service, "/v1/slos").await;
        let (objective, input) = (&report["slos"][0], &report["input"]);
        let counted =
            json!([objective["agent"], objective["good"], objective["bad"], input["skipped"], input["unknown"]]);
        if counted == json!([expected["agent"], expected["succeeded"], expected["failed"], 0, 0]) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "found {report}, expected {expected}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Runs an agent with OpenTelemetry, and waits until the service's totals are as expected.
async fn run_with_opentelemetry(mut agent: Command, expected: Value) {
    let folder = tempfile::tempdir().unwrap();
    let service = start_service(folder.path(), "127.0.0.1:0".parse().unwrap()).await;
    agent.env("MODEL_URL", model_server().await).env(OTLP_URL, service.url());
    agent.envs(QUIET);
    let output: Output = tokio::task::spawn_blocking(move || agent.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("failed: "), "one task fails: {text}");
    until_totals(&service, &expected, &text).await;
    service.stop().await;
}

/// Runs an agent with a Python tap. `expected` are the totals of its tasks, which its objective must have, too.
async fn run_with_python_tap(mut agent: Command, expected: Value) {
    let folder = tempfile::tempdir().unwrap();
    let service = start_service(folder.path(), "127.0.0.1:0".parse().unwrap()).await;
    agent.env("MODEL_URL", model_server().await).env("SRE_URL", service.url()).envs(QUIET);
    let output: Output = tokio::task::spawn_blocking(move || agent.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    until_totals(&service, &expected, &text).await;
    until_objective(&service, &expected).await;
    service.stop().await;
}

/// Totals of the five tasks of `taps/scenario.py`. The model call that its client repeats after a rate limit is one call.
fn scenario() -> Value {
    json!({
        "agent": "support", "tasks": 5, "succeeded": 4, "failed": 1, "incomplete": 0, "tool_calls": 2, "tool_errors": 1,
        "llm_calls": 7, "llm_errors": 1, "input_tokens": 300, "output_tokens": 60,
    })
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

/// Returns an agent with the Python of an environment, if that has `modules`; otherwise lists `test` as skipped.
fn python_in(environment: &str, modules: &str, agent: &str, test: &str) -> Option<Command> {
    let python = Path::new(INSTALLED).join(environment).join("bin/python");
    let mut command = outside::interpreter_with(&python, &["-c", &format!("import {modules}")], test)?;
    let modules = format!("{ROOT}/crates/sre-cli/python:{ROOT}/docs/examples/taps");
    command.arg(tap_test(agent)).env("PYTHONPATH", modules);
    Some(command)
}

fn python(modules: &str, agent: &str, test: &str) -> Option<Command> {
    python_in("venv", modules, agent, test)
}

fn tap_test(file: &str) -> PathBuf {
    Path::new(ROOT).join("tests/taps").join(file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langgraph() {
    let Some(agent) = python("langgraph, langchain_openai", "langgraph_agent.py", "taps: langgraph") else { return };
    let mut expected = scenario();
    // An interrupted run, and one whose node raises.
    (expected["tasks"], expected["succeeded"], expected["failed"]) = (json!(7), json!(5), json!(2));
    run_with_python_tap(agent, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_agents() {
    let Some(agent) = python("agents", "openai_agents_agent.py", "taps: openai_agents") else { return };
    let mut expected = scenario();
    // A run inside of a handler, and one whose hook raises.
    (expected["tasks"], expected["succeeded"], expected["failed"]) = (json!(7), json!(5), json!(2));
    (expected["llm_calls"], expected["input_tokens"], expected["output_tokens"]) = (json!(8), json!(350), json!(70));
    run_with_python_tap(agent, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langchain() {
    let Some(agent) = python("langchain_openai", "langchain_agent.py", "taps: langchain") else { return };
    run_with_python_tap(agent, scenario()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn llamaindex() {
    let modules = "llama_index.llms.openai_like";
    let Some(agent) = python_in("llamaindex", modules, "llamaindex_agent.py", "taps: llamaindex") else { return };
    run_with_python_tap(agent, scenario()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crewai() {
    let Some(agent) = python_in("crewai", "crewai", "crewai_agent.py", "taps: crewai") else { return };
    run_with_python_tap(agent, scenario()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autogen() {
    let modules = "autogen_agentchat, autogen_ext.models.openai";
    let Some(agent) = python(modules, "autogen_agent.py", "taps: autogen") else { return };
    run_with_python_tap(agent, scenario()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn semantic_kernel() {
    let Some(agent) = python("semantic_kernel", "semantic_kernel_agent.py", "taps: semantic_kernel") else { return };
    run_with_python_tap(agent, scenario()).await;
}

/// Runs the tests in Python, of which those of a framework are skipped without it.
#[test]
fn a_tap_neither_fails_nor_delays_an_agent() {
    let Some(mut tests) = python("os", "test_taps.py", "taps: test_taps.py") else { return };
    let output = tests.envs(QUIET).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_a_framework() {
    let Some(agent) = python("os", "plain_agent.py", "taps: an_agent_without_a_framework") else { return };
    let mut expected = scenario();
    // The agent reports the attempt that its client would have repeated.
    (expected["llm_calls"], expected["llm_errors"]) = (json!(8), json!(2));
    run_with_python_tap(agent, expected).await;
}

/// Replays recorded event streams of Dify, one for each workflow, and one that breaks off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dify() {
    let Some(mut client) = python("os", "dify_client.py", "taps: dify") else { return };
    let recording = std::fs::read_to_string(format!("{ROOT}/tests/recordings/dify/long_mixed.jsonl")).unwrap();
    let mut streams: Vec<String> = Vec::new();
    for line in recording.lines() {
        if line.contains(r#""event": "workflow_started""#) {
            streams.push(String::new());
        }
        streams.last_mut().unwrap().push_str(&format!("data: {line}\n\nevent: ping\n\n"));
    }
    let mut expected: Value = serde_json::from_slice(
        &std::fs::read(format!("{ROOT}/tests/recordings/dify/long_mixed.expected.json")).unwrap(),
    )
    .unwrap();
    expected["agent"] = json!("support");
    let whole = streams.len();
    streams.push(streams[0].split_once("node_started").unwrap().0.rsplit_once("data:").unwrap().0.to_owned());
    for (key, more) in [("tasks", 1), ("failed", 1)] {
        expected[key] = json!(expected[key].as_u64().unwrap() + more);
    }
    let stream = move |axum::extract::Path(number): axum::extract::Path<usize>| {
        let answer = ([(header::CONTENT_TYPE, "text/event-stream")], streams[number].clone());
        async move { answer }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.env("DIFY_URL", format!("http://{}/run", listener.local_addr().unwrap()));
    client.env("WORKFLOWS", (whole + 1).to_string());
    let router = Router::new().route("/run/{number}", post(stream));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    run_with_python_tap(client, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_opentelemetry() {
    let Some(agent) = python("opentelemetry.sdk", "otel_agent.py", "taps: plain_opentelemetry") else { return };
    run_with_opentelemetry(agent, without_tools()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opentelemetry_over_grpc() {
    let module = "opentelemetry.exporter.otlp.proto.grpc";
    let Some(agent) = python(module, "otel_grpc_agent.py", "taps: opentelemetry_over_grpc") else { return };
    run_with_opentelemetry(agent, without_tools()).await;
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
    run_with_opentelemetry(agent, with_a_tool()).await;
}
