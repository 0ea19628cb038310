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
use sre_testkit::recordings::in_folder;

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

/// How often an agent calls the tool whose prompt asks for a loop.
const CALLS_OF_A_LOOP: usize = 3;
/// How long the first token of a slow stream takes at least; twice the target of `taps/objective.yaml`.
const SLOW: Duration = Duration::from_millis(100);

/// Returns the model's response to the last prompt of a user: one call of the first tool if it asks for that, several equal ones if
/// it asks for a loop, an error if it asks to fail, a rate limit at the first attempt if it asks for a retry, else a text.
async fn completion(headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let messages = request["messages"].as_array().unwrap();
    let is_prompt = |message: &Value| message["role"] == "user" && message["content"].to_string().contains('#');
    let since_prompt = messages.iter().rposition(is_prompt).map_or(&[][..], |place| &messages[place..]);
    let prompt = since_prompt.first().map(|message| message["content"].to_string()).unwrap_or_default();
    if prompt.contains("#fail") {
        let error = json!({"error": {"message": "the model does not answer", "type": "invalid_request_error"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    if prompt.contains("#retry") && headers.get("x-stainless-retry-count").is_none_or(|count| count == "0") {
        let error = json!({"error": {"message": "too many requests", "type": "rate_limit_error"}});
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after-ms", "1")], Json(error)).into_response();
    }
    if prompt.contains("#slow") {
        tokio::time::sleep(SLOW).await;
    }
    let made = since_prompt.iter().filter(|message| message["role"] == "assistant").count();
    let wanted = if prompt.contains("#loop") { CALLS_OF_A_LOOP } else { usize::from(prompt.contains("#tool")) };
    let (message, reason) = match request["tools"].get(0) {
        Some(tool) if made < wanted => {
            let arguments = json!({"q": "1", "explode": prompt.contains("#explode")}).to_string();
            let function = json!({"name": tool["function"]["name"], "arguments": arguments});
            let call = json!([{"index": 0, "id": format!("c{made}"), "type": "function", "function": function}]);
            (json!({"role": "assistant", "content": null, "tool_calls": call}), "tool_calls")
        }
        _ => (json!({"role": "assistant", "content": "All is well."}), "stop"),
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
    let slos = vec![tap_test("objective.yaml")];
    Server::start(Config { listen, data: data.into(), slos, ..Config::default() }).await.unwrap()
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

/// Polls the service until the objective of the agent has counted its tasks, each of `indicators` its samples and those of them that
/// miss the target, and every record was used. A workflow of Dify, which is replayed faster than it ran, ends in the future.
async fn until_objective(service: &Server, expected: &Value, indicators: &Value) {
    let begun = Instant::now();
    let expected = json!([expected["agent"], expected["succeeded"], expected["failed"], 0, indicators]);
    loop {
        let report = get(service, "/v1/slos").await;
        let objective = &report["slos"][0];
        let measured: Value = objective["indicators"].as_array().unwrap().iter().map(samples).collect();
        let unused = ["skipped", "unknown", "unmatched"].iter().map(|count| report["input"][count].as_u64().unwrap());
        let unused = unused.sum::<u64>();
        if json!([objective["agent"], objective["good"], objective["bad"], unused, measured]) == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "found {report}, expected {expected}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the name of an indicator, the number of its samples, and of those that miss the target.
fn samples(indicator: &Value) -> (String, Value) {
    let samples = indicator["samples"].as_f64().unwrap();
    let missed = samples * (1.0 - indicator["compliance"].as_f64().unwrap_or(1.0));
    (indicator["name"].as_str().unwrap().to_owned(), json!([samples as u64, missed.round() as u64]))
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

/// What the service reports of an agent with a Python tap.
struct Expected {
    /// The totals of its tasks, which its objective has, too.
    totals: Value,
    /// The samples of each indicator of its objective, and how many of them miss the target.
    indicators: Value,
}

impl Default for Expected {
    /// No task.
    fn default() -> Self {
        let indicators = ["repeated_tool_calls", "time_to_first_token", "delegation_chain_depth", "policy_compliance"];
        let none = |indicator: &str| (indicator.to_owned(), json!([0, 0]));
        Self { totals: json!({"agent": "support"}), indicators: indicators.into_iter().map(none).collect() }
    }
}

impl Expected {
    /// Adds to some of the totals.
    fn with(mut self, more: &[(&str, u64)]) -> Self {
        for (total, more) in more {
            self.totals[total] = json!(self.totals[total].as_u64().unwrap_or(0) + more);
        }
        self.indicators["repeated_tool_calls"][0] = self.totals["tasks"].clone();
        self
    }

    fn with_indicator(mut self, name: &str, samples: u64, missed: u64) -> Self {
        self.indicators[name] = json!([samples, missed]);
        self
    }
}

/// Runs an agent with a Python tap, and waits until the service reports what is expected.
async fn run_with_python_tap(mut agent: Command, expected: Expected) {
    let folder = tempfile::tempdir().unwrap();
    let service = start_service(folder.path(), "127.0.0.1:0".parse().unwrap()).await;
    agent.env("MODEL_URL", model_server().await).env("SRE_URL", service.url()).envs(QUIET);
    let output: Output = tokio::task::spawn_blocking(move || agent.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    until_totals(&service, &expected.totals, &text).await;
    until_objective(&service, &expected.totals, &expected.indicators).await;
    service.stop().await;
}

/// What is expected of the tasks of `taps/scenario.py`, each of which runs twice: alone, and at once with the others. The model call
/// that its client repeats after a rate limit is one call. One task of seven loops.
fn scenario() -> Expected {
    Expected::default()
        .with(&[("tasks", 14), ("succeeded", 12), ("failed", 2), ("incomplete", 0)])
        .with(&[("tool_calls", 10), ("tool_errors", 2), ("llm_calls", 24), ("llm_errors", 2)])
        .with(&[("input_tokens", 1_100), ("output_tokens", 220)])
        .with_indicator("repeated_tool_calls", 14, 2)
        .with_indicator("time_to_first_token", 2, 2)
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
    // An interrupted run, and one whose node raises.
    let expected = scenario().with(&[("tasks", 2), ("succeeded", 1), ("failed", 1)]);
    run_with_python_tap(agent, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_agents() {
    let Some(agent) = python("agents", "openai_agents_agent.py", "taps: openai_agents") else { return };
    // A handoff, a run that passes two guardrails and one that fails at the first, a run inside of a handler, and one whose hook raises.
    let expected = scenario()
        .with(&[("tasks", 5), ("succeeded", 3), ("failed", 2)])
        .with(&[("llm_calls", 4), ("input_tokens", 200), ("output_tokens", 40)])
        .with_indicator("delegation_chain_depth", 1, 0)
        .with_indicator("policy_compliance", 3, 1)
        // The SDK does not report it.
        .with_indicator("time_to_first_token", 0, 0);
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
    // An answer that passes a guardrail, and one that does not.
    let expected = scenario()
        .with(&[("tasks", 2), ("succeeded", 1), ("failed", 1)])
        .with(&[("llm_calls", 2), ("input_tokens", 100), ("output_tokens", 20)])
        .with_indicator("policy_compliance", 2, 1);
    run_with_python_tap(agent, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autogen() {
    let modules = "autogen_agentchat, autogen_ext.models.openai";
    let Some(agent) = python(modules, "autogen_agent.py", "taps: autogen") else { return };
    // A handoff, which is a tool, too.
    let expected = scenario()
        .with(&[("tasks", 1), ("succeeded", 1), ("tool_calls", 1)])
        .with(&[("llm_calls", 2), ("input_tokens", 100), ("output_tokens", 20)])
        .with_indicator("delegation_chain_depth", 1, 0);
    run_with_python_tap(agent, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn semantic_kernel() {
    let Some(agent) = python("semantic_kernel", "semantic_kernel_agent.py", "taps: semantic_kernel") else { return };
    run_with_python_tap(agent, scenario().with_indicator("time_to_first_token", 0, 0)).await;
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
    // The agent reports the attempt that its client would have repeated.
    run_with_python_tap(agent, scenario().with(&[("llm_calls", 2), ("llm_errors", 2)])).await;
}

/// Replays the recorded event streams of Dify, one for each workflow, and one that breaks off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dify() {
    let Some(mut client) = python("os", "dify_client.py", "taps: dify") else { return };
    let (mut streams, mut expected): (Vec<String>, _) = (Vec::new(), Expected::default());
    for recording in in_folder(&Path::new(ROOT).join("tests/recordings/dify")) {
        for line in std::fs::read_to_string(&recording.lines).unwrap().lines() {
            if line.contains(r#""event": "workflow_started""#) {
                streams.push(String::new());
            }
            streams.last_mut().unwrap().push_str(&format!("data: {line}\n\nevent: ping\n\n"));
        }
        let truth = serde_json::to_value(&recording.expected).unwrap();
        let counts = truth.as_object().unwrap().iter().filter_map(|(name, count)| Some((&**name, count.as_u64()?)));
        expected = expected.with(&counts.collect::<Vec<_>>());
    }
    let whole = streams.len();
    streams.push(streams[0].split_once("node_started").unwrap().0.rsplit_once("data:").unwrap().0.to_owned());
    let expected = expected.with(&[("tasks", 1), ("failed", 1)]);
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
