//! The conformance suite of exporters. Every request is held to the recorded protocol.

mod server;

use std::sync::Arc;

use sre_core::{Exporter, Secret};
use sre_exporter_wandb::{WandbExporter, WandbSettings};
use sre_testkit::conformance::{self, Arrived, Backend, SECRET};
use wiremock::{Request, ResponseTemplate};

struct Wandb;

impl Backend for Wandb {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = WandbSettings::new(Secret::new(secret), "team");
        Arc::new(WandbExporter::new(WandbSettings { url: url.to_owned(), ..settings }).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        server::success(request)
    }

    fn is_lookup(&self, request: &Request) -> bool {
        server::operation(request).as_deref() == Some("UpsertBucket")
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.method.as_str(), "POST");
        // The basic authentication of the user `api`.
        assert!(request.headers["authorization"].to_str().unwrap().starts_with("Basic YXBpO"));
        assert!(!String::from_utf8_lossy(&request.body).contains(SECRET), "a secret in a body");
        server::check(request);
    }

    fn read(&self, request: &Request) -> Arrived {
        let rows = server::history(request).into_iter().flat_map(|(_, rows)| rows);
        let metrics = rows.flat_map(|row| row.as_object().unwrap().clone());
        let metrics = metrics.filter_map(|(name, value)| Some((name, value.as_f64()?))).collect();
        Arrived { metrics, ..Arrived::default() }
    }

    fn has_spans(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn wandb_conforms() {
    conformance::exporter(Wandb).await;
}
