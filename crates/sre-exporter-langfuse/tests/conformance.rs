//! The conformance suite of exporters. Every request is validated against Langfuse's published API.

use std::sync::{Arc, LazyLock};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use sre_core::{Exporter, Secret};
use sre_exporter_langfuse::{LangfuseExporter, LangfuseSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use wiremock::{Request, ResponseTemplate};

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
            ResponseTemplate::new(200).set_body_json(json!({}))
        }
    }

    fn refuses_one(&self, request: &Request) -> Option<ResponseTemplate> {
        Some(if is_scores(request) {
            let errors = [json!({"message": "config not found"})];
            ResponseTemplate::new(207).set_body_json(json!({"accepted": 1, "rejected": 1, "errors": errors}))
        } else {
            let partial = json!({"rejectedSpans": "1", "errorMessage": "too old"});
            ResponseTemplate::new(200).set_body_json(json!({"partialSuccess": partial}))
        })
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        assert!(request.headers["authorization"].to_str().unwrap().starts_with("Basic "));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(!body.to_string().contains(SECRET), "a secret in a body");
        if is_scores(request) {
            for score in body.as_array().unwrap() {
                holds(&SCORE, score);
            }
        } else {
            holds(&SPANS, &body);
        }
    }

    fn read(&self, request: &Request) -> Arrived {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let mut arrived = Arrived::default();
        if !is_scores(request) {
            let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
            arrived.spans = spans.iter().map(span).collect();
            return arrived;
        }
        for score in body.as_array().unwrap() {
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

fn is_scores(request: &Request) -> bool {
    request.url.path() == "/api/public/scores"
}

fn span(span: &Value) -> ArrivedSpan {
    let attribute = |key: &str| {
        let attributes = span["attributes"].as_array().unwrap();
        let attribute = attributes.iter().find(|attribute| attribute["key"] == key)?;
        Some(attribute["value"]["stringValue"].as_str().unwrap().to_owned())
    };
    let details = |key: &str| attribute(key).map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let usage = details("langfuse.observation.usage_details").map(|usage| Usage {
        input_tokens: (usage["input"].as_u64().unwrap() + usage["input_cached_tokens"].as_u64().unwrap()).cast_signed(),
        cached_input_tokens: usage["input_cached_tokens"].as_i64().unwrap(),
        output_tokens: usage["output"].as_i64().unwrap(),
        cost_usd: details("langfuse.observation.cost_details").and_then(|cost| cost["total"].as_f64()),
    });
    let time = |field: &str| span[field].as_str().unwrap().parse().unwrap();
    ArrivedSpan {
        trace_id: span["traceId"].as_str().unwrap().to_owned(),
        span_id: span["spanId"].as_str().unwrap().to_owned(),
        parent_span_id: span["parentSpanId"].as_str().map(str::to_owned),
        start: time("startTimeUnixNano"),
        end: time("endTimeUnixNano"),
        is_error: attribute("langfuse.observation.level").is_some_and(|level| level == "ERROR"),
        usage,
    }
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

#[test]
fn the_contract_refuses_what_it_should() {
    assert!(!SCORE.is_valid(&json!({"name": "a"})), "a score needs a value");
    assert!(!SCORE.is_valid(&json!({"name": "a", "value": 1, "dataType": "PERCENT"})));
    assert!(!SPANS.is_valid(&json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 7}]}]}]})));
}
