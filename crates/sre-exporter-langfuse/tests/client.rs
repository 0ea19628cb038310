//! What Langfuse's own client sent for a small run, beside what the exporter sends for the same; and its models of what can
//! be read, which parse what was sent.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{
    AgentEvent, ExportBatch, Exporter, HttpClient, Resource, Secret, SloSnapshot, Status, Timestamp, TraceId, Window,
};
use sre_exporter_langfuse::{CostObservation, LangfuseExporter, LangfuseSettings};
use sre_testkit::{clients, conformance, otlp, outside};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const TRACE: &str = "6782b8a2b1f15f31628beb866f07352c";
const AT: Timestamp = Timestamp::from_secs(1_795_420_831);

const EVENTS: [&str; 3] = [
    r#"{"event":"llm_call","time":1795420830.946,"agent":"support","trace_id":"6782b8a2b1f15f31628beb866f07352c","span_id":"f7d2c7d49321cb22","parent_span_id":"2745d6e26a3d0859","model":"gpt-4o-mini","input_tokens":10,"output_tokens":3,"cost_usd":"0.00000315","duration_ms":1,"first_token_ms":0.5}"#,
    r#"{"event":"tool_call","time":1795420830.947,"agent":"support","trace_id":"6782b8a2b1f15f31628beb866f07352c","span_id":"6552e566f2376993","parent_span_id":"2745d6e26a3d0859","tool":"lookup","success":false,"error":"down","duration_ms":1}"#,
    r#"{"event":"task_finished","time":1795420830.948,"agent":"support","trace_id":"6782b8a2b1f15f31628beb866f07352c","span_id":"2745d6e26a3d0859","success":true,"duration_ms":3}"#,
];

/// What the client sends and the exporter does not. Each is explained in the crate's documentation.
const DIFFERENCES: [&str; 2] = ["langfuse.observation.input", "langfuse.observation.output"];

struct Sink {
    server: MockServer,
    http: Arc<dyn HttpClient>,
    exporter: LangfuseExporter,
    resource: Resource,
}

impl Sink {
    async fn new() -> Self {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let settings = LangfuseSettings::new(Secret::new("pk-lf-KEY"), Secret::new("sk-lf-KEY"));
        let exporter = LangfuseExporter::new(LangfuseSettings { url: server.uri(), ..settings }).unwrap();
        Self { server, http: conformance::client(), exporter, resource: Resource::new("support") }
    }

    /// Sends the run of the recording.
    async fn send_run(&self) {
        let events = EVENTS.map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap()));
        let batch = ExportBatch::new(AT, &self.resource).with_events(&events);
        assert_eq!(self.exporter.export(&batch, &*self.http).await.unwrap().accepted, 3);
        let report = self.exporter.score_slo(trace(), &slo(), AT, &*self.http).await.unwrap();
        assert_eq!(report.accepted, 2);
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    async fn scores(&self) -> Vec<Value> {
        let requests = self.requests().await;
        let of_scores = requests.iter().filter(|request| request.url.path() == "/api/public/scores");
        of_scores.flat_map(|request| request.body_json::<Vec<Value>>().unwrap()).collect()
    }

    async fn spans(&self) -> Vec<otlp::Span> {
        let requests = self.requests().await;
        requests.iter().filter(|request| request.url.path().contains("/otel/")).flat_map(otlp::spans).collect()
    }
}

fn trace() -> TraceId {
    TRACE.parse().unwrap()
}

fn slo() -> SloSnapshot {
    let mut slo = SloSnapshot::new("support", "support", Window::days(30));
    (slo.status, slo.error_budget.remaining) = (Status::Healthy, Some(0.8));
    slo
}

fn keys(of: &Value) -> BTreeSet<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_exporter_sends_what_langfuses_own_client_sends() {
    let sink = Sink::new().await;
    sink.send_run().await;
    let (ours, theirs) = (sink.requests().await, clients::requests("langfuse"));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(
            (ours.method.as_str(), ours.url.path()),
            (theirs["method"].as_str().unwrap(), theirs["path"].as_str().unwrap())
        );
        for (name, value) in theirs["headers"].as_object().unwrap() {
            match name.as_str() {
                "x-langfuse-public-key" => assert!(!ours.headers.contains_key(name)),
                "x-langfuse-sdk-name" => assert_eq!(ours.headers[name], "agent-sre"),
                name => assert_eq!(ours.headers[name], value.as_str().unwrap(), "{name}"),
            }
        }
    }
    let sent = ours.iter().map(|request| request.body.len()).sum();
    clients::assert_wire_len(sent, theirs.iter().map(clients::wire_len).sum());
    let of_client = &theirs[0]["body"]["resourceSpans"][0]["scopeSpans"][0]["spans"];
    for (ours, theirs) in sink.spans().await.iter().zip(of_client.as_array().unwrap()) {
        assert_eq!(ours.name, theirs["name"].as_str().unwrap());
        for entry in theirs["attributes"].as_array().unwrap() {
            let key = entry["key"].as_str().unwrap();
            if DIFFERENCES.contains(&key) {
                continue;
            }
            let found = otlp::attribute(&ours.attributes, key).unwrap_or_else(|| panic!("no {key} of {}", ours.name));
            assert_eq!(found.is_string(), entry["value"]["stringValue"].is_string(), "{key}");
        }
    }
    for (ours, theirs) in sink.scores().await.iter().zip(theirs[1]["body"].as_array().unwrap()) {
        assert!(keys(theirs).is_subset(&keys(ours)), "{ours}");
        for field in ["traceId", "name", "value", "dataType"] {
            assert_eq!(ours[field], theirs[field], "{field}");
        }
    }
}

