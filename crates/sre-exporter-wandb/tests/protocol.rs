//! What Weights & Biases receives over time.

mod server;

use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{
    AgentEvent, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Metric, MetricUnit, Resource, Secret,
    Snapshot, Timestamp,
};
use sre_exporter_wandb::{WandbExporter, WandbRun, WandbSettings};
use sre_testkit::{clients, conformance};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

struct Sink {
    server: MockServer,
    http: Arc<dyn HttpClient>,
    resource: Resource,
}

impl Sink {
    async fn new() -> Self {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(server::success).with_priority(9).mount(&server).await;
        Self { server, http: conformance::client(), resource: Resource::new("tests") }
    }

    /// Gives another response to an operation, or to `file_stream`.
    async fn answers(&self, operation: &'static str, answer: ResponseTemplate) {
        let is = move |request: &Request| server::operation(request).as_deref().unwrap_or("file_stream") == operation;
        Mock::given(is).respond_with(answer).up_to_n_times(1).with_priority(1).mount(&self.server).await;
    }

    fn exporter(&self) -> WandbExporter {
        let settings = WandbSettings::new(Secret::new("KEY"), "team");
        let (url, tags) = (self.server.uri(), vec!["slo".to_owned()]);
        WandbExporter::new(WandbSettings { url, tags, project: "agents".to_owned(), ..settings }).unwrap()
    }

    async fn send_events(&self, exporter: &WandbExporter, lines: &[&str]) -> Result<ExportReport, ExportError> {
        let event = |line: &&str| Arc::new(AgentEvent::from_json(format!("{{{line}}}").as_bytes()).unwrap());
        let events: Vec<_> = lines.iter().map(event).collect();
        let batch = ExportBatch::new(Timestamp::from_secs(200), &self.resource).with_events(&events);
        exporter.export(&batch, &*self.http).await
    }

    async fn send_slo(&self, exporter: &WandbExporter, second: i64, status: &str) -> Result<ExportReport, ExportError> {
        let snapshots = [slo(status)];
        let batch = ExportBatch::new(Timestamp::from_secs(second), &self.resource).with_state(&[], &snapshots);
        exporter.export(&batch, &*self.http).await
    }

    async fn requests(&self) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().for_each(server::check);
        requests
    }

    async fn operations(&self) -> Vec<String> {
        let name = |request| server::operation(request).unwrap_or_else(|| "file_stream".to_owned());
        self.requests().await.iter().map(name).collect()
    }

    async fn history(&self) -> Vec<(u64, Vec<Value>)> {
        self.requests().await.iter().filter_map(server::history).collect()
    }
}

fn slo(status: &str) -> Snapshot {
    serde_json::from_value(json!({
        "snapshot": "slo", "name": "answers", "agent": "support", "status": status, "target": 0.95, "window": "24h",
        "good": 97, "bad": 3, "sli": 0.97, "interval": null,
        "error_budget": {"total": 0.05, "consumed": 0.6, "remaining": 0.4, "spent_in_s": null},
        "burn_rates": [{"window": "1h", "rate": 2.5, "good": 9, "bad": 1}], "alerts": [], "indicators": [], "dropped": 0
    }))
    .unwrap()
}

const TASK: &str = r#""event":"task_finished","time":104,"agent":"support","task":"t","success":true,"duration_ms":4000,"cost_usd":"0.05""#;
const JUDGED: &str =
    r#""event":"evaluation","time":105,"agent":"support","task":"t","metric":"relevance","score":0.75"#;
const OTHER: &str = r#""event":"task_finished","time":106,"agent":"billing","task":"u","success":false,"error":"x""#;
const CALL: &str = r#""event":"llm_call","time":103,"agent":"support","task":"t""#;

#[tokio::test]
async fn tasks_and_evaluations_are_rows_of_their_agents_run() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    let report = sink.send_events(&exporter, &[CALL, TASK, JUDGED, OTHER]).await.unwrap();
    assert_eq!((report.accepted, report.ignored), (3, 1));
    sink.send_events(&exporter, &[TASK]).await.unwrap();
    let of_task = json!({"task/success": 1, "task/duration_s": 4.0, "task/cost_usd": 0.05, "_timestamp": 104.0});
    let task = |step: u64| {
        let mut row = of_task.clone();
        row["_step"] = step.into();
        row
    };
    let judged = json!({"eval/relevance": 0.75, "_timestamp": 105.0, "_step": 1});
    let failed = json!({"task/success": 0, "_timestamp": 106.0, "_step": 0});
    let expected = [(0, vec![task(0), judged]), (0, vec![failed]), (2, vec![task(2)])];
    assert_eq!(sink.history().await, expected);
    let requests = sink.requests().await;
    let summary = server::summary(&requests[1]).unwrap();
    assert_eq!((&summary["task/success"], &summary["eval/relevance"]), (&json!(1), &json!(0.75)));
}

