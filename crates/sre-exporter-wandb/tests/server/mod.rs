//! Weights & Biases, as the recording shows it.

use serde_json::{Value, json};
use wiremock::{Request, ResponseTemplate};

/// Returns the body of a request.
pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Returns the name of a GraphQL operation.
pub(crate) fn operation(request: &Request) -> Option<String> {
    let is_graphql = request.url.path() == "/graphql";
    is_graphql.then(|| body(request)["operationName"].as_str().unwrap().to_owned())
}

/// Returns the response of a server that accepts everything, and whose runs have no rows.
pub(crate) fn success(request: &Request) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(match operation(request).as_deref() {
        Some("UpsertBucket") => upserted(0, &json!({})),
        Some(_) => json!({"data": {"notifyScriptableRunAlert": {"success": true}}}),
        None => json!({"exitcode": null, "limits": {}}),
    })
}

/// Returns the response with a run that has rows and a summary.
pub(crate) fn upserted(rows: u64, summary: &Value) -> Value {
    json!({"data": {"upsertBucket": {
        "bucket": {"id": "UnVuOnYx", "name": "run", "historyLineCount": rows, "summaryMetrics": summary.to_string()},
        "inserted": rows == 0,
    }}})
}

/// Returns the offset and the rows that a request adds to a history.
pub(crate) fn history(request: &Request) -> Option<(u64, Vec<Value>)> {
    let body = body(request);
    let file = body["files"].get("wandb-history.jsonl")?;
    let lines = file["content"].as_array().unwrap();
    let rows = lines.iter().map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap()).collect();
    Some((file["offset"].as_u64().unwrap(), rows))
}

/// Returns the summary that a request writes.
pub(crate) fn summary(request: &Request) -> Option<Value> {
    let body = body(request);
    let line = body["files"].get("wandb-summary.json")?["content"][0].as_str().unwrap();
    Some(serde_json::from_str(line).unwrap())
}

/// Panics if a request does not hold to the protocol.
pub(crate) fn check(request: &Request) {
    let body = body(request);
    if let Some(operation) = operation(request) {
        let (query, variables) = (body["query"].as_str().unwrap(), body["variables"].as_object().unwrap());
        assert!(query.starts_with(&format!("mutation {operation}(")), "{query}");
        for name in variables.keys() {
            assert!(query.contains(&format!("${name}:")), "{name} is declared");
        }
        let (entity, project, run) = match &*operation {
            "UpsertBucket" => ("entity", "project", "name"),
            "NotifyScriptableRunAlert" => ("entityName", "projectName", "runName"),
            other => panic!("{other}"),
        };
        assert!([entity, project, run].iter().all(|name| variables[*name].is_string()), "{body:#}");
        if operation == "UpsertBucket" {
            let config: Value = serde_json::from_str(variables["config"].as_str().unwrap()).unwrap();
            assert!(config.as_object().unwrap().values().all(|entry| entry.get("value").is_some()), "{config:#}");
        }
        return;
    }
    let path: Vec<&str> = request.url.path().split('/').collect();
    assert!(matches!(path[..], ["", "files", "team", _, _, "file_stream"]), "{path:?}");
    if let Some((offset, rows)) = history(request) {
        for (step, row) in (offset..).zip(rows) {
            assert_eq!(row["_step"], step, "{row:#}");
            assert!(row["_timestamp"].is_number(), "{row:#}");
            assert!(row.as_object().unwrap().values().all(Value::is_number), "{row:#}");
        }
        assert!(summary(request).is_some(), "a summary with every row");
    }
}
