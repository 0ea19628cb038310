//! Tokens, and sessions laid beside those of AgentOps' own client.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use sre_core::{
    AgentEvent, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, HttpError, Recorder, Resource, Secret,
    SloSnapshot, Snapshot, Status, Timestamp, Window,
};
use sre_exporter_agentops::{AgentOpsExporter, AgentOpsSettings};
use sre_testkit::{clients, otlp};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// An AgentOps that records requests and numbers its tokens, of which it accepts those from `oldest` on.
#[derive(Default)]
struct AgentOps {
    requests: Mutex<Vec<Request<Bytes>>>,
    tokens: Mutex<u32>,
    oldest: Mutex<u32>,
    /// When tokens expire.
    expiry: Option<i64>,
}

impl AgentOps {
    /// Returns and forgets the paths of the requests.
    fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().drain(..).map(|request| request.uri().path().to_owned()).collect()
    }
}

#[async_trait]
impl HttpClient for AgentOps {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut tokens = self.tokens.lock().unwrap();
        let answer = if request.uri().path() == "/v3/auth/token" {
            *tokens += 1;
            // {"exp":…} in base64, unpadded for a number of ten digits.
            let claims = self.expiry.map_or("x".to_owned(), |expiry| {
                use base64::Engine;
                base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{expiry}}}"))
            });
            (200, json!({"token": format!("{}.{claims}.x", *tokens), "project_id": "p-1"}).to_string())
        } else {
            let bearer = request.headers()["authorization"].to_str().unwrap();
            let number: u32 = bearer.trim_start_matches("Bearer ").split('.').next().unwrap().parse().unwrap();
            (if number < *self.oldest.lock().unwrap() { 401 } else { 200 }, String::new())
        };
        self.requests.lock().unwrap().push(request);
        Ok(Response::builder().status(answer.0).body(Bytes::from(answer.1)).unwrap())
    }
}

fn exporter() -> AgentOpsExporter {
    let settings = AgentOpsSettings::new(Secret::new("00000000-0000-0000-0000-000000000001"));
    AgentOpsExporter::new(AgentOpsSettings { tags: vec!["slo".to_owned()], ..settings }).unwrap()
}

fn events() -> Vec<Arc<AgentEvent>> {
    let lines = [
        r#"{"event":"tool_call","time":1790000001,"agent":"support","task":"t","tool":"lookup","success":true,"duration_ms":1}"#,
        r#"{"event":"step_finished","time":1790000002,"agent":"support","task":"t","name":"answer","kind":"agent_task","duration_ms":2}"#,
        r#"{"event":"task_finished","time":1790000003,"agent":"support","task":"t","success":true,"duration_ms":3}"#,
        r#"{"event":"task_finished","time":1790000004,"agent":"support","task":"u","success":false,"error":"incomplete","attributes":{"incomplete":true}}"#,
    ];
    lines.map(|line| Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap())).into()
}

async fn export(exporter: &AgentOpsExporter, agentops: &AgentOps, at: i64) -> Result<ExportReport, ExportError> {
    let resource = Resource::new("agents");
    let batch = ExportBatch::new(Timestamp::from_secs(at), &resource);
    exporter.export(&batch.with_events(&events()), agentops).await
}

#[tokio::test]
async fn a_token_is_kept_until_it_expires_or_is_refused() {
    let agentops = AgentOps { expiry: Some(START.as_secs() + 600), ..AgentOps::default() };
    let exporter = exporter();
    for (seconds, expected) in [
        (0, &["/v3/auth/token", "/v1/traces"][..]),
        (500, &["/v1/traces"][..]),
        (541, &["/v3/auth/token", "/v1/traces"][..]),
    ] {
        assert_eq!(export(&exporter, &agentops, START.as_secs() + seconds).await.unwrap().accepted, 4);
        assert_eq!(agentops.paths(), expected, "after {seconds} s");
    }
    *agentops.oldest.lock().unwrap() = 3;
    assert_eq!(export(&exporter, &agentops, START.as_secs()).await.unwrap().accepted, 4);
    assert_eq!(agentops.paths(), ["/v1/traces", "/v3/auth/token", "/v1/traces"], "another token, once");
    *agentops.oldest.lock().unwrap() = u32::MAX;
    let error = export(&exporter, &agentops, START.as_secs()).await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    assert_eq!(agentops.paths().len(), 3, "then it gives up");
}

#[tokio::test]
async fn hosts_are_those_of_the_cloud() {
    let agentops = AgentOps::default();
    export(&exporter(), &agentops, START.as_secs()).await.unwrap();
    let requests = agentops.requests.lock().unwrap();
    let urls: Vec<_> = requests.iter().map(|request| request.uri().to_string()).collect();
    assert_eq!(urls, ["https://api.agentops.ai/v3/auth/token", "https://otlp.agentops.ai/v1/traces"]);
}