#[tokio::test]
async fn a_restarted_process_adds_rows_after_those_that_are_there() {
    let sink = Sink::new().await;
    sink.send_slo(&sink.exporter(), 60, "healthy").await.unwrap();
    let first = sink.requests().await;
    let there = server::upserted(7, &json!({"slo/status": "healthy"}));
    sink.answers("UpsertBucket", ResponseTemplate::new(200).set_body_json(there)).await;
    sink.send_slo(&sink.exporter(), 120, "healthy").await.unwrap();
    let second = sink.requests().await.split_off(first.len());
    assert_eq!(server::body(&first[0])["variables"]["name"], server::body(&second[0])["variables"]["name"]);
    assert_eq!(server::history(&second[1]).unwrap().0, 7);
}

#[tokio::test]
async fn rows_that_failed_are_sent_to_the_same_place() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    sink.answers("file_stream", ResponseTemplate::new(500)).await;
    assert!(sink.send_events(&exporter, &[TASK]).await.unwrap_err().is_retryable());
    sink.send_events(&exporter, &[TASK]).await.unwrap();
    let history = sink.history().await;
    assert_eq!(history[0], history[1]);
}

#[tokio::test]
async fn only_the_rows_of_a_run_that_failed_are_sent_again() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    sink.send_events(&exporter, &[TASK]).await.unwrap();
    sink.answers("UpsertBucket", ResponseTemplate::new(503)).await;
    let report = sink.send_events(&exporter, &[TASK, CALL, OTHER]).await.unwrap();
    assert_eq!((report.accepted, report.ignored, report.retry), (1, 1, vec![2]));
}

/// W&B never uses the id of a deleted run again.
#[tokio::test]
async fn a_run_that_was_deleted_is_replaced_by_another() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    sink.send_events(&exporter, &[TASK]).await.unwrap();
    sink.answers("file_stream", ResponseTemplate::new(404)).await;
    assert!(!sink.send_events(&exporter, &[TASK]).await.unwrap_err().is_temporary());
    let message = "run team/agents/agent was previously created and deleted; try a new run name";
    let deleted = ResponseTemplate::new(409).set_body_json(json!({"errors": [{"message": message}]}));
    sink.answers("UpsertBucket", deleted).await;
    for _ in 0..2 {
        assert_eq!(sink.send_events(&exporter, &[TASK]).await.unwrap().accepted, 1);
    }
    let requests = sink.requests().await;
    let upserts = requests.iter().filter(|request| server::operation(request).as_deref() == Some("UpsertBucket"));
    let ids: Vec<_> = upserts.map(|request| server::body(request)["variables"]["name"].clone()).collect();
    let second = format!("{}-2", ids[0].as_str().unwrap());
    assert_eq!(ids, [ids[0].clone(), ids[0].clone(), second.clone().into()], "opened again once");
    assert!(requests.last().unwrap().url.path().contains(&second), "its rows are those of the new run");
}

#[tokio::test]
async fn objectives_whose_runs_are_accepted_do_not_suffer_from_another() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    let mut other = slo("healthy");
    let Snapshot::Slo(slo_of_other) = &mut other else { panic!("an objective") };
    slo_of_other.name = "other".to_owned();
    sink.answers("UpsertBucket", ResponseTemplate::new(400)).await;
    let snapshots = [slo("healthy"), other];
    let batch = ExportBatch::new(Timestamp::from_secs(60), &sink.resource).with_state(&[], &snapshots);
    let report = exporter.export(&batch, &*sink.http).await.unwrap();
    assert_eq!((report.accepted, report.rejected_count()), (1, 1), "{report:?}");
}

#[tokio::test]
async fn a_change_to_critical_or_exhausted_is_an_alert() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    for (second, status) in
        [(60, "healthy"), (120, "critical"), (180, "critical"), (240, "exhausted"), (300, "warning")]
    {
        sink.send_slo(&exporter, second, status).await.unwrap();
    }
    let requests = sink.requests().await;
    let alerts =
        requests.iter().filter(|request| server::operation(request).as_deref() == Some("NotifyScriptableRunAlert"));
    let alerts: Vec<_> = alerts.map(|request| server::body(request)["variables"].clone()).collect();
    let titles: Vec<_> = alerts.iter().map(|alert| (&alert["title"], &alert["severity"])).collect();
    assert_eq!(
        titles,
        [(&json!("SLO answers is critical"), &json!("WARN")), (&json!("SLO answers is exhausted"), &json!("ERROR"))]
    );
    assert_eq!(
        alerts[0]["text"],
        "Objective answers of agent support: 97 good and 3 bad events in 24h, error budget left: 40.0 %."
    );
    let last = requests.iter().filter_map(server::summary).next_back().unwrap();
    assert_eq!((&last["slo/status"], &last["slo/burn_rate/1h"]), (&json!("warning"), &json!(2.5)));
}

