//! What Braintrust receives over time.

mod contract;

use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{AgentEvent, ExportBatch, Exporter, HttpClient, Resource, Secret, Snapshot, Timestamp};
use sre_exporter_braintrust::{BraintrustExporter, BraintrustSettings, CostRecord, EvalRecord};
use sre_testkit::{clients, conformance};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const START: &str =
    r#""event":"task_started","time":100,"span_id":"00000000000000a1","parent_span_id":"00000000000000ff""#;
const CALL: &str = r#""event":"llm_call","time":102,"span_id":"00000000000000b1","parent_span_id":"00000000000000a1","model":"gpt-4o-mini","input_tokens":10,"output_tokens":3,"duration_ms":1000"#;
const TOOL: &str = r#""event":"tool_call","time":103,"span_id":"00000000000000b2","parent_span_id":"00000000000000a1","tool":"lookup","success":false,"error":"down""#;
const JUDGED: &str =
    r#""event":"evaluation","time":104,"parent_span_id":"00000000000000b1","metric":"relevance","score":0.75"#;
const CHECKED: &str = r#""event":"policy_check","time":104,"policy":"pii","compliant":true"#;
const END: &str = r#""event":"task_finished","time":104,"span_id":"00000000000000a1","parent_span_id":"00000000000000ff","success":true,"duration_ms":4000"#;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn events(lines: &[&str]) -> Vec<Arc<AgentEvent>> {
    let event = |line: &&str| {
        let json = format!(r#"{{{line},"agent":"support","task":"t","trace_id":"{TRACE}"}}"#);
        Arc::new(AgentEvent::from_json(json.as_bytes()).unwrap())
    };
    lines.iter().map(event).collect()
}

struct Sink {
    server: MockServer,
    http: Arc<dyn HttpClient>,
    resource: Resource,
}

impl Sink {
    async fn new() -> Self {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(contract::success).mount(&server).await;
        Self { server, http: conformance::client(), resource: Resource::new("tests") }
    }

    fn exporter(&self, experiment: Option<&str>) -> BraintrustExporter {
        let settings = BraintrustSettings::new(Secret::new("KEY"));
        let experiment = experiment.map(str::to_owned);
        BraintrustExporter::new(BraintrustSettings { url: self.server.uri(), experiment, ..settings }).unwrap()
    }

    async fn send(&self, exporter: &BraintrustExporter, lines: &[&str]) {
        let events = events(lines);
        let batch = ExportBatch::new(Timestamp::from_secs(200), &self.resource).with_events(&events);
        exporter.export(&batch, &*self.http).await.unwrap();
    }

    async fn requests(&self) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().for_each(contract::check);
        requests
    }

    async fn paths(&self) -> Vec<String> {
        self.requests().await.iter().map(|request| request.url.path().to_owned()).collect()
    }

    async fn rows(&self) -> Vec<Value> {
        self.requests().await.iter().flat_map(contract::rows).collect()
    }
}

fn row_id(span: &str) -> String {
    format!("{TRACE}-00000000000000{span}")
}

#[tokio::test]
async fn start_end_and_scores_meet_in_one_row() {
    let sink = Sink::new().await;
    let exporter = sink.exporter(None);
    sink.send(&exporter, &[START]).await;
    sink.send(&exporter, &[CALL, JUDGED]).await;
    sink.send(&exporter, &[CHECKED, END]).await;
    let rows = sink.rows().await;
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [row_id("a1"), row_id("b1"), row_id("a1")]);
    assert!(rows.iter().all(|row| row["_is_merge"] == true));
    assert!(rows[0]["metrics"].get("end").is_none() && rows[2]["metrics"]["end"] == 104.0, "{rows:#?}");
    assert_eq!(rows[0]["span_parents"], Value::Null, "the caller is elsewhere: the task is the root");
    assert_eq!(rows[1]["span_parents"], json!(["00000000000000a1"]));
    assert_eq!(rows[1]["scores"], json!({"relevance": 0.75}));
    assert_eq!(rows[2]["scores"], json!({"pii": 1.0}));
}

