//! The commands that `docs/exporters.md` documents for MLflow and Phoenix, as a user runs them, with the real servers.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{ROOT, sre, text};
use serde_json::Value;
use sre_testkit::recordings::Expected;
use sre_testkit::servers::{Server, free_port, programs, read};

/// Returns the words of the command that begins so on the page, with `port` for the documented one.
fn documented(begin: &str, documented: u16, port: u16) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/exporters.md")).unwrap();
    let command = page.lines().find_map(|line| line.strip_prefix("$ ").filter(|command| command.starts_with(begin)));
    let command = command.unwrap_or_else(|| panic!("no command `{begin} …` on the page"));
    command.replace(&documented.to_string(), &port.to_string()).split_whitespace().map(str::to_owned).collect()
}

/// Runs the command of these words with further arguments.
fn run(words: &[String], more: &[&str]) -> Output {
    assert_eq!(words[0], "sre");
    sre(&words[1..].iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>(), "")
}

/// Asserts that the backend accepted everything. Returns the number of events.
fn all_accepted(output: &Output, backend: &str) -> String {
    let printed = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{printed}");
    let words: Vec<&str> = printed.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[3]), (&*format!("{backend}:"), "sent", "of"), "{printed}");
    assert!(words[2] != "0" && words[7] != "0", "{printed}");
    words[4].to_owned()
}

/// Asserts that the command names what an unavailable backend has not accepted, which is everything.
fn all_dropped(output: &Output, backend: &str, events: &str) {
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{printed}{errors}");
    assert!(printed.starts_with(&format!("{backend}: sent 0 of {events} events")), "{printed}");
    assert!(errors.contains(&format!("{backend}: {events} not sent within `--timeout`")), "{errors}");
    assert!(errors.contains("127.0.0.1"), "the error names the host: {errors}");
}

fn ground_truth() -> Expected {
    let path = Path::new(ROOT).join("tests/recordings/langgraph/long_mixed.expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> u64 {
    values.filter_map(Value::as_u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_bring_a_recorded_run_into_mlflow() {
    let Some(programs) = programs("mlflow", "mlflow", "sre export to MLflow") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let words = documented("mlflow server", 5000, port);
    let mut command = Command::new(programs.join(&words[0]));
    command.args(&words[1..]).env("MLFLOW_DISABLE_TELEMETRY", "true");
    let server = Server::start(command, folder.path(), &format!("{url}/health")).await;
    let export = documented("sre export --to mlflow", 5000, port);
    let events = all_accepted(&run(&export, &[]), "mlflow");

    let (found, truth) = (read(&programs, "read_mlflow.py", &[&url, "agent-sre"]), ground_truth());
    let traces = || found["traces"].as_object().unwrap().values();
    let in_state = |state: &str| traces().filter(|trace| trace["state"] == state).count() as u64;
    assert_eq!((in_state("OK"), in_state("ERROR")), (truth.succeeded, truth.failed));
    assert_eq!(traces().count() as u64, truth.tasks);
    let spans =
        |kind: &'static str| traces().flat_map(|trace| list(&trace["spans"])).filter(move |one| one["type"] == kind);
    assert_eq!(spans("TOOL").count() as u64, truth.tool_calls);
    assert_eq!(spans("TOOL").filter(|span| span["status"] == "ERROR").count() as u64, truth.tool_errors);
    assert_eq!(Some(spans("CHAT_MODEL").count() as u64), truth.llm_calls);
    let usage = |key: &'static str| {
        sum(spans("CHAT_MODEL").map(move |span| &span["attributes"]["mlflow.chat.tokenUsage"][key]))
    };
    assert_eq!((Some(usage("input_tokens")), Some(usage("output_tokens"))), (truth.input_tokens, truth.output_tokens));

    assert_eq!(list(&found["runs"]).count(), 2);
    for (objective, good, bad) in [
        ("support-answers", truth.succeeded, truth.failed),
        ("support-tools", truth.tool_calls - truth.tool_errors, truth.tool_errors),
    ] {
        let run = list(&found["runs"]).find(|run| run["params"]["objective"] == objective).unwrap();
        let last = |key: &str| run["metrics"][key].as_array().unwrap().last().unwrap()[0].as_f64();
        assert_eq!((last("good"), last("bad")), (Some(good as f64), Some(bad as f64)), "{run:#}");
    }

    drop(server);
    all_dropped(&run(&export, &["--timeout", "1s"]), "mlflow", &events);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_bring_a_recorded_run_into_phoenix() {
    let Some(programs) = programs("phoenix", "phoenix.client", "sre export to Phoenix") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let words = documented("phoenix serve", 6006, port);
    let mut command = Command::new(programs.join(&words[0]));
    command.args(&words[1..]).env("PHOENIX_HOST", "127.0.0.1").env("PHOENIX_PORT", port.to_string());
    command.env("PHOENIX_GRPC_PORT", free_port().to_string()).env("PHOENIX_WORKING_DIR", folder.path());
    command.env("PHOENIX_TELEMETRY_ENABLED", "false").env("PHOENIX_ALLOW_EXTERNAL_RESOURCES", "false");
    let server = Server::start(command, folder.path(), &format!("{url}/healthz")).await;
    let export = documented("sre export --to phoenix", 6006, port);
    let events = all_accepted(&run(&export, &[]), "phoenix");

    let truth = ground_truth();
    let wanted = (truth.tasks, truth.llm_calls.unwrap(), truth.tool_calls);
    let of_kind =
        |found: &Value, kind: &str| list(&found["spans"]).filter(|one| one["span_kind"] == kind).count() as u64;
    // Phoenix answers before it has stored what it got.
    let begun = Instant::now();
    let found = loop {
        let found = read(&programs, "read_phoenix.py", &[&url, "agent-sre"]);
        let counts = (of_kind(&found, "AGENT"), of_kind(&found, "LLM"), of_kind(&found, "TOOL"));
        if counts == wanted {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{counts:?}, expected {wanted:?}");
    };
    let failed = |kind: &str| {
        let of_kind = list(&found["spans"]).filter(|span| span["span_kind"] == kind);
        of_kind.filter(|span| span["status_code"] == "ERROR").count() as u64
    };
    assert_eq!((failed("AGENT"), failed("TOOL")), (truth.failed, truth.tool_errors));
    let tokens = |key: &str| Some(sum(list(&found["spans"]).map(|span| &span["attributes"][key])));
    assert_eq!(tokens("llm.token_count.prompt"), truth.input_tokens);
    assert_eq!(tokens("llm.token_count.completion"), truth.output_tokens);
    for objective in ["slo support-answers", "slo support-tools"] {
        assert!(
            list(&found["spans"]).any(|span| span["name"] == objective && !span["parent_id"].is_null()),
            "{objective}"
        );
    }

    drop(server);
    all_dropped(&run(&export, &["--timeout", "1s"]), "phoenix", &events);
}