/// Returns the spans of a request in protobuf's JSON form, and the attributes of the resource.
fn spans(request: &Request<Bytes>) -> (Vec<Value>, Value) {
    let request = otlp::compressed_trace_request(request.body());
    let request = serde_json::to_value(request).unwrap();
    let resource = &request["resourceSpans"][0];
    (resource["scopeSpans"][0]["spans"].as_array().unwrap().clone(), resource["resource"]["attributes"].clone())
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    let attributes = span["attributes"].as_array()?;
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"].as_object()?.values().next()
}

#[tokio::test]
async fn sessions_are_laid_beside_those_of_agentops_client() {
    let theirs = clients::requests("agentops");
    let agentops = AgentOps::default();
    export(&exporter(), &agentops, START.as_secs()).await.unwrap();
    let ours = agentops.requests.lock().unwrap();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(
            (ours.method().as_str(), ours.uri().path()),
            (theirs["method"].as_str().unwrap(), theirs["path"].as_str().unwrap(),)
        );
        assert_eq!(ours.headers()["content-type"], theirs["headers"]["content-type"].as_str().unwrap());
        clients::assert_wire_len(ours.body().len(), clients::wire_len(theirs));
    }
    let token: Value = serde_json::from_slice(ours[0].body()).unwrap();
    assert_eq!(token, theirs[0]["body"]);
    let (spans, resource) = spans(&ours[1]);
    let resource = json!({"attributes": resource});
    assert_eq!(attribute(&resource, "agentops.project.id").unwrap(), "p-1");
    let of_client = &theirs[1]["body"]["resourceSpans"][0]["scopeSpans"][0]["spans"];
    for (ours, theirs) in spans.iter().zip(of_client.as_array().unwrap()) {
        assert_eq!(ours["name"], theirs["name"]);
        for key in ["agentops.span.kind", "operation.name", "agentops.tags", "agentops.session.end_state"] {
            let value = |span| attribute(span, key).map(|value| value.to_string().replace(char::is_whitespace, ""));
            assert_eq!(value(ours), value(theirs), "{key} of {}", ours["name"]);
        }
        let has_parent = |span: &Value| span["parentSpanId"].as_str().is_some_and(|id| !id.is_empty());
        assert_eq!(has_parent(ours), has_parent(theirs), "{}", ours["name"]);
    }
    assert_eq!(attribute(&spans[3], "agentops.session.end_state").unwrap(), "Indeterminate");
}

#[tokio::test]
async fn a_task_that_a_program_records_itself_is_a_session() {
    let (recorded, agentops) = (Arc::new(Mutex::new(Vec::new())), AgentOps::default());
    let sink = recorded.clone();
    let recorder = Recorder::new(Arc::new(move |event| sink.lock().unwrap().push(Arc::new(event))));
    let session = recorder.start("support");
    session.tool_call("lookup", Some("down"));
    session.end(false, Some("no answer"));
    let (events, resource) = (recorded.lock().unwrap().clone(), Resource::new("agents"));
    let batch = ExportBatch::new(START, &resource).with_events(&events);
    assert_eq!(exporter().export(&batch, &agentops).await.unwrap().accepted, 2);
    let request = agentops.requests.lock().unwrap().pop().unwrap();
    let (spans, _) = spans(&request);
    assert_eq!(
        (&spans[0]["name"], attribute(&spans[0], "tool.status").unwrap()),
        (&json!("lookup.tool"), &json!("failed"))
    );
    assert_eq!(attribute(&spans[1], "agentops.session.end_state").unwrap(), "Fail");
    assert_eq!(spans[0]["parentSpanId"], spans[1]["spanId"]);
}

#[tokio::test]
async fn an_objective_is_a_span_at_every_interval_and_a_trace_a_day() {
    let agentops = AgentOps::default();
    let (exporter, resource) = (exporter(), Resource::new("agents"));
    let mut slo = SloSnapshot::new("support", "support", Window::MONTH);
    (slo.status, slo.error_budget.remaining) = (Status::Healthy, Some(0.8));
    let snapshots = [Snapshot::Slo(Box::new(slo))];
    let mut found = Vec::new();
    for seconds in [0, 60, 60, 86_400] {
        let at = Timestamp::from_secs(START.as_secs() + seconds);
        let batch = ExportBatch::new(at, &resource).with_state(&[], &snapshots);
        assert_eq!(exporter.export(&batch, &agentops).await.unwrap().accepted, 1);
        let request = agentops.requests.lock().unwrap().pop().unwrap();
        let (spans, _) = spans(&request);
        assert_eq!(attribute(&spans[0], "trace.metadata.slo.support.status").unwrap(), "healthy");
        assert_eq!(attribute(&spans[0], "trace.metadata.slo.support.budget_remaining").unwrap(), 0.8);
        found.push((spans[0]["traceId"].clone(), spans[0]["spanId"].clone()));
    }
    assert!(found[0].0 == found[1].0 && found[0].1 != found[1].1, "{found:?}");
    assert_eq!(found[1], found[2], "the same batch is the same span");
    assert_ne!(found[0].0, found[3].0, "another day is another trace");
}