#[tokio::test]
async fn a_task_that_is_a_single_call_has_a_row_for_the_call() {
    let sink = Sink::new().await;
    let call = CALL
        .replace("b1", "a1")
        .replace(r#""parent_span_id":"00000000000000a1""#, r#""parent_span_id":"00000000000000ff""#);
    sink.send(&sink.exporter(None), &[START, &call, END]).await;
    let rows = sink.rows().await;
    let kinds: Vec<_> = rows.iter().map(|row| row["span_attributes"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["task", "llm"]);
    assert_eq!(rows[1]["span_parents"], json!(["00000000000000a1"]));
    assert_eq!(rows[1]["metadata"]["otel_span_id"], "00000000000000a1");
}

#[tokio::test]
async fn a_score_of_a_row_that_was_not_sent_has_a_row_of_its_own() {
    let sink = Sink::new().await;
    sink.send(&sink.exporter(None), &[JUDGED]).await;
    let rows = sink.rows().await;
    assert_eq!(rows[0]["span_attributes"], json!({"name": "relevance", "type": "score"}));
    assert_eq!(rows[0]["span_parents"], json!(["00000000000000b1"]));
    assert_ne!(rows[0]["id"], row_id("b1"));
    sink.send(&sink.exporter(None), &[JUDGED]).await;
    assert_eq!(sink.rows().await[1], rows[0], "sent again, it is the same row");
}

#[tokio::test]
async fn project_and_experiment_are_registered_once() {
    let sink = Sink::new().await;
    let exporter = sink.exporter(Some("nightly"));
    sink.send(&exporter, &[START, CALL, END]).await;
    sink.send(&exporter, &[TOOL]).await;
    let insert = "/v1/experiment/00000000-0000-0000-0000-000000000002/insert";
    assert_eq!(sink.paths().await, ["/v1/project", "/v1/experiment", insert, insert]);
    let rows = sink.rows().await;
    assert_eq!((&rows[0]["span_attributes"]["type"], &rows[0]["input"]["task"]), (&json!("eval"), &json!("t")));
}

#[tokio::test]
async fn a_project_that_was_deleted_is_registered_again() {
    let sink = Sink::new().await;
    let exporter = sink.exporter(None);
    sink.send(&exporter, &[START]).await;
    let gone = |request: &Request| request.url.path().ends_with("/insert");
    let gone = Mock::given(gone).respond_with(ResponseTemplate::new(404)).up_to_n_times(1).with_priority(1);
    gone.mount(&sink.server).await;
    let events = events(&[CALL]);
    let batch = ExportBatch::new(Timestamp::from_secs(200), &sink.resource).with_events(&events);
    assert!(exporter.export(&batch, &*sink.http).await.is_err());
    sink.send(&exporter, &[CALL]).await;
    assert_eq!(sink.paths().await.iter().filter(|path| *path == "/v1/project").count(), 2);
}

#[tokio::test]
async fn an_overspent_budget_has_the_score_0_and_the_exact_metric() {
    let sink = Sink::new().await;
    let slo: Snapshot = serde_json::from_value(json!({
        "snapshot": "slo", "name": "answers", "agent": "support", "status": "exhausted", "target": 0.95, "window": "24h",
        "good": 80, "bad": 20, "sli": 0.8, "interval": null,
        "error_budget": {"total": 0.05, "consumed": 4.0, "remaining": -3.0, "spent_in_s": null},
        "burn_rates": [{"window": "1h", "rate": 4.0, "good": 8, "bad": 2}], "alerts": [], "indicators": [], "dropped": 0
    }))
    .unwrap();
    let snapshots = [slo];
    for second in [60, 60, 120] {
        let batch = ExportBatch::new(Timestamp::from_secs(second), &sink.resource).with_state(&[], &snapshots);
        sink.exporter(Some("nightly")).export(&batch, &*sink.http).await.unwrap();
    }
    assert!(!sink.paths().await.contains(&"/v1/experiment".to_owned()), "objectives are logs of the project");
    let rows = sink.rows().await;
    assert_eq!(rows[0], rows[1], "sent again, it is the same row");
    assert_ne!(rows[0]["id"], rows[2]["id"]);
    assert_eq!(rows[0]["scores"], json!({"slo.answers.budget_remaining": 0.0, "slo.answers.sli": 0.8}));
    assert_eq!(rows[0]["metrics"]["slo.answers.budget_remaining"], -3.0);
    assert_eq!(rows[0]["metrics"]["slo.answers.burn_rate.1h"], 4.0);
    assert_eq!(rows[0]["metadata"]["status"], "exhausted");
}

#[tokio::test]
async fn a_program_logs_evaluations_experiments_and_costs_itself() {
    let sink = Sink::new().await;
    let (exporter, http, at) = (sink.exporter(None), &*sink.http, Timestamp::from_secs(100));
    sink.send(&exporter, &[START]).await;
    let trace = TRACE.parse().unwrap();
    let record = EvalRecord {
        name: "tone".to_owned(),
        agent: "support".to_owned(),
        scores: [("tone".to_owned(), 0.75), ("length".to_owned(), 12.0)].into(),
        input: json!({"q": "where"}),
        output: json!("here"),
        ..EvalRecord::default()
    };
    exporter.log_eval(trace, &record, at, http).await.unwrap();
    exporter.log_experiment("nightly", &[record.clone(), record.clone()], at, http).await.unwrap();
    let cost = CostRecord { agent: "support".to_owned(), cost: "0.50".parse().unwrap(), ..CostRecord::default() };
    for _ in 0..2 {
        exporter.record_cost(trace, &cost, at, http).await.unwrap();
    }
    let rows = sink.rows().await;
    let eval = &rows[1];
    assert_eq!(
        (&eval["scores"], &eval["input"], &eval["output"]),
        (&json!({"tone": 0.75}), &json!({"q": "where"}), &json!("here"))
    );
    assert_eq!((&eval["root_span_id"], &eval["span_parents"]), (&json!(TRACE), &json!(["00000000000000a1"])));
    assert!(rows[2]["root_span_id"] != rows[3]["root_span_id"] && rows[2]["span_parents"].is_null(), "{rows:#?}");
    assert_eq!(rows[4]["metrics"]["estimated_cost"], 0.5);
    assert_eq!(rows[4], rows[5], "the same cost is the same row");
    let paths = sink.paths().await;
    assert_eq!(
        paths[3..6],
        [
            "/v1/experiment",
            "/v1/experiment/00000000-0000-0000-0000-000000000002/insert",
            "/v1/project_logs/00000000-0000-0000-0000-000000000002/insert"
        ]
    );
}

/// The run of the recording: a task with a model call, a failing tool call and a score; and the same in an experiment.
#[tokio::test]
async fn rows_have_the_fields_of_the_vendors_client() {
    let recorded = clients::requests("braintrust");
    let sink = Sink::new().await;
    for experiment in [None, Some("exp")] {
        sink.send(&sink.exporter(experiment), &[START, CALL, TOOL, CHECKED, END]).await;
    }
    let requests = sink.requests().await;
    let ours = sink.rows().await;
    let logs = requests.iter().find(|request| request.url.path().ends_with("/insert")).expect("the logs");
    let theirs = recorded.iter().find(|request| request["path"] == "/logs3").expect("the logs");
    clients::assert_wire_len(logs.body.len(), clients::wire_len(theirs));
    // What is left out, and why: see the crate's documentation.
    let left_out = ["context", "log_id", "project_id", "experiment_id", "org_name", "input", "output", "expected"];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for theirs in &recorded {
        let (path, body) = (theirs["path"].as_str().unwrap(), &theirs["body"]);
        match path {
            "/v1/project" | "/v1/experiment" => {
                let ours = requests.iter().find(|request| request.url.path() == path).expect("the same endpoint");
                let ours: Value = serde_json::from_slice(&ours.body).unwrap();
                for key in keys(body).iter().filter(|key| !left_out.contains(&key.as_str())) {
                    assert!(ours.get(key).is_some(), "{path}: {key}");
                }
            }
            "/logs3" => {
                for theirs in body["rows"].as_array().unwrap() {
                    let kind = &theirs["span_attributes"]["type"];
                    let ours = ours.iter().find(|row| row["span_attributes"]["type"] == *kind).expect("the same type");
                    for key in keys(theirs).iter().filter(|key| !left_out.contains(&key.as_str())) {
                        assert!(ours.get(key).is_some(), "{kind}: {key}");
                    }
                    for key in keys(&theirs["metrics"]) {
                        assert!(ours["metrics"][&key].is_number(), "{kind}: metrics.{key}");
                    }
                    assert_eq!(theirs["span_parents"].is_null(), ours["span_parents"].is_null());
                }
            }
            "/api/apikey/login" | "/version" => {}
            other => panic!("{other}"),
        }
    }
}
