//! What happens between the exporter and a server that knows, rejects or lacks something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};
use sre_core::{AgentEvent, ExportBatch, ExportError, ExportReport, Exporter, Resource, Snapshot, Timestamp};
use sre_exporter_mlflow::{MlflowExporter, MlflowRun, MlflowSettings};
use sre_testkit::conformance::client;
use sre_testkit::otlp;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const AT: Timestamp = Timestamp::from_secs(1_790_000_100);

/// Starts a server with an experiment. `respond` responds to everything else.
async fn server(respond: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static) -> MockServer {
    let server = MockServer::start().await;
    let respond = move |request: &Request| match request.url.path() {
        "/api/2.0/mlflow/experiments/get-by-name" => ok(json!({"experiment": {"experiment_id": "7"}})),
        _ => respond(request),
    };
    Mock::given(any()).respond_with(respond).mount(&server).await;
    server
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn exporter(server: &MockServer) -> MlflowExporter {
    MlflowExporter::new(MlflowSettings::new(server.uri())).unwrap()
}

async fn export(exporter: &MlflowExporter, lines: &[&str]) -> ExportReport {
    let events: Vec<_> = lines.iter().map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap())).collect();
    let resource = Resource::new("test");
    exporter.export(&ExportBatch::new(AT, &resource).with_events(&events), &*client()).await.unwrap()
}

async fn export_slo(exporter: &MlflowExporter) -> ExportReport {
    try_export_slo(exporter).await.unwrap()
}

async fn try_export_slo(exporter: &MlflowExporter) -> Result<ExportReport, ExportError> {
    let slo = json!({
        "snapshot": "slo", "name": "answers", "agent": "support", "status": "warning", "target": 0.95, "window": "24h",
        "good": 97, "bad": 3, "sli": 0.97, "interval": null, "burn_rates": [], "alerts": [], "indicators": [], "dropped": 0,
        "error_budget": {"total": 0.05, "consumed": 0.6, "remaining": 0.4, "spent_in_s": null}
    });
    let snapshots: [Snapshot; 1] = [serde_json::from_value(slo).unwrap()];
    let resource = Resource::new("test");
    exporter.export(&ExportBatch::new(AT, &resource).with_state(&[], &snapshots), &*client()).await
}

async fn paths(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    requests.iter().map(|request| request.url.path().trim_start_matches("/api/").to_owned()).collect()
}

const TASKS: [&str; 3] = [
    r#"{"event":"tool_call","time":1790000001,"agent":"a","task":"good","tool":"x","duration_ms":5}"#,
    r#"{"event":"task_finished","time":1790000002,"agent":"a","task":"bad","success":true}"#,
    r#"{"event":"task_finished","time":1790000003,"agent":"a","task":"good","success":true}"#,
];

const EVALUATION: &str =
    r#"{"event":"evaluation","time":1790000004,"agent":"a","task":"good","metric":"relevance","score":0.75}"#;

#[tokio::test]
async fn a_rejected_trace_takes_no_other_with_it() {
    let server = server(|request| {
        let spans = otlp::spans(request);
        let is_bad = |span: &otlp::Span| otlp::attribute(&span.attributes, "sre.task").unwrap() == "bad";
        match spans.iter().any(is_bad) {
            true => ResponseTemplate::new(422).set_body_json(json!({"detail": "Trace tr-1: too long"})),
            false => ResponseTemplate::new(200),
        }
    })
    .await;
    let report = export(&exporter(&server), &TASKS).await;
    assert_eq!((report.accepted, report.rejected_count()), (2, 1), "{report:?}");
    assert!(report.rejected[0].reason.contains("too long"), "{report:?}");
}

#[tokio::test]
async fn a_busy_database_is_asked_again() {
    let server = server(|_| {
        let detail = "Failed to log OpenTelemetry spans: Trace tr-1: (sqlite3.OperationalError) database is locked";
        ResponseTemplate::new(422).set_body_json(json!({ "detail": detail }))
    })
    .await;
    let event = Arc::new(AgentEvent::from_json(TASKS[1].as_bytes()).unwrap());
    let (events, resource) = ([event], Resource::new("test"));
    let error = exporter(&server).export(&ExportBatch::new(AT, &resource).with_events(&events), &*client()).await;
    let error = error.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("database is locked"), "{error}");
}

