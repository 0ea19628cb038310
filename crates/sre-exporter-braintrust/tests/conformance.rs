//! The conformance suite of exporters. Every request is validated against Braintrust's published API.

mod contract;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sre_core::{Exporter, Secret, Timestamp};
use sre_exporter_braintrust::{BraintrustExporter, BraintrustSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use wiremock::{Request, ResponseTemplate};

/// Braintrust, with runs as logs or in an experiment.
struct Braintrust {
    experiment: Option<&'static str>,
}

impl Backend for Braintrust {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = BraintrustSettings {
            url: url.to_owned(),
            experiment: self.experiment.map(str::to_owned),
            ..BraintrustSettings::new(Secret::new(secret))
        };
        Arc::new(BraintrustExporter::new(settings).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        contract::success(request)
    }

    fn is_lookup(&self, request: &Request) -> bool {
        matches!(request.url.path(), "/v1/project" | "/v1/experiment")
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        assert_eq!(request.headers["authorization"].to_str().unwrap(), format!("Bearer {SECRET}"));
        assert!(!String::from_utf8_lossy(&request.body).contains(SECRET), "a secret in a body");
        contract::check(request);
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        for row in contract::rows(request) {
            if row["metrics"]["end"].is_number() {
                arrived.spans.push(span(&row));
            }
            for (name, value) in row["scores"].as_object().into_iter().flatten() {
                let (trace, value) = (row["root_span_id"].as_str().unwrap_or_default(), value.as_f64().unwrap());
                if name.starts_with("slo.") {
                    arrived.metrics.push((name.clone(), value));
                } else {
                    arrived.scores.push((trace.to_owned(), name.clone(), value));
                }
            }
        }
        arrived
    }

    fn precision(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn shows_running_tasks(&self) -> bool {
        true
    }
}

fn span(row: &Value) -> ArrivedSpan {
    let text = |field: &str| row[field].as_str().unwrap().to_owned();
    let metrics = &row["metrics"];
    let time = |field: &str| {
        metrics[field].as_f64().map_or(0, |time| Timestamp::from_unix_seconds(time).map_or(0, Timestamp::as_nanos))
    };
    let usage = metrics["prompt_tokens"].as_i64().map(|input_tokens| Usage {
        input_tokens,
        cached_input_tokens: metrics["prompt_cached_tokens"].as_i64().unwrap(),
        output_tokens: metrics["completion_tokens"].as_i64().unwrap(),
        cost_usd: metrics["estimated_cost"].as_f64(),
    });
    ArrivedSpan {
        trace_id: text("root_span_id"),
        span_id: row["metadata"]["otel_span_id"].as_str().map_or_else(|| text("span_id"), str::to_owned),
        parent_span_id: row["span_parents"][0].as_str().map(str::to_owned),
        start: time("start"),
        end: time("end"),
        is_error: row["error"].is_string(),
        usage,
    }
}

#[tokio::test]
async fn braintrust_conforms() {
    conformance::exporter(Braintrust { experiment: None }).await;
}

#[tokio::test]
async fn an_experiment_conforms() {
    conformance::exporter(Braintrust { experiment: Some("nightly") }).await;
}

#[test]
fn the_contract_refuses_what_it_should() {
    assert!(!contract::LOGS.is_valid(&json!({"events": [{"id": "a", "scores": {"x": 1.5}}]})), "a score above 1");
    assert!(!contract::LOGS.is_valid(&json!({"events": [{"id": "a", "metrics": {"x": null}}]})));
    assert!(!contract::LOGS.is_valid(&json!({"rows": []})));
    assert!(contract::LOGS.is_valid(&json!({"events": [{"id": "a", "span_parents": null}]})));
}