#[tokio::test]
async fn a_restart_repeats_no_alert() {
    let sink = Sink::new().await;
    let there = server::upserted(7, &json!({"slo/status": "exhausted"}));
    sink.answers("UpsertBucket", ResponseTemplate::new(200).set_body_json(there)).await;
    sink.send_slo(&sink.exporter(), 120, "exhausted").await.unwrap();
    assert_eq!(sink.operations().await, ["UpsertBucket", "file_stream"]);
}

#[tokio::test]
async fn a_refused_alert_is_counted_and_the_row_is_sent() {
    let sink = Sink::new().await;
    let errors = json!({"data": null, "errors": [{"message": "alerts are disabled for KEY"}]});
    sink.answers("NotifyScriptableRunAlert", ResponseTemplate::new(200).set_body_json(errors)).await;
    let report = sink.send_slo(&sink.exporter(), 60, "exhausted").await.unwrap();
    assert_eq!((report.accepted, report.rejected_count()), (0, 1));
    let reason = &report.rejected[0].reason;
    assert_eq!(reason, "wandb answered 422: NotifyScriptableRunAlert: alerts are disabled for ***");
    assert_eq!(sink.history().await.len(), 1);
}

#[tokio::test]
async fn errors_of_graphql_come_with_status_200() {
    let sink = Sink::new().await;
    for (message, is_unauthorized, is_retryable) in
        [("permission denied", true, false), ("internal error", false, true), ("no such project", false, false)]
    {
        let answer = ResponseTemplate::new(200).set_body_json(json!({"errors": [{"message": message}]}));
        sink.answers("UpsertBucket", answer).await;
        let error = sink.send_events(&sink.exporter(), &[TASK]).await.unwrap_err();
        assert_eq!((error.is_unauthorized(), error.is_retryable()), (is_unauthorized, is_retryable), "{error}");
    }
    sink.answers("UpsertBucket", ResponseTemplate::new(200).set_body_string("<html>")).await;
    let error = sink.send_events(&sink.exporter(), &[TASK]).await.unwrap_err();
    assert!(error.is_retryable(), "no row without the number of those that are there: {error}");
    assert!(sink.history().await.is_empty());
}

#[tokio::test]
async fn a_state_that_is_sent_again_is_one_row() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    let cost = Metric::counter("sre.cost", 0.05).with_unit(MetricUnit::Dollars);
    let limit = Metric::gauge("sre.cost.limit", 1.0).with_unit(MetricUnit::Dollars);
    let metrics = [
        cost,
        limit.with_labels(&[("scope", "agent"), ("name", "support")]),
        Metric::gauge("sre.slo.burn_rate", 2.5).with_label("slo", "answers"),
        Metric::gauge("sre.open", f64::NAN),
    ];
    let snapshots = [slo("healthy"), Snapshot::Totals(sre_core::Totals::default())];
    let batch = ExportBatch::new(Timestamp::from_secs(60), &sink.resource).with_state(&metrics, &snapshots);
    sink.answers("file_stream", ResponseTemplate::new(503)).await;
    let mut report = None;
    for _ in 0..3 {
        report = exporter.export(&batch, &*sink.http).await.ok();
    }
    let history = sink.history().await;
    // The first attempt failed, the second added both rows, and the third none.
    assert_eq!(history.iter().map(|(offset, rows)| (*offset, rows.len())).collect::<Vec<_>>(), [(0, 1); 3]);
    let row = &history[2].1[0];
    assert_eq!(
        (&row["cost_dollars"], &row["cost/limit_dollars/agent/support"]),
        (&json!(0.05), &json!(1.0)),
        "{row:#}"
    );
    let report = report.unwrap();
    assert_eq!(
        (report.accepted, report.ignored),
        (4, 2),
        "neither NaN nor totals, whose metrics are there: {report:?}"
    );
}