#[tokio::test]
async fn an_evaluation_before_any_span_brings_the_trace() {
    let has_trace = std::sync::atomic::AtomicBool::new(false);
    let server = server(move |request| {
        if request.url.path() == "/v1/traces" {
            has_trace.store(true, std::sync::atomic::Ordering::Relaxed);
            return ResponseTemplate::new(200);
        }
        let is_there = has_trace.load(std::sync::atomic::Ordering::Relaxed);
        if is_there { ok(json!({})) } else { ResponseTemplate::new(404) }
    })
    .await;
    let report = export(&exporter(&server), &[EVALUATION]).await;
    assert_eq!(report.accepted, 1);
    let requests = server.received_requests().await.unwrap();
    let span = &otlp::spans(&requests[2])[0];
    assert_eq!(otlp::attribute(&span.attributes, "mlflow.spanType").unwrap(), "EVALUATOR");
    assert!(!span.parent_span_id.is_empty(), "the task stays the root of its trace");
}

#[tokio::test]
async fn an_assessment_that_exists_is_accepted() {
    let server = server(|request| match request.method.as_str() {
        "POST" => ResponseTemplate::new(500).set_body_string("UNIQUE constraint failed"),
        _ => ok(json!({"assessment": {}})),
    })
    .await;
    assert_eq!(export(&exporter(&server), &[EVALUATION]).await, ExportReport::accepted(1));
}

#[tokio::test]
async fn the_run_of_an_objective_is_found_again_and_its_artifact_kept_until_the_status_changes() {
    let info = json!({"run_id": "r1", "start_time": 1_790_000_040_000_i64, "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"});
    let server = server(move |_| ok(json!({"runs": [{"info": info}]}))).await;
    let exporter = exporter(&server);
    for _ in 0..2 {
        assert_eq!(export_slo(&exporter).await, ExportReport::accepted(1));
    }
    let expected = [
        "2.0/mlflow/experiments/get-by-name",
        "2.0/mlflow/runs/search",
        "2.0/mlflow/runs/log-batch",
        "2.0/mlflow-artifacts/artifacts/7/r1/artifacts/objective.json",
        "2.0/mlflow/runs/log-batch",
    ];
    assert_eq!(paths(&server).await, expected);
    let requests = server.received_requests().await.unwrap();
    let batch: Value = requests[2].body_json().unwrap();
    assert_eq!(
        batch["metrics"][0],
        json!({"key": "sli", "value": 0.97, "timestamp": 1_790_000_100_000_i64, "step": 60})
    );
    assert!(batch["params"].as_array().unwrap().contains(&json!({"key": "target", "value": "0.95"})));
    assert_eq!(requests[4].body_json::<Value>().unwrap()["params"], json!([]), "params are sent once");
}

#[tokio::test]
async fn an_objective_whose_run_was_created_twice_has_the_older_one() {
    let searches = AtomicU32::new(0);
    let server = server(move |request| match request.url.path().rsplit('/').next() {
        Some("search") if searches.fetch_add(1, Ordering::SeqCst) == 0 => ok(json!({})),
        Some("search") => ok(json!({"runs": [{"info": {"run_id": "older"}}]})),
        _ => ok(json!({"run": {"info": {"run_id": "newer"}}})),
    })
    .await;
    assert_eq!(export_slo(&exporter(&server)).await, ExportReport::accepted(1));
    let requests = server.received_requests().await.unwrap();
    let runs: Vec<Value> =
        requests[4..].iter().map(|request| request.body_json::<Value>().unwrap()["run_id"].take()).collect();
    assert_eq!(runs, ["newer", "older"]);
    assert_eq!(paths(&server).await[4..], ["2.0/mlflow/runs/delete", "2.0/mlflow/runs/log-batch"]);
}

#[tokio::test]
async fn a_run_that_was_deleted_is_looked_up_again() {
    let info = json!({"run_id": "r1", "start_time": 1_790_000_040_000_i64});
    let server = server(move |request| match request.url.path().ends_with("log-batch") {
        true => ResponseTemplate::new(400).set_body_string("The run r1 must be in the 'active' state."),
        false => ok(json!({"runs": [{"info": info}]})),
    })
    .await;
    let exporter = exporter(&server);
    for _ in 0..2 {
        let report = export_slo(&exporter).await;
        assert!(report.rejected[0].reason.contains("must be in the 'active' state"), "{report:?}");
    }
    assert_eq!(paths(&server).await.iter().filter(|path| path.ends_with("runs/search")).count(), 2);
}

