//! What happens between the exporter and a server that has not stored a span yet, or rejects an annotation.

use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{AgentEvent, ExportBatch, ExportReport, Exporter, Resource, Severity, Status, Timestamp, Usd};
use sre_exporter_phoenix::{CostRecord, Incident, PhoenixExporter, PhoenixSettings, SloEvaluation};
use sre_testkit::conformance::client;
use sre_testkit::otlp;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const AT: Timestamp = Timestamp::from_secs(1_790_000_100);

async fn server(respond: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(respond).mount(&server).await;
    server
}

fn exporter(server: &MockServer) -> PhoenixExporter {
    PhoenixExporter::new(PhoenixSettings::new(server.uri())).unwrap()
}

async fn export(exporter: &PhoenixExporter, lines: &[&str]) -> ExportReport {
    let events: Vec<_> = lines.iter().map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap())).collect();
    let resource = Resource::new("test");
    exporter.export(&ExportBatch::new(AT, &resource).with_events(&events), &*client()).await.unwrap()
}

/// Returns path and query of each request.
async fn addresses(server: &MockServer) -> Vec<String> {
    let address = |request: &Request| match request.url.query() {
        Some(query) => format!("{}?{query}", request.url.path()),
        None => request.url.path().to_owned(),
    };
    server.received_requests().await.unwrap().iter().map(address).collect()
}

/// A server that has stored no span yet.
fn nothing_stored(request: &Request) -> ResponseTemplate {
    let is_missing = request.url.query() == Some("sync=true");
    ResponseTemplate::new(if is_missing { 404 } else { 200 })
}

const CALL: &str = r#"{"event":"llm_call","time":1790000001,"agent":"a","task":"t","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00000000000000b1","model":"m"}"#;
const OF_CALL: &str = r#"{"event":"evaluation","time":1790000002,"agent":"a","task":"t","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","parent_span_id":"00000000000000b1","metric":"relevance","score":0.75,"confidence":0.5}"#;
const OF_TASK: &str = r#"{"event":"policy_check","time":1790000003,"agent":"a","task":"t","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","policy":"pii","compliant":false}"#;

#[tokio::test]
async fn annotations_of_spans_on_their_way_are_queued() {
    let server = server(nothing_stored).await;
    assert_eq!(export(&exporter(&server), &[CALL, OF_CALL, OF_TASK]).await, ExportReport::accepted(3));
    let expected = [
        "/v1/traces",
        "/v1/span_annotations?sync=true",
        "/v1/span_annotations?sync=false",
        "/v1/trace_annotations?sync=true",
        "/v1/trace_annotations?sync=false",
    ];
    assert_eq!(addresses(&server).await, expected);
    let requests = server.received_requests().await.unwrap();
    let annotation = &requests[2].body_json::<Value>().unwrap()["data"][0];
    let expected = json!({
        "span_id": "00000000000000b1", "name": "relevance", "annotator_kind": "LLM",
        "result": {"score": 0.75, "label": "pass"},
        "metadata": {"agent": "a", "confidence": 0.5}, "identifier": annotation["identifier"],
    });
    assert_eq!(*annotation, expected);
    let annotation = &requests[4].body_json::<Value>().unwrap()["data"][0];
    assert_eq!(annotation["result"], json!({"score": 0.0, "label": "fail"}));
}

#[tokio::test]
async fn an_evaluation_before_its_span_is_of_the_trace_and_brings_it() {
    let server = server(nothing_stored).await;
    assert_eq!(export(&exporter(&server), &[OF_CALL]).await, ExportReport::accepted(1));
    let requests = server.received_requests().await.unwrap();
    let span = &otlp::spans(requests.iter().find(|request| request.url.path() == "/v1/traces").unwrap())[0];
    assert_eq!(otlp::attribute(&span.attributes, "openinference.span.kind").unwrap(), "EVALUATOR");
    let last = requests.last().unwrap();
    assert_eq!(last.url.path(), "/v1/trace_annotations");
    let annotation = &last.body_json::<Value>().unwrap()["data"][0];
    assert_eq!(annotation["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(annotation["metadata"]["span_id"], "00000000000000b1");
}

#[tokio::test]
async fn a_rejected_annotation_takes_no_other_with_it() {
    let server = server(|request| {
        let is_bad = String::from_utf8_lossy(&request.body).contains("\"bad\"");
        if is_bad { ResponseTemplate::new(422).set_body_string("no such name") } else { ResponseTemplate::new(200) }
    })
    .await;
    let bad = OF_TASK.replace("pii", "bad");
    let report = export(&exporter(&server), &[OF_TASK, &bad, CALL]).await;
    assert_eq!((report.accepted, report.rejected_count()), (2, 1), "{report:?}");
    assert!(report.rejected[0].reason.contains("no such name"), "{report:?}");
}

#[tokio::test]
async fn a_program_sends_costs_and_incidents_itself() {
    let server = server(|_| ResponseTemplate::new(200)).await;
    let (exporter, http) = (exporter(&server), client());
    let cost: Usd = "1.25".parse().unwrap();
    let record = CostRecord {
        agent: "a".to_owned(),
        task: "t".to_owned(),
        cost,
        breakdown: [("search".to_owned(), cost)].into(),
        trace_id: None,
    };
    exporter.export_cost_record(&record, AT, &*http).await.unwrap();
    let incident = Incident {
        description: "the budget is spent".to_owned(),
        agent: "a".to_owned(),
        ..Incident::new("i-1", Severity::Critical)
    };
    exporter.export_incident(&incident, AT, &*http).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let span = &otlp::spans(&requests[0])[0];
    assert_eq!(otlp::attribute(&span.attributes, "llm.cost.total").unwrap(), 1.25);
    let span = &otlp::spans(&requests[1])[0];
    assert_eq!((span.name.as_str(), span.status.as_ref().unwrap().code), ("incident i-1", 2));
    let annotation = &requests[2].body_json::<Value>().unwrap()["data"][0];
    assert_eq!(annotation["result"]["label"], "critical");
    let id: String = span.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(annotation["span_id"], id);
}

#[tokio::test]
async fn the_state_of_an_objective_of_another_program_is_a_span_with_annotations() {
    let server = server(|_| ResponseTemplate::new(200)).await;
    let evaluation = SloEvaluation {
        name: "answers".to_owned(),
        status: Status::Critical,
        budget_remaining: Some(0.25),
        burn_rate: Some(f64::INFINITY),
        indicators: [("latency p95".to_owned(), 1.5)].into(),
        ..SloEvaluation::default()
    };
    for _ in 0..2 {
        exporter(&server).export_slo_evaluation(&evaluation, AT, &*client()).await.unwrap();
    }
    let requests = server.received_requests().await.unwrap();
    let span = &otlp::spans(&requests[0])[0];
    assert_eq!((span.name.as_str(), span.status.as_ref().unwrap().code), ("slo answers", 2));
    assert_eq!(otlp::attribute(&span.attributes, "openinference.span.kind").unwrap(), "EVALUATOR");
    let body: Value = requests[1].body_json().unwrap();
    let annotations = body["data"].as_array().unwrap().iter();
    let found: Vec<_> = annotations.map(|annotation| (&annotation["name"], &annotation["result"])).collect();
    let expected = [
        (json!("slo.status"), json!({"label": "critical"})),
        (json!("slo.budget_remaining"), json!({"score": 0.25})),
        (json!("slo.indicator latency p95"), json!({"score": 1.5})),
    ];
    assert_eq!(found, expected.iter().map(|(name, result)| (name, result)).collect::<Vec<_>>());
    assert_eq!(otlp::spans(&requests[2])[0], *span, "the same state is the same span");
}
