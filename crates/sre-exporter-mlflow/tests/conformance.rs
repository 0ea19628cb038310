//! The conformance suite of exporters. Requests are held to what MLflow's server accepts.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{Exporter, Secret};
use sre_exporter_mlflow::{Credentials, MlflowExporter, MlflowSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use sre_testkit::otlp;
use wiremock::{Request, ResponseTemplate};

struct Mlflow;

impl Backend for Mlflow {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let credentials = Some(Credentials::Token(Secret::new(secret)));
        let settings = MlflowSettings { experiment: "süite".to_owned(), credentials, ..MlflowSettings::new(url) };
        Arc::new(MlflowExporter::new(settings).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        let run = json!({"info": {"run_id": "r1", "start_time": 1_789_999_000_000_i64, "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}});
        match request.url.path() {
            "/api/2.0/mlflow/experiments/get-by-name" => {
                let error = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"});
                ResponseTemplate::new(404).set_body_json(error)
            }
            "/api/2.0/mlflow/experiments/create" => {
                ResponseTemplate::new(200).set_body_json(json!({"experiment_id": "7"}))
            }
            "/api/2.0/mlflow/runs/search" => ResponseTemplate::new(200).set_body_json(json!({})),
            "/api/2.0/mlflow/runs/create" => ResponseTemplate::new(200).set_body_json(json!({"run": run})),
            // No assessment exists before it is created.
            _ if request.method == "GET" => ResponseTemplate::new(404),
            _ => ResponseTemplate::new(200).set_body_json(json!({})),
        }
    }

    fn refuses_one(&self, request: &Request) -> Option<ResponseTemplate> {
        let error = json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such name"});
        request.url.path().ends_with("/assessments").then(|| ResponseTemplate::new(400).set_body_json(error))
    }

    fn is_lookup(&self, request: &Request) -> bool {
        request.url.path().contains("/experiments/") || matches!(last(request), "search" | "create")
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
        assert!(!String::from_utf8_lossy(&otlp::body(request)).contains(SECRET), "a secret in a body");
        match last(request) {
            "get-by-name" => assert_eq!(request.url.query(), Some("experiment_name=s%C3%BCite")),
            "traces" => assert_eq!(request.headers["x-mlflow-experiment-id"], "7"),
            "log-batch" => check_batch(&json(request)),
            "assessments" => check_assessment(request.url.path(), &json(request)["assessment"]),
            "objective.json" => {
                assert_eq!(request.method.as_str(), "PUT");
                assert_eq!(json(request)["snapshot"], Value::Null, "an objective without its tag");
                assert!(json(request)["name"].is_string());
            }
            path => assert_eq!(request.method == "GET", path.starts_with("a-"), "{}", request.url),
        }
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        match last(request) {
            "traces" => arrived.spans = otlp::spans(request).iter().map(span).collect(),
            "log-batch" => {
                for metric in json(request)["metrics"].as_array().unwrap() {
                    arrived.metrics.push((text(&metric["key"]), metric["value"].as_f64().unwrap()));
                }
            }
            "assessments" => {
                let assessment = &json(request)["assessment"];
                let value = &assessment["feedback"]["value"];
                let value = value.as_f64().unwrap_or_else(|| f64::from(u8::from(value.as_bool().unwrap())));
                let trace = text(&assessment["trace_id"]).strip_prefix("tr-").unwrap().to_owned();
                arrived.scores.push((trace, text(&assessment["assessment_name"]), value));
            }
            _ => {}
        }
        arrived
    }
}

fn last(request: &Request) -> &str {
    request.url.path().rsplit('/').next().unwrap()
}

fn json(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The rules of `mlflow/utils/validation.py`.
fn check_batch(batch: &Value) {
    assert_eq!(batch["run_id"], "r1");
    for (list, limit) in [("metrics", 1_000), ("params", 100), ("tags", 100)] {
        let entries = batch[list].as_array().unwrap();
        assert!(entries.len() <= limit, "{} {list}", entries.len());
        let mut keys = BTreeSet::new();
        for entry in entries {
            let key = entry["key"].as_str().unwrap();
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | '/');
            assert!(key.chars().all(is_allowed) && !key.starts_with('/') && !key.contains("//"), "{key}");
            assert!(keys.insert(key), "{key} twice");
            if list == "metrics" {
                assert!(entry["value"].is_number() && entry["timestamp"].as_i64() > Some(0), "{entry}");
                assert!(entry["step"].as_i64() >= Some(0), "{entry}");
            } else {
                assert!(entry["value"].as_str().unwrap().chars().count() <= 500, "{entry}");
            }
        }
    }
}

/// The fields of `Assessment` in `mlflow/protos/assessments.proto`.
fn check_assessment(path: &str, assessment: &Value) {
    assert_eq!(path, format!("/api/3.0/mlflow/traces/{}/assessments", text(&assessment["trace_id"])));
    let id = text(&assessment["assessment_id"]);
    assert!(id.len() == 34 && id.starts_with("a-"), "{id}");
    assert!((1..=250).contains(&text(&assessment["assessment_name"]).chars().count()));
    assert!(matches!(assessment["source"]["source_type"].as_str(), Some("CODE" | "LLM_JUDGE")));
    assert!(assessment["metadata"].as_object().unwrap().values().all(Value::is_string));
    assert!(text(&assessment["create_time"]).ends_with('Z'));
}

fn span(span: &otlp::Span) -> ArrivedSpan {
    let attribute = |key: &str| otlp::attribute(&span.attributes, key);
    assert!(matches!(
        attribute("mlflow.spanType").unwrap().as_str(),
        Some("AGENT" | "CHAIN" | "CHAT_MODEL" | "TOOL" | "UNKNOWN")
    ));
    let usage = attribute("mlflow.chat.tokenUsage").map(|usage| {
        assert_eq!(usage["total_tokens"].as_i64().unwrap(), sum(&usage, ["input_tokens", "output_tokens"]));
        Usage {
            input_tokens: usage["input_tokens"].as_i64().unwrap(),
            cached_input_tokens: usage["cache_read_input_tokens"].as_i64().unwrap_or_default(),
            output_tokens: usage["output_tokens"].as_i64().unwrap(),
            cost_usd: attribute("mlflow.llm.cost").and_then(|cost| cost["total_cost"].as_f64()),
        }
    });
    ArrivedSpan { usage, ..ArrivedSpan::from_otlp(span) }
}

fn sum(usage: &Value, keys: [&str; 2]) -> i64 {
    keys.iter().map(|key| usage[key].as_i64().unwrap()).sum()
}

#[tokio::test]
async fn mlflow_conforms() {
    conformance::exporter(Mlflow).await;
}