#[tokio::test]
async fn a_deleted_experiment_is_an_error_that_says_what_to_do() {
    let server = MockServer::start().await;
    let deleted = ok(json!({"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}));
    Mock::given(any()).respond_with(deleted).mount(&server).await;
    let event = Arc::new(AgentEvent::from_json(TASKS[1].as_bytes()).unwrap());
    let (events, resource) = ([event], Resource::new("test"));
    let error = exporter(&server).export(&ExportBatch::new(AT, &resource).with_events(&events), &*client()).await;
    let expected =
        "mlflow answered 410: the experiment `agent-sre` is deleted; restore it, or set another `experiment`";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_gateway_that_answers_instead_of_mlflow_is_waited_for() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string("<html>Log in")).mount(&server).await;
    let event = Arc::new(AgentEvent::from_json(TASKS[1].as_bytes()).unwrap());
    let (events, resource) = ([event], Resource::new("test"));
    let error = exporter(&server).export(&ExportBatch::new(AT, &resource).with_events(&events), &*client()).await;
    let error = error.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("is `url` that of an MLflow server?"), "{error}");
}

#[tokio::test]
async fn a_run_and_an_artifact_are_logged_by_hand() {
    let run = json!({"info": {"run_id": "r2", "start_time": 1, "artifact_uri": "mlflow-artifacts:/7/r2/artifacts"}});
    let server = server(move |_| ok(json!({"run": run}))).await;
    let (exporter, http) = (exporter(&server), client());
    let run = MlflowRun {
        name: "release 1.2".to_owned(),
        metrics: [("success_rate".to_owned(), 0.98), ("nan".to_owned(), f64::NAN)].into(),
        params: [("model".to_owned(), "gpt-4o-mini".to_owned())].into(),
        ..MlflowRun::default()
    };
    let id = exporter.log_run(&run, AT, &*http).await.unwrap();
    exporter.log_artifact(&id, "reports/a b.json", "{}", AT, &*http).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let batch: Value = requests[2].body_json().unwrap();
    assert_eq!(batch["metrics"].as_array().unwrap().len(), 1);
    assert_eq!(batch["params"], json!([{"key": "model", "value": "gpt-4o-mini"}]));
    assert_eq!(requests[3].body_json::<Value>().unwrap()["status"], "FINISHED");
    let path = "/api/2.0/mlflow-artifacts/artifacts/7/r2/artifacts/reports/a%20b.json";
    assert_eq!((requests[5].method.as_str(), requests[5].url.path()), ("PUT", path));
}

#[tokio::test]
async fn an_artifact_that_is_not_stored_is_retried_then_counted_with_its_reason_and_stored_later() {
    let run = json!({"run": {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}}});
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = is_broken.clone();
    let server = server(move |request| match request.url.path().rsplit('/').next() {
        Some("objective.json") if broken.load(Ordering::SeqCst) => {
            ResponseTemplate::new(500).set_body_json(json!({"message": "no bucket"}))
        }
        Some("create") => ok(run.clone()),
        _ => ok(json!({})),
    })
    .await;
    let exporter = exporter(&server);
    for _ in 0..4 {
        let error = try_export_slo(&exporter).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let report = export_slo(&exporter).await;
    assert_eq!((report.accepted, report.rejected_count()), (0, 1), "{report:?}");
    let reason = &report.rejected[0].reason;
    assert!(
        reason.starts_with("artifact objective.json: mlflow answered 500") && reason.contains("no bucket"),
        "{reason}"
    );
    is_broken.store(false, Ordering::SeqCst);
    for puts in [6, 6] {
        assert_eq!(export_slo(&exporter).await.accepted, 1);
        let paths = paths(&server).await;
        let found = paths.iter().filter(|path| path.ends_with("objective.json")).count();
        assert_eq!(found, puts, "stored with the next state, and then not again");
    }
}
