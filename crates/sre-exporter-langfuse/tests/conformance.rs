//! The conformance suite of exporters. Every request is validated against Langfuse's published API.

use std::sync::{Arc, LazyLock};

use jsonschema::{Draft, Validator};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use sre_core::{ExportBatch, Exporter, Resource, Secret, SloSnapshot, Snapshot, Timestamp, Window};
use sre_exporter_langfuse::{LangfuseExporter, LangfuseSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use sre_testkit::otlp;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

struct Langfuse;

impl Backend for Langfuse {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = LangfuseSettings::new(Secret::new(secret), Secret::new(format!("sk-{secret}")));
        let settings = LangfuseSettings { url: url.to_owned(), environment: Some("suite".to_owned()), ..settings };
        Arc::new(LangfuseExporter::new(settings).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        if is_scores(request) {
            ResponseTemplate::new(202).set_body_json(json!({"message": "Accepted"}))
        } else {
            ResponseTemplate::new(200)
        }
    }

    fn refuses_one(&self, request: &Request) -> Option<ResponseTemplate> {
        Some(if is_scores(request) {
            let errors = [json!({"message": "config not found"})];
            ResponseTemplate::new(207).set_body_json(json!({"accepted": 1, "rejected": 1, "errors": errors}))
        } else {
            otlp::rejects_one()
        })
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        assert!(request.headers["authorization"].to_str().unwrap().starts_with("Basic "));
        assert!(!String::from_utf8_lossy(&otlp::body(request)).contains(SECRET), "a secret in a body");
        if is_scores(request) {
            scores(request).iter().for_each(|score| holds(&SCORE, score));
        } else {
            // The contract describes the JSON form of OTLP.
            holds(&SPANS, &serde_json::to_value(otlp::trace_request(request)).unwrap());
        }
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        if !is_scores(request) {
            arrived.spans = otlp::spans(request).iter().map(span).collect();
            return arrived;
        }
        for score in scores(request) {
            let text = |field: &str| score[field].as_str().unwrap().to_owned();
            match score["value"].as_f64() {
                _ if text("name").starts_with("slo.") => {
                    arrived.metrics.push((text("name"), score["value"].as_f64().unwrap_or(-1.0)));
                }
                value => arrived.scores.push((text("traceId"), text("name"), value.unwrap())),
            }
        }
        arrived
    }
}

fn scores(request: &Request) -> Vec<Value> {
    serde_json::from_slice(&request.body).unwrap()
}

fn is_scores(request: &Request) -> bool {
    request.url.path() == "/api/public/scores"
}

fn span(span: &Span) -> ArrivedSpan {
    let attribute = |key: &str| Some(otlp::attribute(&span.attributes, key)?.as_str().unwrap().to_owned());
    let details = |key: &str| attribute(key).map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let usage = details("langfuse.observation.usage_details").map(|usage| Usage {
        input_tokens: usage["input"].as_i64().unwrap() + usage["input_cached_tokens"].as_i64().unwrap(),
        cached_input_tokens: usage["input_cached_tokens"].as_i64().unwrap(),
        output_tokens: usage["output"].as_i64().unwrap(),
        cost_usd: details("langfuse.observation.cost_details").and_then(|cost| cost["total"].as_f64()),
    });
    let is_error = attribute("langfuse.observation.level").is_some_and(|level| level == "ERROR");
    let arrived = ArrivedSpan { usage, ..ArrivedSpan::from_otlp(span) };
    assert_eq!(is_error, arrived.is_error, "level and status agree");
    arrived
}

static SPANS: LazyLock<Validator> = LazyLock::new(|| {
    within("#/paths/~1api~1public~1otel~1v1~1traces/post/requestBody/content/application~1json/schema")
});

static SCORE: LazyLock<Validator> = LazyLock::new(|| within("#/components/schemas/CreateScoreRequest"));

/// Returns a validator for a part of the contract, with references to the rest of it.
fn within(part: &str) -> Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/contracts/langfuse.json");
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    document["$ref"] = part.into();
    jsonschema::options().with_draft(Draft::Draft7).build(&document).unwrap()
}

fn holds(validator: &Validator, body: &Value) {
    let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {body:#}");
}

#[tokio::test]
async fn langfuse_conforms() {
    conformance::exporter(Langfuse).await;
}

/// Rejects the scores of one objective, all three of them, wherever they are.
#[tokio::test]
async fn an_objective_with_rejected_scores_counts_once() {
    let server = MockServer::start().await;
    let respond = |request: &Request| {
        if !is_scores(request) {
            return ResponseTemplate::new(200);
        }
        let is_bad = |score: &&Value| score["name"].as_str().unwrap().starts_with("slo.bad.");
        let rejected = scores(request).iter().filter(is_bad).count();
        let errors: Vec<Value> = (0..rejected).map(|_| json!({"message": "config not found"})).collect();
        ResponseTemplate::new(207).set_body_json(json!({"rejected": rejected, "errors": errors}))
    };
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let snapshots = ["good", "bad", "fine", "well"].map(|name| {
        let mut slo = SloSnapshot::new(name, "support", Window::DAY);
        (slo.sli, slo.error_budget.remaining) = (Some(0.9), Some(0.5));
        Snapshot::Slo(Box::new(slo))
    });
    let (exporter, resource) = (Langfuse.exporter(&server.uri(), SECRET), Resource::new("tests"));
    let batch = ExportBatch::new(Timestamp::from_secs(1_790_000_000), &resource).with_state(&[], &snapshots);
    let report = exporter.export(&batch, &*conformance::client()).await.unwrap();
    assert_eq!((report.accepted, report.rejected_count()), (3, 1), "{report:?}");
    assert_eq!(report.rejected[0].reason, "config not found");
}

#[test]
fn the_contract_refuses_what_it_should() {
    assert!(!SCORE.is_valid(&json!({"name": "a"})), "a score needs a value");
    assert!(!SCORE.is_valid(&json!({"name": "a", "value": 1, "dataType": "PERCENT"})));
    assert!(!SPANS.is_valid(&json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 7}]}]}]})));
}
