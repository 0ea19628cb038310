//! What LangSmith receives over time: posts, patches, feedback, and the same ids after a restart.

mod form;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sre_core::{AgentEvent, ExportBatch, Exporter, HttpClient, Resource, Secret, Snapshot, Timestamp};
use sre_exporter_langsmith::{LangSmithExporter, LangSmithSettings, NewRun, RunType};
use sre_testkit::{clients, conformance};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const START: &str = r#""event":"task_started","time":100,"span_id":"00000000000000a1""#;
const CALL: &str = r#""event":"llm_call","time":102,"span_id":"00000000000000b1","parent_span_id":"00000000000000a2","model":"gpt-4o-mini","provider":"openai","input_tokens":10,"output_tokens":3,"duration_ms":1000"#;
const TOOL: &str = r#""event":"tool_call","time":103,"span_id":"00000000000000b2","parent_span_id":"00000000000000a1","tool":"lookup","success":false,"error":"RuntimeError: down","duration_ms":0"#;
const STEP: &str = r#""event":"step_finished","time":103,"span_id":"00000000000000a2","parent_span_id":"00000000000000a1","name":"plan","duration_ms":2500"#;
const JUDGED: &str =
    r#""event":"evaluation","time":104,"parent_span_id":"00000000000000b1","metric":"relevance","score":0.75"#;
const END: &str =
    r#""event":"task_finished","time":104,"span_id":"00000000000000a1","success":true,"duration_ms":4000"#;
const SESSION: &str = "b9825b9a-aaad-4896-9b8d-c289030d3b03";
const TRACE: &str = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";

fn events(lines: &[&str]) -> Vec<Arc<AgentEvent>> {
    let event = |line: &&str| {
        let common = format!(r#""agent":"support","task":"t","trace_id":"{}""#, TRACE.replace('-', ""));
        Arc::new(AgentEvent::from_json(format!("{{{line},{common}}}").as_bytes()).unwrap())
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
        let info = json!({"version": "0.13", "instance_flags": {"gzip_body_enabled": false}});
        let answers = [
            ("GET", "/info", ResponseTemplate::new(200).set_body_json(info)),
            ("GET", "/sessions", ResponseTemplate::new(200).set_body_json(json!([]))),
            ("POST", "/sessions", ResponseTemplate::new(200).set_body_json(json!({"id": SESSION}))),
            ("POST", "/runs/multipart", ResponseTemplate::new(202)),
        ];
        for (by, at, answer) in answers {
            Mock::given(method(by)).and(path(at)).respond_with(answer).mount(&server).await;
        }
        let http = conformance::client();
        Self { server, http, resource: Resource::new("tests") }
    }

    fn exporter(&self) -> LangSmithExporter {
        let settings = LangSmithSettings::new(Secret::new("KEY"));
        LangSmithExporter::new(LangSmithSettings { url: self.server.uri(), ..settings }).unwrap()
    }

    async fn send(&self, exporter: &LangSmithExporter, lines: &[&str]) -> u64 {
        let events = events(lines);
        let batch = ExportBatch::new(Timestamp::from_secs(200), &self.resource).with_events(&events);
        exporter.export(&batch, &*self.http).await.unwrap().accepted
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    /// Returns runs and feedback in the order in which they arrived.
    async fn records(&self) -> Vec<(String, Value)> {
        let requests = self.requests().await;
        requests.iter().filter(|request| request.url.path() == "/runs/multipart").flat_map(form::records).collect()
    }
}

fn slo() -> Snapshot {
    serde_json::from_value(json!({
        "snapshot": "slo", "name": "answers", "agent": "support", "status": "warning", "target": 0.95, "window": "24h",
        "good": 97, "bad": 3, "sli": 0.97, "interval": null,
        "error_budget": {"total": 0.05, "consumed": 0.6, "remaining": 0.4, "spent_in_s": null},
        "burn_rates": [{"window": "1h", "rate": 2.5, "good": 9, "bad": 1}], "alerts": [], "indicators": [], "dropped": 0
    }))
    .unwrap()
}

#[tokio::test]
async fn a_task_is_posted_at_its_start_and_patched_at_its_end() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    assert_eq!(sink.send(&exporter, &[START]).await, 1);
    assert_eq!(sink.send(&exporter, &[CALL, STEP, TOOL, JUDGED]).await, 4);
    assert_eq!(sink.send(&exporter, &[END]).await, 1);
    let records = sink.records().await;
    let (post, patch) = (&records[0], records.last().unwrap());
    assert_eq!((&*post.0, &*patch.0), ("post", "patch"));
    assert_eq!((post.1["id"].as_str(), patch.1["id"].as_str()), (Some(TRACE), Some(TRACE)));
    assert!(post.1.get("end_time").is_none() && patch.1["end_time"] == "1970-01-01T00:01:44Z", "{records:#?}");
    let order = |place: usize| records[place].1["dotted_order"].as_str().unwrap();
    assert_eq!(order(0), patch.1["dotted_order"]);
    assert!(order(1).starts_with(&format!("{}.", order(2))), "the call is below its step");
    assert!(order(2).starts_with(&format!("{}.", order(0))) && order(3).starts_with(&format!("{}.", order(0))));
    let feedback = &records.iter().find(|(operation, _)| operation == "feedback").unwrap().1;
    assert_eq!(feedback["run_id"], records[1].1["id"], "feedback on the model call");
    assert_eq!((&feedback["session_id"], &feedback["score"]), (&json!(SESSION), &json!(0.75)));
}

#[tokio::test]
async fn start_and_end_in_one_batch_are_one_run() {
    let sink = Sink::new().await;
    assert_eq!(sink.send(&sink.exporter(), &[START, CALL, STEP, TOOL, END]).await, 5);
    let records = sink.records().await;
    assert_eq!(records.iter().map(|(operation, _)| &**operation).collect::<Vec<_>>(), ["post"; 4]);
    assert_eq!((&records[3].1["id"], records[3].1.get("parent_run_id")), (&json!(TRACE), None));
}

#[tokio::test]
async fn a_restarted_process_sends_the_same_runs() {
    let sink = Sink::new().await;
    sink.send(&sink.exporter(), &[START, CALL, STEP, TOOL, JUDGED, END]).await;
    let first = sink.records().await;
    sink.send(&sink.exporter(), &[START, CALL, STEP, TOOL, JUDGED, END]).await;
    assert_eq!(sink.records().await[first.len()..], first);
}

#[tokio::test]
async fn the_server_is_asked_once() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    for _ in 0..3 {
        sink.send(&exporter, &[CALL, JUDGED]).await;
    }
    let requests = sink.requests().await;
    for (by, at, count) in [("GET", "/info", 1), ("GET", "/sessions", 1), ("POST", "/sessions", 1)] {
        let is = |request: &&Request| request.method.as_str() == by && request.url.path() == at;
        assert_eq!(requests.iter().filter(is).count(), count, "{by} {at}");
    }
}

