//! A server in the place of every backend. It accepts everything, and answers look-ups.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// Starts the server. Each backend is below the name of its type.
pub(crate) async fn start() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(respond).mount(&server).await;
    server
}

/// Returns a block of `sre.yaml` with an exporter of each type.
pub(crate) fn settings(url: &str) -> String {
    let own = |kind: &str| match kind {
        "langfuse" => json!({"public_key": "pk", "secret_key": "sk"}),
        "wandb" => json!({"api_key": "k", "entity": "team"}),
        "agentops" => json!({"api_key": "k", "otlp_url": format!("{url}/agentops")}),
        "langsmith" | "braintrust" | "datadog" | "helicone" => json!({"api_key": "k"}),
        _ => json!({}),
    };
    let exporter = |kind: &str| {
        let mut settings = own(kind);
        settings["type"] = kind.into();
        settings["url"] = format!("{url}/{kind}").into();
        settings
    };
    json!({"exporters": agent_sre::exporter_types().map(exporter).collect::<Vec<Value>>()}).to_string()
}

/// Returns the types of the backends that were sent something.
pub(crate) async fn reached(server: &MockServer) -> BTreeSet<String> {
    let requests = server.received_requests().await.unwrap();
    requests.iter().map(|request| request.url.path().split('/').nth(1).unwrap().to_owned()).collect()
}

fn respond(request: &Request) -> ResponseTemplate {
    let ok = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let path = request.url.path();
    match path.rsplit('/').next().unwrap_or_default() {
        // Their responses are protobuf.
        "traces" | "metrics" => ResponseTemplate::new(200),
        "token" => ok(json!({"token": "jwt"})),
        "project" | "experiment" => ok(json!({"id": "00000000-0000-0000-0000-000000000002"})),
        "get-by-name" => ok(json!({"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}})),
        "create" => ok(json!({"run": {"info": {"run_id": "r"}}})),
        "sessions" if request.method == "GET" => ok(json!([{"id": "s"}])),
        "graphql" => ok(json!({"data": {"upsertBucket": {"bucket": {"historyLineCount": 0}}}})),
        // No assessment exists before it is created.
        name if path.contains("/mlflow/") && name.starts_with("a-") => ResponseTemplate::new(404),
        _ => ok(json!({})),
    }
}
