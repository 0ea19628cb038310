//! The conformance suite of exporters. Every request is validated against Datadog's published API.

mod contract;

use std::sync::Arc;

use serde_json::{Value, json};
use sre_core::{Exporter, Secret};
use sre_exporter_datadog::{DatadogExporter, DatadogSettings, InitialCounts};
use sre_testkit::conformance::{self, Arrived, Backend, SECRET};
use wiremock::{Request, ResponseTemplate};

struct Datadog;

impl Backend for Datadog {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = DatadogSettings::new(Secret::new(secret));
        let settings = DatadogSettings {
            url: Some(url.to_owned()),
            env: Some("suite".to_owned()),
            tags: vec!["team:Support!".to_owned()],
            // The suite's counters have counted before the first batch.
            initial_counts: InitialCounts::Keep,
            ..settings
        };
        Arc::new(DatadogExporter::new(settings).unwrap())
    }

    fn success(&self, _request: &Request) -> ResponseTemplate {
        ResponseTemplate::new(202).set_body_json(json!({"errors": [], "status": "ok"}))
    }

    fn refuses_one(&self, _request: &Request) -> Option<ResponseTemplate> {
        Some(ResponseTemplate::new(202).set_body_json(json!({"errors": ["too many tags"]})))
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        assert_eq!(request.headers["dd-api-key"], SECRET);
        let body: Value = serde_json::from_slice(&contract::body(&request.headers, &request.body)).unwrap();
        assert!(!body.to_string().contains(SECRET), "a secret in a body");
        contract::check(request.url.path(), &request.headers["content-type"], &body);
    }

    fn read(&self, request: &Request) -> Arrived {
        let body: Value = serde_json::from_slice(&contract::body(&request.headers, &request.body)).unwrap();
        let mut arrived = Arrived::default();
        for series in body["series"].as_array().into_iter().flatten() {
            let name = series["metric"].as_str().unwrap();
            for point in series["points"].as_array().unwrap() {
                if let Some(value) = point["value"].as_f64() {
                    arrived.metrics.push((name.to_owned(), value));
                }
            }
        }
        arrived
    }

    /// Datadog aggregates single events: `tests/requests.rs` checks what arrives.
    fn has_spans(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn datadog_conforms() {
    conformance::exporter(Datadog).await;
}