#[tokio::test]
async fn runs_that_langsmith_has_already_are_accepted() {
    let sink = Sink::new().await;
    let conflict = Mock::given(path("/runs/multipart")).respond_with(ResponseTemplate::new(409)).with_priority(1);
    let _guard = conflict.mount_as_scoped(&sink.server).await;
    assert_eq!(sink.send(&sink.exporter(), &[CALL]).await, 1);
}

/// A LangSmith that has accepted runs, and accepts no request with the post of one of them.
#[derive(Clone, Default)]
struct Strict(Arc<Mutex<Vec<(String, Value)>>>);

impl Respond for Strict {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let records = form::records(request);
        let mut taken = self.0.lock().unwrap();
        let is_taken = |(operation, record): &(String, Value)| {
            operation == "post" && taken.iter().any(|(_, known)| known["id"] == record["id"])
        };
        if records.iter().any(is_taken) {
            return ResponseTemplate::new(409);
        }
        taken.extend(records);
        ResponseTemplate::new(202)
    }
}

impl Strict {
    async fn mount(&self, sink: &Sink) {
        Mock::given(path("/runs/multipart")).respond_with(self.clone()).with_priority(1).mount(&sink.server).await;
    }

    /// Returns the number of records of an operation.
    fn count(&self, operation: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|(found, _)| found == operation).count()
    }
}

#[tokio::test]
async fn runs_beside_one_that_langsmith_already_has_are_sent() {
    let (sink, langsmith) = (Sink::new().await, Strict::default());
    langsmith.mount(&sink).await;
    assert_eq!(sink.send(&sink.exporter(), &[START, CALL]).await, 2);
    // After a restart, the exporter does not know what LangSmith has.
    assert_eq!(sink.send(&sink.exporter(), &[CALL, STEP, TOOL, JUDGED, END]).await, 5);
    assert_eq!(["post", "feedback", "patch"].map(|operation| langsmith.count(operation)), [4, 1, 1]);
}

