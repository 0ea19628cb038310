//! Datadog's published API of version 1, and what its own client sends to that of version 2.

use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use http::HeaderMap;
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

static DISTRIBUTIONS: LazyLock<Validator> = LazyLock::new(|| schema("DistributionPointsPayload"));
static CHECKS: LazyLock<Validator> = LazyLock::new(|| schema("ServiceChecks"));
static EVENT: LazyLock<Validator> = LazyLock::new(|| schema("EventCreateRequest"));
static SLO: LazyLock<Validator> = LazyLock::new(|| schema("ServiceLevelObjectiveRequest"));

/// The fields of a series in version 2, as Datadog's client writes them.
static SERIES: LazyLock<Validator> = LazyLock::new(|| {
    let text = json!({"type": "string", "minLength": 1});
    let point = json!({
        "type": "object", "required": ["timestamp", "value"], "additionalProperties": false,
        "properties": {"timestamp": {"type": "integer"}, "value": {"type": "number"}},
    });
    let resource = json!({
        "type": "object", "required": ["name", "type"], "additionalProperties": false,
        "properties": {"name": text, "type": {"const": "host"}},
    });
    let series = json!({
        "type": "object", "required": ["metric", "points"], "additionalProperties": false,
        "properties": {
            "metric": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.]{0,199}$"},
            "type": {"enum": [1, 3]},
            "points": {"type": "array", "minItems": 1, "items": point},
            "tags": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 200}},
            "interval": {"type": "integer", "minimum": 1},
            "unit": text,
            "resources": {"type": "array", "items": resource},
        },
        "if": {"properties": {"type": {"const": 1}}}, "then": {"required": ["interval"]},
    });
    let payload = json!({
        "type": "object", "required": ["series"], "additionalProperties": false,
        "properties": {"series": {"type": "array", "minItems": 1, "items": series}},
    });
    jsonschema::options().with_draft(Draft::Draft7).build(&payload).unwrap()
});

/// Returns a body, decompressed.
pub(crate) fn body(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match headers.get("content-encoding") {
        Some(_) => drop(GzDecoder::new(body).read_to_end(&mut text).unwrap()),
        None => text.extend_from_slice(body),
    }
    text
}

fn schema(name: &str) -> Validator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/contracts/datadog.v1.json");
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    document["$ref"] = format!("#/components/schemas/{name}").into();
    jsonschema::options().with_draft(Draft::Draft7).build(&document).unwrap()
}

/// Panics if a request violates the contract.
pub(crate) fn check(path: &str, media_type: impl PartialEq<&'static str> + std::fmt::Debug, body: &Value) {
    let (validator, expected): (&Validator, _) = match path {
        "/api/v2/series" => (&SERIES, "application/json"),
        "/api/v1/distribution_points" => (&DISTRIBUTIONS, "text/json"),
        "/api/v1/check_run" => (&CHECKS, "application/json"),
        "/api/v1/events" => (&EVENT, "application/json"),
        path if path.starts_with("/api/v1/slo") => (&SLO, "application/json"),
        path => panic!("no such endpoint: {path}"),
    };
    assert!(media_type == expected, "{path}: {media_type:?}");
    let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?} in {body:#}");
}

#[test]
fn the_contract_refuses_what_it_should() {
    assert!(!EVENT.is_valid(&json!({"title": "a"})), "an event needs a text");
    assert!(!EVENT.is_valid(&json!({"title": "a", "text": "b", "alert_type": "bad"})));
    assert!(!CHECKS.is_valid(&json!([{"check": "a", "status": 4, "tags": [], "host_name": "h"}])));
    assert!(!DISTRIBUTIONS.is_valid(&json!({"series": [{"points": []}]})), "a distribution needs a name");
    assert!(!SLO.is_valid(&json!({"name": "a", "type": "metric"})), "an SLO needs thresholds");
    let point = json!({"timestamp": 1, "value": 1});
    assert!(!SERIES.is_valid(&json!({"series": [{"metric": "a", "type": 1, "points": [point]}]})), "no interval");
}
