//! What MLflow's own client sent for a small run, beside what the exporter sends for the same. Recorded between the client
//! and a server, see `tests/contracts/clients/mlflow.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{AgentEvent, ExportBatch, Exporter, Resource, Snapshot, Timestamp};
use sre_exporter_mlflow::{MlflowExporter, MlflowSettings};
use sre_testkit::conformance::client;
use sre_testkit::{clients, otlp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const EVENTS: [&str; 4] = [
    r#"{"event":"llm_call","time":1790000001.5,"agent":"support","task":"t","trace_id":"a80a024350f8b445285d015369479176","model":"gpt-4o-mini","provider":"openai","input_tokens":10,"output_tokens":3,"cost_usd":"0.0000033","duration_ms":500}"#,
    r#"{"event":"tool_call","time":1790000002,"agent":"support","task":"t","trace_id":"a80a024350f8b445285d015369479176","tool":"search","success":false,"error":"not found","duration_ms":20}"#,
    r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"t","trace_id":"a80a024350f8b445285d015369479176","success":true,"duration_ms":3000}"#,
    r#"{"event":"evaluation","time":1790000004,"agent":"support","task":"t","trace_id":"a80a024350f8b445285d015369479176","metric":"relevance","score":0.75,"confidence":0.5}"#,
];

/// What the client sends and the exporter does not. Each is explained in the crate's documentation.
const DIFFERENCES: [&str; 11] = [
    "POST /api/3.0/mlflow/traces",
    "POST /api/2.0/mlflow/runs/update",
    "POST /v1/traces mlflow.traceRequestId",
    "POST /v1/traces mlflow.spanLogLevel",
    "POST /v1/traces mlflow.spanFunctionName",
    "POST /v1/traces exception exception.type",
    "POST /v1/traces mlflow.llm.cost input_cost",
    "POST /v1/traces mlflow.llm.cost output_cost",
    "POST /api/3.0/mlflow/traces/TRACE/assessments assessment.valid",
    "x-mlflow-client-version",
    "user_id",
];

/// The fields of a request's body, or the attributes of its spans, by method and path.
type SentPaths = BTreeMap<String, BTreeSet<String>>;

#[tokio::test]
async fn the_exporter_sends_what_mlflows_own_client_sends() {
    let recorded = clients::requests("mlflow");
    let of_client = recorded.iter().fold(SentPaths::new(), |mut sent, request| {
        let path = request["path"].as_str().unwrap().split('?').next().unwrap();
        let fields = if path == "/v1/traces" { otlp_json(&request["body"]) } else { fields(&request["body"], "") };
        sent.entry(address(request["method"].as_str().unwrap(), path)).or_default().extend(fields);
        sent
    });
    let (of_exporter, traces) = export().await;
    // Runs and artifacts of the recording have other entries.
    let is_trace = |request: &&Value| is_of_trace(request["path"].as_str().unwrap());
    clients::assert_wire_len(traces, recorded.iter().filter(is_trace).map(clients::wire_len).sum());
    for (address, fields) in &of_client {
        if DIFFERENCES.contains(&address.as_str()) {
            continue;
        }
        let ours = of_exporter.get(address).unwrap_or_else(|| panic!("no {address} among {of_exporter:#?}"));
        for field in fields.difference(ours) {
            assert!(DIFFERENCES.contains(&format!("{address} {field}").as_str()), "{address} lacks {field}: {ours:?}");
        }
    }
}

fn is_of_trace(path: &str) -> bool {
    path == "/v1/traces" || path.starts_with("/api/3.0/mlflow/traces")
}