#[tokio::test]
async fn a_trace_is_scored_and_has_costs_that_no_event_carries() {
    let sink = Sink::new().await;
    let Sink { exporter, http, resource, .. } = &sink;
    for value in [0.75, f64::NAN] {
        exporter.score_trace(trace(), "tone", value, Some("polite"), AT, &**http).await.unwrap();
    }
    let cost =
        CostObservation { agent: "support".to_owned(), cost: "0.50".parse().unwrap(), ..CostObservation::default() };
    for _ in 0..2 {
        exporter.record_cost(trace(), &cost, resource, AT, &**http).await.unwrap();
    }
    let scores = sink.scores().await;
    assert_eq!(scores.len(), 1, "NaN is no score");
    assert_eq!((&scores[0]["value"], &scores[0]["comment"]), (&json!(0.75), &json!("polite")));
    let spans = sink.spans().await;
    assert_eq!(spans[0], spans[1], "the same cost is the same observation");
    let details = otlp::attribute(&spans[0].attributes, "langfuse.observation.cost_details").unwrap();
    assert_eq!(details, r#"{"total":0.5}"#);
}

/// Langfuse's own models read what it would store of the run.
#[tokio::test]
async fn the_vendors_models_read_what_was_sent() {
    let Some(mut python) = outside::python_with("langfuse", "langfuse_models") else { return };
    let sink = Sink::new().await;
    sink.send_run().await;
    let observations: Vec<Value> = sink.spans().await.iter().map(observation).collect();
    let scores: Vec<Value> = sink.scores().await.into_iter().map(stored_score).collect();
    let script = "import json, sys\n\
        from langfuse.api import GetScoresV3Response, ObservationsV2Response\n\
        from langfuse.api.core.pydantic_utilities import parse_obj_as\n\
        stored = json.load(sys.stdin)\n\
        for o in parse_obj_as(ObservationsV2Response, {'data': stored['observations'], 'meta': {}}).data:\n\
        \x20   first = o.completion_start_time and (o.completion_start_time - o.start_time).total_seconds()\n\
        \x20   print(o.name, o.type, o.level, o.status_message, o.model, o.usage_details, o.cost_details, first, o.metadata)\n\
        for s in parse_obj_as(GetScoresV3Response, {'data': stored['scores'], 'meta': {'limit': 50}}).data:\n\
        \x20   print(s.name, s.data_type, s.value, s.subject.kind, s.subject.id, s.comment)\n";
    let mut child = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stored = json!({"observations": observations, "scores": scores});
    child.stdin.take().unwrap().write_all(stored.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let usage = "{'input': 10, 'input_cached_tokens': 0, 'output': 3}";
    let expected = format!(
        "gpt-4o-mini GENERATION None None gpt-4o-mini {usage} {{'total': 3.15e-06}} 0.0005 {{'agent': 'support'}}\n\
        lookup TOOL ERROR down None None None None {{'agent': 'support'}}\n\
        support AGENT None None None None None None {{'agent': 'support'}}\n\
        slo.support.budget_remaining NUMERIC 0.8 trace {TRACE} healthy\n\
        slo.support.status CATEGORICAL healthy trace {TRACE} None\n"
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

/// Returns what Langfuse stores of a span, by the attributes that it documents.
fn observation(span: &otlp::Span) -> Value {
    let arrived = conformance::ArrivedSpan::from_otlp(span);
    let text = |key: &str| otlp::attribute(&span.attributes, &format!("langfuse.observation.{key}"));
    let parsed = |key: &str| text(key).map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap());
    let metadata = span.attributes.iter().filter_map(|attribute| {
        let name = attribute.key.strip_prefix("langfuse.observation.metadata.")?;
        Some((name.to_owned(), otlp::attribute(&span.attributes, &attribute.key)?))
    });
    let kind = text("type").unwrap().as_str().unwrap().to_uppercase();
    json!({
        "id": arrived.span_id, "traceId": arrived.trace_id, "parentObservationId": arrived.parent_span_id,
        "startTime": Timestamp::from_nanos(arrived.start), "endTime": Timestamp::from_nanos(arrived.end),
        "projectId": "p", "type": kind, "name": span.name, "level": text("level"),
        "statusMessage": text("status_message"), "model": text("model.name"), "usageDetails": parsed("usage_details"),
        "costDetails": parsed("cost_details"), "completionStartTime": parsed("completion_start_time"),
        "metadata": metadata.collect::<serde_json::Map<_, _>>(),
    })
}

/// Returns what Langfuse returns of a score: it adds ids and times of its own.
fn stored_score(mut score: Value) -> Value {
    let trace = score["traceId"].take();
    score["subject"] = json!({"kind": "trace", "id": trace});
    for (field, value) in [("projectId", "p"), ("source", "API"), ("environment", "default")] {
        score[field] = value.into();
    }
    for field in ["createdAt", "updatedAt"] {
        score[field] = score["timestamp"].clone();
    }
    score
}
