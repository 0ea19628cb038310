//! The conformance suite of exporters. Every request is validated against Helicone's documentation.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use sre_core::{
    AgentEvent, ExportBatch, ExportReport, Exporter, HttpClient, HttpError, Resource, Secret, SloSnapshot, Status,
    Timestamp, Window,
};
use sre_exporter_helicone::{HeliconeExporter, HeliconeSettings};
use sre_testkit::conformance::{self, Arrived, Backend, SECRET};
use wiremock::{Request, ResponseTemplate};

struct Helicone;

impl Backend for Helicone {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = HeliconeSettings::new(Secret::new(secret));
        Arc::new(HeliconeExporter::new(HeliconeSettings { url: url.to_owned(), ..settings }).unwrap())
    }

    fn success(&self, _request: &Request) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(json!({"data": null, "error": null}))
    }

    fn refuses_one(&self, _request: &Request) -> Option<ResponseTemplate> {
        Some(ResponseTemplate::new(200).set_body_json(json!({"data": null, "error": "no such request"})))
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(!body.to_string().contains(SECRET), "a secret in a body");
        holds(request.url.path(), &body);
    }

    fn read(&self, request: &Request) -> Arrived {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let mut arrived = Arrived::default();
        for (name, score) in body["scores"].as_object().into_iter().flatten() {
            let value = score.as_f64().unwrap_or_else(|| f64::from(u8::from(score.as_bool().unwrap())));
            arrived.scores.push((request.url.path().to_owned(), name.clone(), value));
        }
        arrived
    }

    /// Helicone has the model calls already.
    fn has_spans(&self) -> bool {
        false
    }

    /// Only events of a request in Helicone are sent. Each is of a request of its own here.
    fn prepare(&self, event: &mut AgentEvent) {
        let id = format!("{}-{}-{}", event.agent.len(), event.time.as_nanos(), event.event.kind());
        event.attributes.insert("helicone_id".to_owned(), id.into());
    }
}

static SCORE: LazyLock<Validator> = LazyLock::new(|| schema("score"));
static FEEDBACK: LazyLock<Validator> = LazyLock::new(|| schema("feedback"));

fn schema(name: &str) -> Validator {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/contracts");
    let text = std::fs::read_to_string(format!("{folder}/helicone.{name}.schema.json")).unwrap();
    jsonschema::options().with_draft(Draft::Draft7).build(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn holds(path: &str, body: &Value) {
    let mut parts = path.split('/').skip(1);
    assert_eq!((parts.next(), parts.next()), (Some("v1"), Some("request")), "{path}");
    assert!(parts.next().is_some_and(|id| !id.is_empty()), "{path}");
    let validator = match parts.next() {
        Some("score") => &SCORE,
        Some("feedback") => &FEEDBACK,
        _ => panic!("no such endpoint: {path}"),
    };
    let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {body:#}");
}

#[tokio::test]
async fn helicone_conforms() {
    conformance::exporter(Helicone).await;
}

#[test]
fn the_contract_refuses_what_it_should() {
    assert!(!SCORE.is_valid(&json!({"scores": {"accuracy": 0.92}})), "fractions are refused");
    assert!(!SCORE.is_valid(&json!({"score": 1})));
    assert!(!FEEDBACK.is_valid(&json!({"rating": 1})));
}

/// Answers by the path.
struct Answers(fn(&str) -> u16);

#[async_trait]
impl HttpClient for Answers {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        holds(request.uri().path(), &serde_json::from_slice(request.body()).unwrap());
        let status = self.0(request.uri().path());
        Ok(http::Response::builder().status(status).body(Bytes::from_static(b"{}")).unwrap())
    }
}

fn exporter() -> HeliconeExporter {
    HeliconeExporter::new(HeliconeSettings::new(Secret::new("k"))).unwrap()
}

async fn export(answers: fn(&str) -> u16) -> ExportReport {
    let events = [1, 2, 3, 2].map(|id| {
        let line = format!(
            r#"{{"event":"evaluation","time":1790000000,"agent":"a","metric":"m{id}","score":0.5,"attributes":{{"helicone_id":"{id}"}}}}"#
        );
        Arc::new(AgentEvent::from_json(line.as_bytes()).unwrap())
    });
    let resource = Resource::new("agents");
    let batch = ExportBatch::new(Timestamp::from_secs(1_790_000_000), &resource).with_events(&events);
    exporter().export(&batch, &Answers(answers)).await.unwrap()
}

#[tokio::test]
async fn an_unknown_request_stops_no_other() {
    let report = export(|path| if path.contains("/2/") { 404 } else { 200 }).await;
    assert_eq!((report.accepted, report.rejected_count()), (2, 2));
    assert!(report.rejected[0].reason.contains("404"), "{report:?}");
}

#[tokio::test]
async fn what_is_left_when_helicone_goes_away_is_sent_again() {
    let report = export(|path| if path.contains("/1/") { 200 } else { 503 }).await;
    assert_eq!((report.accepted, report.retry), (1, vec![1, 2, 3]));
}

#[tokio::test]
async fn feedback_and_objectives_are_sent_by_hand() {
    let (exporter, at, http) = (exporter(), Timestamp::from_secs(1_790_000_000), Answers(|_| 200));
    assert_eq!(exporter.send_feedback("a/b", true, at, &http).await.unwrap().accepted, 1);
    let mut slo = SloSnapshot::new("answers", "support", Window::DAY);
    (slo.status, slo.error_budget.remaining, slo.sli) = (Status::Healthy, Some(0.8), Some(0.97));
    assert_eq!(exporter.score_slo("a/b", &slo, at, &http).await.unwrap().accepted, 1);
}
