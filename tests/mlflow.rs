//! A recorded run of LangGraph in a real MLflow server, read back by MLflow's own client.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use agent_sre::mlflow::{MlflowExporter, MlflowSettings};
use serde_json::{Value, json};
use sre_core::{AgentEvent, Event, EventSpan, SloSnapshot, Timestamp};
use sre_testkit::servers::{Server, free_port, programs, read};

mod servers;

use servers::{Export, TIMES};

const EXPERIMENT: &str = "süpport";

fn serve(programs: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(programs.join("python"));
    command
        .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()])
        .args(["--backend-store-uri", &format!("sqlite:///{}/mlflow.db", folder.display())])
        .args(["--artifacts-destination", &folder.join("artifacts").display().to_string()])
        .env("MLFLOW_DISABLE_TELEMETRY", "true");
    command
}

fn exporter(url: &str) -> Arc<MlflowExporter> {
    let settings = MlflowSettings { experiment: EXPERIMENT.to_owned(), ..MlflowSettings::new(url) };
    Arc::new(MlflowExporter::new(settings).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflow_has_a_recorded_run_field_by_field() {
    let Some(programs) = programs("mlflow", "mlflow", "mlflow") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let _server = Server::start(serve(&programs, folder.path(), port), folder.path(), &format!("{url}/health")).await;
    let read_back = || read(&programs, "read_mlflow.py", &[&url, EXPERIMENT]);

    let events = servers::recorded();
    let [alone, before, after] = servers::parts(&events);
    let export = Export::new(exporter(&url));
    let states = [export.send(alone, TIMES[0]).await, export.send(before, TIMES[1]).await];
    let unfinished = &read_back()["traces"][trace_of(before.last().unwrap())];
    assert_eq!(unfinished["state"], "IN_PROGRESS", "children arrive before their root: {unfinished:#}");
    let last = export.send(after, TIMES[2]).await;
    let mut found = read_back();
    check_traces(&found, &events, Some(&alone[0]));
    check_run(&found["runs"], &[&states[0], &states[1], &last]);

    // After a restart that sends everything again, nothing is there twice.
    Export::new(exporter(&url)).send(&events, TIMES[2]).await;
    let mut again = read_back();
    // It is stored when the status changes, and by each process once.
    let of_state = [&mut found, &mut again].map(|read| read["runs"][0]["artifacts"]["objective.json"].take());
    assert_eq!(of_state[0]["good"], states[0].good);
    assert_eq!(of_state[1]["good"], last.good);
    assert_same("", &again, &found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_in_the_middle_has_every_trace_and_reading() {
    let Some(programs) = programs("mlflow", "mlflow", "mlflow") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let start =
        async || Server::start(serve(&programs, folder.path(), port), folder.path(), &format!("{url}/health")).await;
    let events = servers::recorded();
    let [alone, before, after] = servers::parts(&events);
    let export = Export::new(exporter(&url));
    let server = start().await;
    let first = export.send(alone, TIMES[0]).await;
    drop(server);
    let second = export.send_in_vain(before, TIMES[1]).await;
    let _server = start().await;
    let last = export.send(after, TIMES[2]).await;
    let found = read(&programs, "read_mlflow.py", &[&url, EXPERIMENT]);
    check_traces(&found, &events, Some(&alone[0]));
    check_run(&found["runs"], &[&first, &second, &last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_and_lost_responses_neither_lose_nor_double_anything() {
    let Some(programs) = programs("mlflow", "mlflow", "mlflow") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let _server = Server::start(serve(&programs, folder.path(), port), folder.path(), &format!("{url}/health")).await;
    let events = servers::recorded();
    let states = Export::through_faults(exporter(&url), &events).await;
    let found = read(&programs, "read_mlflow.py", &[&url, EXPERIMENT]);
    check_traces(&found, &events, Some(&events[0]));
    check_run(&found["runs"], &states.each_ref());
}

/// Asserts that two values are the same, and otherwise names where they differ.
fn assert_same(path: &str, found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) if found.keys().eq(expected.keys()) => {
            found.iter().for_each(|(key, value)| assert_same(&format!("{path}/{key}"), value, &expected[key]));
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            found.iter().zip(expected).for_each(|(found, expected)| assert_same(&format!("{path}/"), found, expected));
        }
        _ => assert_eq!(found, expected, "{path}"),
    }
}

fn trace_of(event: &AgentEvent) -> String {
    format!("tr-{}", EventSpan::of(event).unwrap().trace_id)
}

/// `alone` is the event that was sent before anything else.
fn check_traces(found: &Value, events: &[AgentEvent], alone: Option<&AgentEvent>) {
    let tasks: Vec<&AgentEvent> = events.iter().filter(|event| matches!(event.event, Event::TaskFinished(_))).collect();
    assert_eq!(found["traces"].as_object().unwrap().len(), tasks.len());
    for task in tasks {
        let id = trace_of(task);
        let of_task: Vec<&AgentEvent> =
            events.iter().filter(|event| EventSpan::of(event).is_some_and(|_| trace_of(event) == id)).collect();
        let is_brought = alone.is_some_and(|alone| trace_of(alone) == id);
        check_trace(&found["traces"][&id], task, &of_task, is_brought);
    }
}

fn check_trace(trace: &Value, task: &AgentEvent, events: &[&AgentEvent], is_brought: bool) {
    let root = EventSpan::of(task).unwrap();
    assert_eq!(trace["state"], if root.outcome == Some(true) { "OK" } else { "ERROR" });
    assert_eq!(trace["name"], *task.agent);
    let (start, end) = (millis(root.start), millis(root.end));
    assert_eq!(trace["request_time_ms"], start);
    assert!(trace["duration_ms"].as_i64().unwrap().abs_diff(end - start) <= 1, "{trace:#}");
    assert_eq!(trace["tags"]["sre.agent"], *task.agent);
    assert_eq!(trace["request"], json!({"task": task.task}).to_string().replace(':', ": "));
    assert_eq!(trace["tags"]["sre.task"], **task.task.as_ref().unwrap());
    let (mut spans, mut verdicts, mut tokens, mut calls) = (0, 0, [0, 0], 0);
    for event in events {
        match &event.event {
            Event::Evaluation(_) | Event::PolicyCheck(_) => {
                verdicts += 1;
                check_assessment(&trace["assessments"], event);
            }
            _ => {
                spans += 1;
                check_span(&trace["spans"], event);
            }
        }
        if let Event::LlmCall(call) = &event.event {
            tokens = [tokens[0] + call.input_tokens, tokens[1] + call.output_tokens];
            calls += 1;
        }
    }
    let evaluators = trace["spans"].as_array().unwrap().iter().filter(|span| span["type"] == "EVALUATOR").count();
    assert_eq!(evaluators, usize::from(is_brought), "an evaluation before any span brings one: {trace:#}");
    assert_eq!(trace["spans"].as_array().unwrap().len(), spans + evaluators, "{trace:#}");
    assert_eq!(trace["assessments"].as_array().unwrap().len(), verdicts, "{trace:#}");
    assert_eq!(trace["tokens"]["input_tokens"], tokens[0]);
    assert_eq!(trace["tokens"]["output_tokens"], tokens[1]);
    assert_eq!(trace["tokens"]["total_tokens"], tokens[0] + tokens[1]);
    let cost = trace["cost"]["total_cost"].as_f64().unwrap();
    assert!((cost - 0.0125 * f64::from(calls)).abs() < 1e-9, "{trace:#}");
}

fn check_span(spans: &Value, event: &AgentEvent) {
    let expected = EventSpan::of(event).unwrap();
    let id = expected.span_id.to_string();
    let span = spans.as_array().unwrap().iter().find(|span| span["id"] == id).unwrap();
    assert_eq!(span["parent"], json!(expected.parent_span_id.map(|id| id.to_string())), "{span:#}");
    assert_eq!((&span["start"], &span["end"]), (&nanos(expected.start), &nanos(expected.end)), "{span:#}");
    let status = match expected.outcome {
        Some(true) => "OK",
        Some(false) => "ERROR",
        None => "UNSET",
    };
    assert_eq!(span["status"], status, "{span:#}");
    if let Some(error) = expected.error {
        assert_eq!((&span["message"], &span["exceptions"][0]), (&json!(error), &json!(error)));
    }
    let attribute = |key: &str| &span["attributes"][key];
    let (name, kind) = match &event.event {
        Event::TaskFinished(_) => (event.agent.clone(), "AGENT"),
        Event::StepFinished(step) => (step.name.clone(), "CHAIN"),
        Event::ToolCall(call) => (call.tool.clone(), "TOOL"),
        Event::LlmCall(call) => {
            let tokens = attribute("mlflow.chat.tokenUsage");
            assert_eq!(tokens["input_tokens"], call.input_tokens, "{span:#}");
            assert_eq!(tokens["output_tokens"], call.output_tokens, "{span:#}");
            assert_eq!(attribute("mlflow.llm.cost")["total_cost"], 0.0125, "{span:#}");
            (call.model.clone().unwrap(), "CHAT_MODEL")
        }
        other => panic!("no such event in the recording: {other:?}"),
    };
    assert_eq!((&span["name"], &span["type"]), (&json!(name), &json!(kind)), "{span:#}");
}

fn check_assessment(assessments: &Value, event: &AgentEvent) {
    let (name, value, source) = match &event.event {
        Event::Evaluation(evaluation) => {
            let source = if evaluation.confidence.is_some() { "LLM_JUDGE" } else { "CODE" };
            (&evaluation.metric, json!(evaluation.score), source)
        }
        Event::PolicyCheck(check) => (&check.policy, json!(check.compliant), "CODE"),
        other => panic!("not a verdict: {other:?}"),
    };
    let span = json!(event.parent_span_id.map(|id| id.to_string()));
    let is_it = |one: &&Value| one["name"] == **name && one["value"] == value && one["span"] == span;
    let found = assessments.as_array().unwrap().iter().find(is_it);
    let found = found.unwrap_or_else(|| panic!("no {name} of {span} in {assessments:#}"));
    assert_eq!(found["source"], source);
    assert_eq!(found["metadata"]["agent"], *event.agent);
    assert_eq!(found["metadata"]["passed"], event.event.outcome().unwrap().to_string());
    assert_eq!(found["time_ms"], millis(event.time));
}

fn check_run(runs: &Value, states: &[&SloSnapshot; 3]) {
    assert_eq!(runs.as_array().unwrap().len(), 1, "one run for the objective: {runs:#}");
    let run = &runs[0];
    assert_eq!((&run["name"], &run["status"]), (&json!("answers / support-agent"), &json!("RUNNING")));
    assert_eq!(run["begun_ms"], millis(TIMES[0]));
    let last = states[2];
    let indicator = &last.indicators[0];
    let params = json!({
        "objective": "answers", "agent": "support-agent", "window": last.window.to_string(),
        "target": last.target.unwrap().to_string(), "error_budget": last.error_budget.total.unwrap().to_string(),
        format!("indicator/{}/target", indicator.name): indicator.target.to_string(),
        format!("indicator/{}/window", indicator.name): indicator.window.to_string(),
    });
    assert_eq!(run["params"], params);
    assert_eq!(run["tags"]["sre.status"], last.status.as_str());
    assert_eq!(run["tags"]["mlflow.note.content"], "Nine of ten tasks succeed.");
    let value = format!("indicator/{}/value", indicator.name);
    check_history(run, states, &value, |slo| slo.indicators[0].value);
    check_history(run, states, "sli", |slo| slo.sli);
    check_history(run, states, "error_budget_remaining", |slo| slo.error_budget.remaining);
    check_history(run, states, "good", |slo| Some(slo.good as f64));
    check_history(run, states, "bad", |slo| Some(slo.bad as f64));
    let burn = &last.burn_rates[0];
    check_history(run, states, &format!("burn_rate/{}", burn.window), |slo| slo.burn_rates[0].rate);
    assert_eq!(run["artifacts"]["objective.json"]["name"], "answers");
    assert_eq!(run["artifacts"]["objective.json"]["status"], last.status.as_str());
}

fn check_history(run: &Value, states: &[&SloSnapshot; 3], key: &str, of: impl Fn(&SloSnapshot) -> Option<f64>) {
    let point = |(at, slo): (Timestamp, &&SloSnapshot)| {
        let step = at.since(TIMES[0]).as_secs();
        Some(json!([of(slo)?, millis(at), step]))
    };
    let expected: Vec<Value> = TIMES.into_iter().zip(states).filter_map(point).collect();
    assert_eq!(run["metrics"].get(key).unwrap_or(&json!([])), &json!(expected), "{key}: {:#}", run["metrics"]);
}

fn millis(time: Timestamp) -> i64 {
    time.as_nanos() / 1_000_000
}

fn nanos(time: Timestamp) -> Value {
    time.as_nanos().into()
}
