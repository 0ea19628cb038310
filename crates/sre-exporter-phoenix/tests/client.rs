//! What Phoenix's own clients sent for a small run, beside what the exporter sends for the same. Recorded between the
//! clients and a server, see `tests/contracts/clients/phoenix.json`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use sre_core::{AgentEvent, ExportBatch, Exporter, Resource, Timestamp};
use sre_exporter_phoenix::{PhoenixExporter, PhoenixSettings};
use sre_testkit::conformance::client;
use sre_testkit::{clients, otlp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const EVENTS: [&str; 5] = [
    r#"{"event":"llm_call","time":1790000001.5,"agent":"support","task":"t","trace_id":"184da3d9fd81d2e5b2fdf00c06c31cc1","span_id":"309bc6a10ec84557","model":"gpt-4o-mini","provider":"openai","input_tokens":10,"output_tokens":3,"cost_usd":"0.0000033","duration_ms":500}"#,
    r#"{"event":"tool_call","time":1790000002,"agent":"support","task":"t","trace_id":"184da3d9fd81d2e5b2fdf00c06c31cc1","tool":"search","success":false,"error":"not found","duration_ms":20}"#,
    r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"t","trace_id":"184da3d9fd81d2e5b2fdf00c06c31cc1","success":true,"duration_ms":3000}"#,
    r#"{"event":"evaluation","time":1790000004,"agent":"support","task":"t","trace_id":"184da3d9fd81d2e5b2fdf00c06c31cc1","parent_span_id":"309bc6a10ec84557","metric":"relevance","score":0.75,"confidence":0.5}"#,
    r#"{"event":"policy_check","time":1790000004,"agent":"support","task":"t","trace_id":"184da3d9fd81d2e5b2fdf00c06c31cc1","policy":"pii","compliant":true}"#,
];

/// What the clients send and the exporter does not. Each is explained in the crate's documentation.
const DIFFERENCES: [&str; 3] = ["exception exception.type", "exception exception.escaped", "input.mime_type"];

#[tokio::test]
async fn the_exporter_sends_what_phoenixs_own_clients_send() {
    let recorded = clients::requests("phoenix");
    let server = MockServer::start().await;
    // The spans are not stored yet.
    let respond =
        |request: &Request| ResponseTemplate::new(if request.url.query() == Some("sync=true") { 404 } else { 200 });
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let exporter = PhoenixExporter::new(PhoenixSettings::new(server.uri())).unwrap();
    let events = EVENTS.map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap()));
    let resource = Resource::new("support");
    let batch = ExportBatch::new(Timestamp::from_secs(1_790_000_100), &resource).with_events(&events);
    assert_eq!(exporter.export(&batch, &*client()).await.unwrap().accepted, 5);
    let ours = server.received_requests().await.unwrap();
    // What an annotation costs while Phoenix stores its span is not counted: a client that waits for it sends nothing else.
    let sent = ours.iter().filter(|request| request.url.query() != Some("sync=true")).map(|request| request.body.len());
    clients::assert_wire_len(sent.sum(), recorded.iter().map(clients::wire_len).sum());
    for request in &recorded {
        let path = request["path"].as_str().unwrap();
        let of_path = ours.iter().rfind(|ours| ours.url.path() == path).unwrap_or_else(|| panic!("no {path}"));
        if path == "/v1/traces" {
            let ours: BTreeSet<String> = otlp::spans(of_path).iter().flat_map(of_span).collect();
            for field in of_client(&request["body"]).difference(&ours) {
                assert!(DIFFERENCES.contains(&field.as_str()), "no {field} among {ours:?}");
            }
            continue;
        }
        let (recorded, ours) = (&request["body"]["data"][0], &of_path.body_json::<Value>().unwrap()["data"][0]);
        for field in ["name", "annotator_kind", "span_id", "trace_id", "result"] {
            assert_eq!(recorded.get(field), ours.get(field), "{field} of {path}");
        }
        assert!(ours["identifier"].is_string() && ours["metadata"].is_object());
    }
}

/// Returns the attributes and events of the spans in protobuf's JSON form.
fn of_client(body: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
        let keys = |list: &Value| -> Vec<String> {
            let entries = list.as_array().unwrap().iter();
            entries.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
        };
        found.extend(keys(&span["attributes"]));
        for event in span["events"].as_array().into_iter().flatten() {
            let name = event["name"].as_str().unwrap();
            found.extend(keys(&event["attributes"]).iter().map(|key| format!("{name} {key}")));
        }
    }
    found
}

/// Returns the same of a span of the exporter.
fn of_span(span: &otlp::Span) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = span.attributes.iter().map(|attribute| attribute.key.clone()).collect();
    for event in &span.events {
        found.extend(event.attributes.iter().map(|attribute| format!("{} {}", event.name, attribute.key)));
    }
    found
}