#[tokio::test]
async fn the_scores_of_an_objective_whose_run_langsmith_has_are_sent() {
    let (sink, langsmith) = (Sink::new().await, Strict::default());
    langsmith.mount(&sink).await;
    let snapshots = [slo()];
    for seconds in [60, 120] {
        let batch = ExportBatch::new(Timestamp::from_secs(seconds), &sink.resource).with_state(&[], &snapshots);
        assert_eq!(sink.exporter().export(&batch, &*sink.http).await.unwrap().accepted, 1);
    }
    assert_eq!(["post", "feedback", "patch"].map(|operation| langsmith.count(operation)), [1, 8, 1]);
}

#[tokio::test]
async fn a_project_that_was_deleted_is_looked_up_again() {
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    sink.send(&exporter, &[JUDGED]).await;
    let gone = Mock::given(path("/runs/multipart")).respond_with(ResponseTemplate::new(404)).with_priority(1);
    gone.up_to_n_times(1).mount(&sink.server).await;
    let events = events(&[JUDGED]);
    let batch = ExportBatch::new(Timestamp::from_secs(200), &sink.resource).with_events(&events);
    assert!(exporter.export(&batch, &*sink.http).await.is_err());
    let found = ResponseTemplate::new(200).set_body_json(json!([{"id": "another"}]));
    Mock::given(path("/sessions")).respond_with(found).with_priority(1).mount(&sink.server).await;
    sink.send(&exporter, &[JUDGED]).await;
    assert_eq!(sink.records().await.last().unwrap().1["session_id"], "another");
}

#[tokio::test]
async fn an_objective_is_the_same_run_all_day() {
    let sink = Sink::new().await;
    let snapshots = [slo()];
    let exporter = sink.exporter();
    for (exporter, hour) in [(&exporter, 1), (&exporter, 2), (&sink.exporter(), 3), (&exporter, 25)] {
        let batch = ExportBatch::new(Timestamp::from_secs(hour * 3_600), &sink.resource).with_state(&[], &snapshots);
        exporter.export(&batch, &*sink.http).await.unwrap();
    }
    let records = sink.records().await;
    let runs: Vec<_> = records.iter().filter(|(operation, _)| operation != "feedback").collect();
    let operations: Vec<&str> = runs.iter().map(|(operation, _)| &**operation).collect();
    assert_eq!(operations, ["post", "patch", "post", "post"]);
    assert_eq!(runs[0].1["id"], runs[2].1["id"], "the same after a restart");
    assert_eq!(runs[0].1["dotted_order"], runs[1].1["dotted_order"]);
    assert_ne!(runs[0].1["id"], runs[3].1["id"], "the next day is another run");
    let keys: Vec<_> = records[1..5].iter().map(|(_, feedback)| feedback["key"].as_str().unwrap()).collect();
    let of = |what: &str| format!("slo.answers.{what}");
    assert_eq!(keys, [of("budget_remaining"), of("sli"), of("burn_rate"), of("status")]);
    assert_eq!((&records[1].1["score"], &records[4].1["value"]), (&json!(0.4), &json!("warning")));
}

/// The run of the recording: a task with a model call and a failing tool call, and a score.
#[tokio::test]
async fn requests_are_those_of_the_vendors_client() {
    let requests = clients::requests("langsmith");
    let sink = Sink::new().await;
    let exporter = sink.exporter();
    sink.send(&exporter, &[START]).await;
    sink.send(&exporter, &[CALL, TOOL, JUDGED]).await;
    sink.send(&exporter, &[END]).await;
    for theirs in &requests {
        let is_same = |ours: &Request| ours.method.as_str() == theirs["method"] && ours.url.path() == theirs["path"];
        let ours = sink.requests().await.into_iter().find(is_same).expect("the same endpoint");
        assert!(ours.headers.contains_key("x-api-key"));
    }
    let parts = || requests.iter().filter_map(|request| request["body"]["parts"].as_array()).flatten();
    let ours = sink.requests().await;
    let ours = ours.iter().filter(|request| request.url.path() == "/runs/multipart").map(|request| request.body.len());
    clients::assert_wire_len(ours.sum(), requests.iter().map(clients::wire_len).sum());
    // The kinds of record, and the fields that are left out; see the crate's documentation.
    let ours = sink.records().await;
    let left_out = ["tags", "correction", "comment", "comparative_experiment_id", "feedback_group_id", "extra"];
    for part in parts() {
        let name = part["headers"]["content-disposition"].as_str().unwrap().split('"').nth(1).unwrap();
        let mut name = name.split('.');
        let (operation, field) = (name.next().unwrap(), name.nth(1));
        let body = &part["body"];
        let of_kind = |(of, run): &&(String, Value)| {
            let same_type = body["run_type"].is_null() || run["run_type"] == body["run_type"];
            of == operation && same_type && field.is_none_or(|field| run.get(field).is_some() || field == "inputs")
        };
        if (operation, field) == ("patch", Some("outputs")) {
            continue;
        }
        let (_, found) = ours.iter().find(of_kind).unwrap_or_else(|| panic!("{operation} {field:?}: {ours:#?}"));
        let Some(fields) = body.as_object().filter(|_| field.is_none()) else { continue };
        for (key, value) in fields.iter().filter(|(key, value)| !value.is_null() && !left_out.contains(&key.as_str())) {
            // Feedback on a run names its start only where it is known.
            if key == "start_time" && operation == "feedback" {
                continue;
            }
            let found = &found[key];
            assert_eq!(found.is_string(), value.is_string(), "{operation}.{key}: {found} beside {value}");
            assert!(!found.is_null(), "{operation}.{key}");
        }
    }
}

