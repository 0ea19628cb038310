//! Braintrust's published API.

use std::sync::LazyLock;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use wiremock::{Request, ResponseTemplate};

/// The id of every project and experiment.
const ID: &str = "00000000-0000-0000-0000-000000000002";

pub(crate) static LOGS: LazyLock<Validator> = LazyLock::new(|| within("InsertProjectLogsEventRequest"));
static EXPERIMENT: LazyLock<Validator> = LazyLock::new(|| within("InsertExperimentEventRequest"));
static NEW_PROJECT: LazyLock<Validator> = LazyLock::new(|| within("CreateProject"));
static NEW_EXPERIMENT: LazyLock<Validator> = LazyLock::new(|| within("CreateExperiment"));

/// Returns the response of a server that accepts everything.
pub(crate) fn success(request: &Request) -> ResponseTemplate {
    let body = match request.url.path() {
        "/v1/project" => json!({"id": ID, "org_id": ID, "name": "agent-sre"}),
        "/v1/experiment" => json!({"id": ID, "project_id": ID, "name": "nightly", "public": false}),
        _ => json!({"row_ids": rows(request).iter().map(|row| row["id"].clone()).collect::<Vec<_>>()}),
    };
    ResponseTemplate::new(200).set_body_json(body)
}

/// Panics if a request does not hold to the API.
pub(crate) fn check(request: &Request) {
    let path = request.url.path();
    let validator = match path {
        "/v1/project" => &NEW_PROJECT,
        "/v1/experiment" => &NEW_EXPERIMENT,
        _ if path == format!("/v1/project_logs/{ID}/insert") => &LOGS,
        _ if path == format!("/v1/experiment/{ID}/insert") => &EXPERIMENT,
        other => panic!("{other} is not in the API"),
    };
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {body:#}");
}

/// Returns the rows of a request.
pub(crate) fn rows(request: &Request) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["events"].as_array().cloned().unwrap_or_default()
}

/// Returns a validator for a schema of the API.
fn within(schema: &str) -> Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/contracts/braintrust.json");
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    allow_null(&mut document);
    document["$ref"] = format!("#/components/schemas/{schema}").into();
    jsonschema::options().with_draft(Draft::Draft7).build(&document).unwrap()
}

/// Turns OpenAPI's `nullable` into JSON Schema.
fn allow_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(allow_null);
            if fields.remove("nullable") == Some(Value::Bool(true))
                && let Some(of) = fields.get("type").cloned()
            {
                fields.insert("type".to_owned(), json!([of, "null"]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(allow_null),
        _ => {}
    }
}
