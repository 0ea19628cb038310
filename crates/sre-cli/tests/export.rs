//! Tests `sre export` and `sre exporters test` as a user runs them, against a server on loopback that speaks OTLP.

mod common;

use std::net::TcpListener;
use std::process::Output;

use common::{sre, text};
use sre_testkit::otlp;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const RUN: &str = "tests/recordings/langgraph/all_ok.jsonl";

async fn collector(status: u16) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(&server).await;
    server
}

/// Runs the command on a thread that may wait.
async fn run(arguments: Vec<String>, stdin: String) -> Output {
    let run = move || sre(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &stdin);
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn arguments(list: &[&str]) -> Vec<String> {
    list.iter().map(|argument| (*argument).to_owned()).collect()
}

fn lines(count: usize) -> String {
    let line = |task| {
        format!(
            "{{\"event\":\"task_finished\",\"time\":1790000000,\"agent\":\"a\",\"task\":\"{task}\",\"success\":true}}\n"
        )
    };
    (0..count).map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_arrives_whole() {
    let collector = collector(200).await;
    let url = collector.uri();
    let slo = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(slo.path(), common::SLO).unwrap();
    let slo = slo.path().to_str().unwrap();
    // More events than a batch, and than an outbox has room for.
    let count = 70_000;
    let list = arguments(&[
        "export",
        "--to",
        "otlp",
        "--url",
        &url,
        "--set",
        "headers={\"api-key\":\"k\"}",
        "--slo",
        slo,
        "--from",
        "sre",
        "-",
    ]);
    let output = run(list, lines(count)).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{}", text(&output.stdout));
    assert!(text(&output.stdout).starts_with("otlp: sent 70000 of 70000 events"), "{}", text(&output.stdout));
    let requests = collector.received_requests().await.unwrap();
    let of_traces = requests.iter().filter(|request| request.url.path() == "/v1/traces");
    assert_eq!(of_traces.flat_map(otlp::spans).count(), count);
    assert!(requests.iter().any(|request| request.url.path() == "/v1/metrics"));
    assert!(requests.iter().all(|request| request.headers["api-key"] == "k"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_accepted_is_named_and_the_exit_code_is_2() {
    let collector = collector(400).await;
    let list = arguments(&["export", "--to", "otlp", "--url", &collector.uri(), "--from", "sre", "-"]);
    let output = run(list, lines(3)).await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("otlp: 3 rejected: otlp answered 400"), "{stderr}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let list = arguments(&["export", "--to", "otlp", "--url", &url, "--timeout", "1s", "--from", "sre", "-"]);
    let output = run(list, lines(3)).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("3 dropped: shutdown"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked() {
    for (list, expected) in [
        (&["--to", "otlp"][..], "`exporters[0].url`: expected the URL of a collector"),
        (&["--to", "otlp", "--url", "nowhere"], "otlp: `url`: expected a URL such as"),
        (&["--to", "otlp", "--url", "http://a", "--set", "speed=7"], "`exporters[0].speed`: unknown field"),
        (&["--to", "fax"], "invalid value 'fax' for '--to <TYPE>'"),
        (&[], "--to <TYPE>"),
    ] {
        let list = [&["export"], list, &["--from", "langgraph", RUN]].concat();
        let output = run(arguments(&list), String::new()).await;
        assert_eq!(output.status.code(), Some(2), "{list:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_shows_what_each_backend_answers() {
    let (good, bad) = (collector(200).await, collector(401).await);
    let config = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let settings = format!(
        "exporters:\n  - {{type: otlp, name: good, url: '{}'}}\n  - {{type: otlp, name: bad, url: '{}'}}\n",
        good.uri(),
        bad.uri()
    );
    std::fs::write(config.path(), settings).unwrap();
    let path = config.path().to_str().unwrap();
    let output = run(arguments(&["exporters", "test", "--config", path]), String::new()).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "good: accepted 3 of 3 records\n");
    assert!(text(&output.stderr).starts_with("bad: otlp answered 401"), "{}", text(&output.stderr));
    let list = arguments(&["exporters", "test", "--config", path, "--exporter", "good"]);
    assert_eq!(run(list, String::new()).await.status.code(), Some(0));
    let list = arguments(&["exporters", "test", "--config", path, "--exporter", "ugly"]);
    let stderr = text(&run(list, String::new()).await.stderr);
    assert!(stderr.contains("found no exporter `ugly`, expected one of good, bad"), "{stderr}");
}
