//! Requests that Schemathesis generates from the OpenAPI document, valid and invalid ones, are answered as it says.

mod common;

use std::path::Path;

use common::{BUSY, Service, own_slos, tasks};
use sre_testkit::outside;

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_requests_are_answered_as_the_document_says() {
    let test = "generated_requests_are_answered_as_the_document_says";
    let Some(mut python) = outside::python_with("schemathesis", test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    service.events(&tasks("a", 40, 10)).await;
    python.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()", "--config-file"]);
    python.arg(Path::new(SETTINGS).join("schemathesis.toml"));
    python.args(["run", &format!("{}/openapi.json", service.server.url()), "--no-color", "--seed", "1"]);
    python.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "50", "--max-time", "30"]);
    python.args(["--request-timeout", "10"]);
    python.current_dir(folder.path()).env("PYTHONPATH", SETTINGS).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let is_tested = printed.contains("Tested: ") && !printed.contains("Tested: 0");
    assert!(output.status.success() && is_tested, "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(service.get_raw("/readyz").await.status(), 200);
    service.server.stop().await;
}
