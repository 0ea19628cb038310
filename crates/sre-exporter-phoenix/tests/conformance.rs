//! The conformance suite of exporters. Annotations are validated against Phoenix's published API.

use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use serde_json::{Value, json};
use sre_core::{Exporter, Secret};
use sre_exporter_phoenix::{PhoenixExporter, PhoenixSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use sre_testkit::otlp;
use wiremock::{Request, ResponseTemplate};

struct Phoenix;

impl Backend for Phoenix {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = PhoenixSettings { api_key: Some(Secret::new(secret)), ..PhoenixSettings::new(url) };
        Arc::new(PhoenixExporter::new(PhoenixSettings { project: "süite".to_owned(), ..settings }).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        if is_annotations(request) {
            ResponseTemplate::new(200).set_body_json(json!({"data": []}))
        } else {
            ResponseTemplate::new(200)
        }
    }

    fn refuses_one(&self, request: &Request) -> Option<ResponseTemplate> {
        let error = json!({"detail": [{"loc": ["body", "data", 0], "msg": "invalid", "type": "value_error"}]});
        let is_of_event = is_annotations(request) && request.url.query() == Some("sync=true");
        is_of_event.then(|| ResponseTemplate::new(422).set_body_json(error))
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
        assert!(!String::from_utf8_lossy(&otlp::body(request)).contains(SECRET), "a secret in a body");
        match request.url.path() {
            "/v1/span_annotations" => holds(&OF_SPANS, &body(request)),
            "/v1/trace_annotations" => holds(&OF_TRACES, &body(request)),
            path => {
                assert_eq!(path, "/v1/traces");
                let spans = otlp::trace_request(request);
                let resource = spans.resource_spans[0].resource.as_ref().unwrap();
                assert_eq!(otlp::attribute(&resource.attributes, "openinference.project.name").unwrap(), "süite");
            }
        }
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        if !is_annotations(request) {
            arrived.spans = otlp::spans(request).iter().map(span).collect();
            return arrived;
        }
        for annotation in body(request)["data"].as_array().unwrap() {
            let name = annotation["name"].as_str().unwrap().to_owned();
            let score = annotation["result"]["score"].as_f64();
            if name.starts_with("slo.") {
                arrived.metrics.push((name, score.unwrap_or(-1.0)));
            } else {
                let target = annotation.get("trace_id").unwrap_or(&annotation["span_id"]);
                // Without a number, it has the label.
                arrived.scores.push((target.as_str().unwrap().to_owned(), name, score.unwrap_or(f64::NAN)));
            }
        }
        arrived
    }
}

fn is_annotations(request: &Request) -> bool {
    request.url.path().ends_with("_annotations")
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn span(span: &otlp::Span) -> ArrivedSpan {
    let attribute = |key: &str| otlp::attribute(&span.attributes, key);
    let kind = attribute("openinference.span.kind").unwrap();
    assert!(matches!(kind.as_str(), Some("AGENT" | "CHAIN" | "LLM" | "TOOL" | "EVALUATOR" | "GUARDRAIL")), "{kind}");
    let tokens = |key: &str| attribute(&format!("llm.token_count.{key}")).unwrap().as_i64().unwrap();
    let usage = (kind == "LLM").then(|| {
        assert_eq!(tokens("total"), tokens("prompt") + tokens("completion"));
        Usage {
            input_tokens: tokens("prompt"),
            cached_input_tokens: tokens("prompt_details.cache_read"),
            output_tokens: tokens("completion"),
            cost_usd: attribute("llm.cost.total").map(|cost| cost.as_f64().unwrap()),
        }
    });
    ArrivedSpan { usage, ..ArrivedSpan::from_otlp(span) }
}

static OF_SPANS: LazyLock<Validator> = LazyLock::new(|| schema("AnnotateSpansRequestBody"));
static OF_TRACES: LazyLock<Validator> = LazyLock::new(|| schema("AnnotateTracesRequestBody"));

/// Returns a validator for a schema of the contract. Fields that it does not name are refused.
fn schema(name: &str) -> Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/contracts/phoenix.json");
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    document["$ref"] = format!("#/components/schemas/{name}").into();
    for part in ["SpanAnnotationData", "TraceAnnotationData", "AnnotationResult"] {
        document["components"]["schemas"][part]["additionalProperties"] = false.into();
    }
    jsonschema::validator_for(&document).unwrap()
}

fn holds(validator: &Validator, body: &Value) {
    let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {body:#}");
}

#[tokio::test]
async fn phoenix_conforms() {
    conformance::exporter(Phoenix).await;
}

#[test]
fn the_contract_refuses_what_it_should() {
    let annotation = |kind: &str| json!({"data": [{"name": "a", "span_id": "b", "annotator_kind": kind}]});
    assert!(OF_SPANS.is_valid(&annotation("CODE")));
    assert!(!OF_SPANS.is_valid(&annotation("SELF")));
    assert!(!OF_TRACES.is_valid(&annotation("CODE")), "a trace needs its id");
}