#[tokio::test]
async fn a_program_logs_runs_and_costs_itself() {
    let sink = Sink::new().await;
    let (exporter, at) = (sink.exporter(), Timestamp::from_secs(100));
    let run = WandbRun {
        name: "release 7".to_owned(),
        metrics: [("accuracy".to_owned(), 0.75), ("loss".to_owned(), f64::NAN)].into(),
        config: [("model".to_owned(), "gpt-4o".into())].into_iter().collect(),
        tags: vec!["release".to_owned()],
    };
    let first = exporter.log_run(&run, at, &*sink.http).await.unwrap();
    assert_eq!(exporter.log_run(&run, at, &*sink.http).await.unwrap(), first, "the same run is one");
    let costs =
        [(90, "0.50"), (100, "0.25")].map(|(second, cost)| (Timestamp::from_secs(second), cost.parse().unwrap()));
    assert_ne!(exporter.log_cost_series("support", &costs, at, &*sink.http).await.unwrap(), first);
    let history = sink.history().await;
    assert_eq!(history[0], (0, vec![json!({"accuracy": 0.75, "_step": 0, "_timestamp": 100.0})]));
    assert_eq!(history[1], history[0]);
    let (_, rows) = &history[2];
    assert_eq!((&rows[1]["cost_usd"], &rows[1]["total_cost_usd"]), (&json!(0.25), &json!(0.75)));
    let requests = sink.requests().await;
    let variables = &server::body(&requests[0])["variables"];
    assert_eq!(variables["config"], r#"{"model":{"value":"gpt-4o"}}"#);
    assert_eq!(variables["tags"], json!(["slo", "release"]), "those of the settings, too");
    let ends = requests.iter().filter(|request| server::body(request)["complete"] == true);
    assert_eq!(ends.count(), 3);
}

#[tokio::test]
async fn silent_runs_get_a_heartbeat_and_runs_end_when_asked() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    sink.send_events(&exporter, &[TASK]).await.unwrap();
    sink.send_slo(&exporter, 60, "healthy").await.unwrap();
    let body = server::body(sink.requests().await.last().unwrap());
    assert_eq!(body, json!({}));
    exporter.finish(0, Timestamp::from_secs(90), &*sink.http).await.unwrap();
    let requests = sink.requests().await;
    let ends = requests.iter().filter(|request| server::body(request) == json!({"complete": true, "exitcode": 0}));
    assert_eq!(ends.count(), 2);
}

/// The run of the recording: an objective with three rows and an alert.
#[tokio::test]
async fn requests_are_those_of_the_vendors_client() {
    let recorded = clients::requests("wandb");
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    for (second, status) in [(60, "healthy"), (120, "exhausted"), (180, "exhausted")] {
        sink.send_slo(&exporter, second, status).await.unwrap();
    }
    exporter.finish(0, Timestamp::from_secs(200), &*sink.http).await.unwrap();
    let ours = sink.requests().await;
    // Files of the Python client, of which there is no equivalent, are not counted.
    let is_file = |request: &Value| {
        request["body"]["operationName"] == "CreateRunFiles"
            || request["path"].as_str().unwrap().starts_with("/upload/")
    };
    let theirs = recorded.iter().filter(|request| !is_file(request)).map(clients::wire_len).sum();
    clients::assert_wire_len(ours.iter().map(|request| request.body.len()).sum(), theirs);
    for theirs in recorded.iter().filter(|request| !is_file(request)) {
        let (path, body) = (theirs["path"].as_str().unwrap(), &theirs["body"]);
        let operation = body["operationName"].as_str();
        if let Some(operation) = operation {
            let is_same = |request: &&Request| server::operation(request).as_deref() == Some(operation);
            let ours = server::body(ours.iter().find(is_same).expect("the same operation"));
            assert_eq!(ours.as_object().unwrap().len(), body.as_object().unwrap().len(), "the same envelope");
            for (name, value) in body["variables"].as_object().unwrap() {
                let is_of_python = ["host", "program"].contains(&name.as_str());
                assert!(value.is_null() || is_of_python || !ours["variables"][name].is_null(), "{operation}: {name}");
            }
            continue;
        }
        assert!(path.starts_with("/files/team/agents/"));
        for (file, content) in body["files"].as_object().unwrap() {
            let keys = |line: &Value| {
                let row: Value = serde_json::from_str(line.as_str().unwrap()).unwrap();
                row.as_object().unwrap().keys().filter(|key| key.starts_with('_')).cloned().collect::<Vec<_>>()
            };
            let ours =
                ours.iter().map(server::body).find_map(|body| body["files"].get(file).cloned()).expect("the file");
            let ours_keys = keys(&ours["content"][0]);
            for key in keys(&content["content"][0]).iter().filter(|key| !matches!(key.as_str(), "_runtime" | "_wandb"))
            {
                assert!(ours_keys.contains(key), "{file}: {key}");
            }
        }
        for field in ["complete", "exitcode"] {
            assert!(body[field].is_null() || ours.iter().any(|request| server::body(request)[field] == body[field]));
        }
    }
}