#[tokio::test]
async fn a_program_logs_runs_and_feedback_itself() {
    let sink = Sink::new().await;
    let (exporter, http) = (sink.exporter(), &*sink.http);
    let (at, end) = (Timestamp::from_secs(100), Timestamp::from_secs(103));
    let object = |value: Value| value.as_object().unwrap().clone();
    let run = NewRun {
        name: "answer".to_owned(),
        inputs: object(json!({"q": "where"})),
        tags: vec!["slo".to_owned()],
        ..NewRun::default()
    };
    let run = exporter.create_run(run, None, at, http).await.unwrap();
    let search = NewRun { name: "search".to_owned(), run_type: RunType::Retriever, ..NewRun::default() };
    let search = exporter.create_run(search, Some(&run), at, http).await.unwrap();
    exporter.end_run(&search, &object(json!({})), Some("down"), end, http).await.unwrap();
    exporter.end_run(&run, &object(json!({"result": "done"})), None, end, http).await.unwrap();
    exporter.add_feedback(&run, "tone", 0.75, Some("polite"), end, http).await.unwrap();
    let Snapshot::Slo(slo) = slo() else { panic!("an objective") };
    exporter.export_slo(&slo, &run, end, http).await.unwrap();

    let records = sink.records().await;
    let operations: Vec<&str> = records.iter().map(|(operation, _)| &**operation).collect();
    assert_eq!(operations[..5], ["post", "post", "patch", "patch", "feedback"]);
    let [first, child, failed, ended, feedback] = [0, 1, 2, 3, 4].map(|place: usize| &records[place].1);
    assert_eq!(
        (&first["id"], &first["inputs"], &first["tags"]),
        (&json!(run.id()), &json!({"q": "where"}), &json!(["slo"]))
    );
    assert_eq!((&child["parent_run_id"], &child["run_type"]), (&json!(run.id()), &json!("retriever")));
    assert!(child["dotted_order"].as_str().unwrap().starts_with(first["dotted_order"].as_str().unwrap()));
    assert_eq!((&failed["id"], &failed["error"]), (&json!(search.id()), &json!("down")));
    assert_eq!((&ended["outputs"], &ended["end_time"]), (&json!({"result": "done"}), &json!("1970-01-01T00:01:43Z")));
    assert_eq!((&feedback["run_id"], &feedback["comment"]), (&json!(run.id()), &json!("polite")));
    let of_slo = &records[5..];
    assert!(of_slo.iter().all(|(_, feedback)| feedback["run_id"] == run.id()), "{of_slo:#?}");
    assert_eq!(of_slo[0].1["key"], "slo.answers.budget_remaining");
}

/// LangSmith's own models read what it would store.
#[tokio::test]
async fn the_vendors_models_read_what_was_sent() {
    use std::io::Write;

    let Some(mut python) = sre_testkit::outside::python_with("langsmith", "langsmith_models") else { return };
    let sink = Sink::new().await;
    sink.send(&sink.exporter(), &[START, CALL, STEP, TOOL, JUDGED, END]).await;
    let records = sink.records().await;
    let script = "import json, sys\n\
        from langsmith.schemas import Feedback, Run\n\
        for operation, record in json.load(sys.stdin):\n\
        \x20   if operation == 'feedback':\n\
        \x20       read = Feedback(**record)\n\
        \x20       print(read.key, read.score, read.run_id)\n\
        \x20   else:\n\
        \x20       read = Run(**record)\n\
        \x20       print(read.name, read.run_type, read.error, (read.end_time - read.start_time).total_seconds(), read.metadata['agent'])\n";
    let mut child = python
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(serde_json::to_string(&records).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let expected = "gpt-4o-mini llm None 1.0 support\n\
        plan chain None 2.5 support\n\
        lookup tool RuntimeError: down 0.0 support\n\
        support chain None 4.0 support\n\
        relevance 0.75 00000000-0000-0000-0000-0000000000b1\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