/// Returns what the exporter sends to a server that does not know the experiment, and the number of bytes for traces and their
/// assessments.
async fn export() -> (SentPaths, usize) {
    let server = MockServer::start().await;
    let respond = |request: &Request| {
        let run = json!({"info": {"run_id": "0b6185c6a9df4a4b8c5d02a235e2918f", "artifact_uri": "mlflow-artifacts:/1/0b6185c6a9df4a4b8c5d02a235e2918f/artifacts"}});
        match request.url.path() {
            "/api/2.0/mlflow/experiments/get-by-name" => ResponseTemplate::new(404),
            "/api/2.0/mlflow/runs/search" => ResponseTemplate::new(200).set_body_json(json!({})),
            _ => ResponseTemplate::new(200).set_body_json(json!({"experiment_id": "1", "run": run})),
        }
    };
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let exporter = MlflowExporter::new(MlflowSettings::new(server.uri())).unwrap();
    let slo = json!({
        "snapshot": "slo", "name": "answers", "agent": "support", "status": "warning", "target": 0.95, "window": "24h",
        "good": 97, "bad": 3, "sli": 0.97, "interval": null, "burn_rates": [], "alerts": [], "indicators": [], "dropped": 0,
        "error_budget": {"total": 0.05, "consumed": 0.6, "remaining": 0.4, "spent_in_s": null}
    });
    let snapshots: [Snapshot; 1] = [serde_json::from_value(slo).unwrap()];
    let events = EVENTS.map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap()));
    let (at, resource) = (Timestamp::from_secs(1_790_000_100), Resource::new("support"));
    let batches = [
        ExportBatch::new(at, &resource).with_events(&events),
        ExportBatch::new(at, &resource).with_state(&[], &snapshots),
    ];
    for batch in &batches {
        let report = exporter.export(batch, &*client()).await.unwrap();
        assert_eq!(report.accepted, batch.len() as u64);
    }
    let requests = server.received_requests().await.unwrap();
    let bytes =
        requests.iter().filter(|request| is_of_trace(request.url.path())).map(|request| request.body.len()).sum();
    let sent = requests.iter().fold(SentPaths::new(), |mut sent, request| {
        let fields = match request.url.path() {
            "/v1/traces" => otlp::spans(request).iter().flat_map(of_span).collect(),
            _ => fields(&serde_json::from_slice(&request.body).unwrap_or_default(), ""),
        };
        sent.entry(address(request.method.as_str(), request.url.path())).or_default().extend(fields);
        sent
    });
    (sent, bytes)
}

/// Returns method and path, without the ids of traces and runs.
fn address(method: &str, path: &str) -> String {
    let part = |part: &str| match part {
        id if id.starts_with("tr-") => "TRACE".to_owned(),
        id if id.len() == 32 => "RUN".to_owned(),
        other => other.to_owned(),
    };
    format!("{method} {}", path.split('/').map(part).collect::<Vec<_>>().join("/"))
}

/// Returns the paths of all fields; metadata and the content of artifacts are free.
fn fields(value: &Value, path: &str) -> BTreeSet<String> {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(entries) if !path.ends_with("metadata") => {
            entries.iter().flat_map(|(key, value)| fields(value, &join(key))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| fields(item, &join("[]"))).collect(),
        _ => BTreeSet::from([path.to_owned()]),
    }
}

/// Returns the attributes of the spans in protobuf's JSON form, and whether spans have what is no attribute.
fn otlp_json(body: &Value) -> BTreeSet<String> {
    let spans = |list: &Value| list["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    let mut found = BTreeSet::new();
    for span in body["resourceSpans"].as_array().unwrap().iter().flat_map(spans) {
        for attribute in span["attributes"].as_array().unwrap() {
            let key = attribute["key"].as_str().unwrap();
            // Inputs and outputs may be any value.
            match attribute["value"]["kvlistValue"]["values"].as_array().filter(|_| !key.starts_with("mlflow.span")) {
                Some(entries) => {
                    found.extend(entries.iter().map(|entry| format!("{key} {}", entry["key"].as_str().unwrap())));
                }
                None => {
                    found.insert(key.to_owned());
                }
            }
        }
        for event in span["events"].as_array().into_iter().flatten() {
            let keys = event["attributes"].as_array().unwrap().iter();
            found.extend(keys.map(|entry| format!("exception {}", entry["key"].as_str().unwrap())));
        }
        found.insert(format!("status {}", span["status"]["code"].as_str().unwrap()));
    }
    found
}

/// Returns the same of a span of the exporter.
fn of_span(span: &otlp::Span) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for attribute in &span.attributes {
        match otlp::attribute(&span.attributes, &attribute.key).unwrap() {
            Value::Object(entries) if !attribute.key.starts_with("mlflow.span") => {
                found.extend(entries.keys().map(|key| format!("{} {key}", attribute.key)));
            }
            _ => {
                found.insert(attribute.key.clone());
            }
        }
    }
    for event in &span.events {
        found.extend(event.attributes.iter().map(|attribute| format!("{} {}", event.name, attribute.key)));
    }
    let status = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
    found.insert(format!("status {}", status[span.status.as_ref().map_or(0, |status| status.code) as usize]));
    found
}
