//! The conformance suite of exporters. Every request is read as LangSmith reads it.

mod form;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sre_core::{Exporter, Secret, Timestamp};
use sre_exporter_langsmith::{LangSmithExporter, LangSmithSettings};
use sre_testkit::conformance::{self, Arrived, ArrivedSpan, Backend, SECRET, Usage};
use sre_testkit::otlp;
use wiremock::{Request, ResponseTemplate};

struct LangSmith;

const SESSION: &str = "b9825b9a-aaad-4896-9b8d-c289030d3b03";

impl Backend for LangSmith {
    fn exporter(&self, url: &str, secret: &str) -> Arc<dyn Exporter> {
        let settings = LangSmithSettings::new(Secret::new(secret));
        Arc::new(LangSmithExporter::new(LangSmithSettings { url: url.to_owned(), ..settings }).unwrap())
    }

    fn success(&self, request: &Request) -> ResponseTemplate {
        match request.url.path() {
            "/info" => ResponseTemplate::new(200).set_body_json(json!({
                "version": "0.13.4",
                "instance_flags": {"gzip_body_enabled": true, "zstd_compression_enabled": true},
                "batch_ingest_config": {"use_multipart_endpoint": true, "size_limit_bytes": 20_971_520},
            })),
            "/sessions" => ResponseTemplate::new(200).set_body_json(json!([{"id": SESSION, "name": "agent-sre"}])),
            _ => ResponseTemplate::new(202).set_body_json(json!({})),
        }
    }

    fn check(&self, request: &Request) {
        assert_eq!(request.headers["x-api-key"].to_str().unwrap(), SECRET);
        if request.method.as_str() == "GET" {
            assert!(matches!(request.url.path(), "/info" | "/sessions"), "{}", request.url);
            return;
        }
        assert_eq!((request.method.as_str(), request.url.path()), ("POST", "/runs/multipart"));
        assert!(!String::from_utf8_lossy(&otlp::body(request)).contains(SECRET), "a secret in a body");
        for (operation, record) in form::records(request) {
            match &*operation {
                "feedback" => check_feedback(&record),
                "post" | "patch" => check_run(&record),
                other => panic!("{other}"),
            }
        }
    }

    fn read(&self, request: &Request) -> Arrived {
        let mut arrived = Arrived::default();
        if request.url.path() != "/runs/multipart" {
            return arrived;
        }
        for (operation, record) in form::records(request) {
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            if operation != "feedback" {
                arrived.spans.extend(record["end_time"].is_string().then(|| span(&record)));
                continue;
            }
            let score = record["score"].as_f64().or(record["score"].as_bool().map(|yes| f64::from(u8::from(yes))));
            match (text("key").starts_with("slo."), score) {
                (true, score) => arrived.metrics.push((text("key"), score.unwrap_or(-1.0))),
                (false, score) => {
                    let trace = text("trace_id").replace('-', "");
                    arrived.scores.push((trace, text("key"), score.unwrap()));
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

/// What LangSmith requires of a run.
fn check_run(run: &Value) {
    let text = |field: &str| run[field].as_str().unwrap_or_else(|| panic!("{field} of {run:#}"));
    for field in ["id", "trace_id"] {
        assert_eq!(text(field).len(), 36, "{run:#}");
    }
    assert!(matches!(text("run_type"), "chain" | "llm" | "tool") && !text("session_name").is_empty(), "{run:#}");
    assert!(run["extra"]["metadata"].is_object() && run["name"].is_string(), "{run:#}");
    let levels: Vec<(&str, &str)> =
        text("dotted_order").split('.').map(|level| level.split_once('Z').expect("time and id")).collect();
    assert!(levels.iter().all(|(time, _)| time.len() == 21 && time.as_bytes()[8] == b'T'), "{run:#}");
    assert!(levels.is_sorted_by_key(|(time, _)| *time), "a run is not before its parent: {run:#}");
    assert_eq!(levels.first().unwrap().1, text("trace_id"));
    assert_eq!(levels.last().unwrap().1, text("id"));
    let parent = levels.len().checked_sub(2).map(|place| levels[place].1);
    assert_eq!(run.get("parent_run_id").map(|id| id.as_str().unwrap()), parent);
    if let (Some(parent), Some(span)) = (parent, run["extra"]["metadata"]["otel_parent_span_id"].as_str()) {
        assert!(parent == text("trace_id") || parent.replace('-', "").ends_with(span), "{run:#}");
    }
}

fn check_feedback(feedback: &Value) {
    for field in ["id", "run_id", "trace_id", "session_id"] {
        assert_eq!(feedback[field].as_str().map(str::len), Some(36), "{field} of {feedback:#}");
    }
    assert!(feedback["key"].as_str().is_some_and(|key| !key.is_empty()), "{feedback:#}");
    assert!(feedback["score"].is_number() || feedback["score"].is_boolean() || feedback["value"].is_string());
    assert_eq!(feedback["feedback_source"]["type"], "api");
}

fn span(run: &Value) -> ArrivedSpan {
    let metadata = &run["extra"]["metadata"];
    let time = |field: &str| run[field].as_str().unwrap().parse::<Timestamp>().map_or(0, Timestamp::as_nanos);
    let usage = run["outputs"].get("usage_metadata").map(|usage| Usage {
        input_tokens: usage["input_tokens"].as_i64().unwrap(),
        cached_input_tokens: usage["input_token_details"]["cache_read"].as_i64().unwrap(),
        output_tokens: usage["output_tokens"].as_i64().unwrap(),
        cost_usd: usage["total_cost"].as_f64(),
    });
    ArrivedSpan {
        trace_id: run["trace_id"].as_str().unwrap().replace('-', ""),
        span_id: metadata["otel_span_id"].as_str().unwrap_or_default().to_owned(),
        parent_span_id: run["parent_run_id"].as_str().map(|_| {
            let parent = metadata["otel_parent_span_id"].as_str();
            parent.unwrap_or_else(|| panic!("{run:#}")).to_owned()
        }),
        start: time("start_time"),
        end: time("end_time"),
        is_error: run["error"].is_string(),
        usage,
    }
}

#[tokio::test]
async fn langsmith_conforms() {
    conformance::exporter(LangSmith).await;
}
