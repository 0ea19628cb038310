//! Tests `sre export` and `sre exporters test` as a user runs them, against a server on loopback that speaks OTLP.

mod common;

use std::net::TcpListener;
use std::process::Output;
use std::time::Duration;

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use bytes::Bytes;
use common::{backends, sre, text};
use serde_json::Value;
use sre_testkit::otlp;
use wiremock::matchers::{any, header};
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
    assert!(text(&output.stderr).contains("3 not sent within `--timeout`"), "{}", text(&output.stderr));
}

/// Metrics are those of each minute of the recording, at its own times, however long ago it is.
#[tokio::test(flavor = "multi_thread")]
async fn objectives_are_read_at_the_times_of_the_recording() {
    let collector = collector(200).await;
    let slo = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(slo.path(), common::SLO).unwrap();
    let slo = slo.path().to_str().unwrap();
    let list = ["export", "--to", "otlp", "--url", &collector.uri(), "--slo", slo, "--from", "sre", "-"];
    let year = 1_600_000_000;
    let line = |second| {
        format!("{{\"event\":\"task_finished\",\"time\":{second},\"agent\":\"a\",\"success\":{}}}\n", second % 4 > 0)
    };
    let input: String = (0..300).map(|second| line(year + second)).collect();
    let output = run(arguments(&list), input).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{}", text(&output.stdout));
    let requests = collector.received_requests().await.unwrap();
    let of_metrics = requests.iter().filter(|request| request.url.path() == "/v1/metrics");
    let readings: Vec<(u64, f64)> = of_metrics
        .flat_map(|request| otlp::points(request, "sre.slo.sli"))
        .map(|(time, value)| (time / 1_000_000_000, value))
        .collect();
    let times: Vec<u64> = readings.iter().map(|(time, _)| time - year).collect();
    assert_eq!(times, [59, 119, 179, 239, 299]);
    assert!(readings.iter().all(|(_, sli)| (0.74..0.77).contains(sli)), "{readings:?}");
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

/// Of each exporter, events or state, or both: what has no equivalent in a backend is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_reaches_every_type_of_exporter() {
    let server = backends::start().await;
    let config = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(config.path(), backends::settings(&server.uri())).unwrap();
    let list = arguments(&["exporters", "test", "--config", config.path().to_str().unwrap()]);
    let output = run(list, String::new()).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(backends::reached(&server).await, agent_sre::exporter_types().map(str::to_owned).collect());
    let accepted = |name: &str| match name {
        "datadog" => "5 of 5",
        "wandb" => "4 of 5",
        "helicone" => "2 of 3",
        _ => "4 of 4",
    };
    let line = |name: &str| format!("{name}: accepted {} records\n", accepted(name));
    let expected: String = agent_sre::exporter_types().map(line).collect();
    assert_eq!(text(&output.stdout), expected);
}

/// The service logs once that credentials are rejected, and sends what waits once the settings change.
#[tokio::test(flavor = "multi_thread")]
async fn rejected_credentials_are_logged_once_and_never_shown() {
    let backend = MockServer::start().await;
    Mock::given(header("api-key", "right")).respond_with(ResponseTemplate::new(200)).mount(&backend).await;
    let wrong = ResponseTemplate::new(401).set_body_string("wr0ng-key is no key");
    Mock::given(any()).respond_with(wrong).with_priority(9).mount(&backend).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = |key: &str| {
        let url = backend.uri();
        let text = format!(
            "data: {}\nexporters: [{{type: otlp, url: '{url}', headers: {{api-key: {key}}}, interval: 1s}}]\n",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("sre.yaml"), text).unwrap();
    };
    settings("wr0ng-key");
    let mut command =
        common::serve(&["--listen", "127.0.0.1:0", "--config", folder.path().join("sre.yaml").to_str().unwrap()]);
    command.env("SRE_LOG", "trace").stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    let service = tokio::task::spawn_blocking(move || common::Service::of(command)).await.unwrap();
    let client = Client::new(Options::default()).unwrap();
    let status = async || {
        let request = http::Request::get(format!("{}/v1/exporters", service.url)).body(Bytes::new()).unwrap();
        let answer = client.send(request).await.unwrap();
        serde_json::from_slice::<Value>(answer.body()).unwrap()["exporters"][0].clone()
    };
    let until = async |is_met: fn(&Value) -> bool| {
        while !is_met(&status().await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until(|exporter| exporter["state"] == "halted").await;
    // What arrives meanwhile waits, and is no reason to ask or to log again.
    for task in 0..3_u64 {
        let body = lines(1).replace("\"task\":\"0\"", &format!("\"task\":\"{task}\""));
        let request = http::Request::post(format!("{}/v1/events/sre", service.url));
        let request = request.header("content-type", "application/x-ndjson").body(Bytes::from(body)).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
    }
    until(|exporter| exporter["waiting"] == 3).await;
    settings("right");
    until(|exporter| exporter["state"] == "ok" && exporter["waiting"] == 0 && exporter["sent"].as_u64() > Some(3))
        .await;
    drop(service);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.matches("Credentials rejected by the backend").count(), 1, "{log}");
    assert!(!log.contains("wr0ng-key") && log.contains("***"), "{log}");
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
    assert_eq!(text(&output.stdout), "good: accepted 4 of 4 records\n");
    assert!(text(&output.stderr).starts_with("bad: otlp answered 401"), "{}", text(&output.stderr));
    let list = arguments(&["exporters", "test", "--config", path, "--exporter", "good"]);
    assert_eq!(run(list, String::new()).await.status.code(), Some(0));
    let list = arguments(&["exporters", "test", "--config", path, "--exporter", "ugly"]);
    let stderr = text(&run(list, String::new()).await.stderr);
    assert!(stderr.contains("found no exporter `ugly`, expected one of good, bad"), "{stderr}");
}
