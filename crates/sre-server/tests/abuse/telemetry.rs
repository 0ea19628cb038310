//! Telemetry that would lose, change or end that of others.

use http::StatusCode;
use serde_json::{Value, json};

use crate::attacked::Attacked;
use crate::bodies::gzip;
use crate::normal_client::{NormalClient, finished, now};

/// Returns an event of the task with this number.
fn event(kind: &str, time: f64, agent: &str, task: u32) -> String {
    let success = if kind == "task_finished" { ",\"success\":true" } else { "" };
    format!("{{\"event\":\"{kind}\",\"time\":{time:.3},\"agent\":\"{agent}\",\"task\":\"{task}\"{success}}}\n")
}

/// Returns a request with one span that ended at a time: a run of `support` or, as its child, a tool call.
fn span(trace: u32, is_root: bool, end: f64) -> String {
    let nanos = |seconds: f64| format!("{}000000000", seconds as u64);
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let operation = if is_root { "invoke_agent" } else { "execute_tool" };
    let mut span = json!({
        "traceId": format!("{:032x}", trace + 1), "spanId": format!("{:016x}", if is_root { 1 } else { 2 }), "name": operation,
        "startTimeUnixNano": nanos(end - 5.0), "endTimeUnixNano": nanos(end),
        "attributes": [
            attribute("gen_ai.operation.name", operation),
            attribute("gen_ai.agent.name", "support"),
            attribute("gen_ai.tool.name", "search"),
        ],
    });
    if !is_root {
        span["parentSpanId"] = "0000000000000001".into();
    }
    let resource = json!({"attributes": [attribute("service.name", "checkout")]});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}).to_string()
}

/// Returns a request with the spans of others, in another order.
fn joined(requests: &[String]) -> String {
    let spans =
        |request: &String| -> Value { serde_json::from_str::<Value>(request).unwrap()["resourceSpans"][0].take() };
    json!({"resourceSpans": requests.iter().rev().map(spans).collect::<Vec<_>>()}).to_string()
}

async fn send_span(service: &Attacked, trace: u32, is_root: bool, end: f64) {
    let status = service.post("/v1/traces", "application/json", span(trace, is_root, end)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_of_a_gzip_body_counts() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    for round in 1..=20 {
        let members = [gzip(finished("members").as_bytes()), gzip(finished("members").as_bytes())].concat();
        assert_eq!(service.post("/v1/events/sre", "", members.clone()).await, StatusCode::OK);
        let with_garbage = [members, b"garbage".to_vec()].concat();
        assert_eq!(service.post("/v1/events/sre", "", with_garbage).await, StatusCode::BAD_REQUEST);
        service.until_tasks("members", 2 * round, 0).await;
    }
    client.finishes_within_bounds(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_ends_no_task_of_another_agent() {
    let mut service = Attacked::start("task_timeout: 4m\n").await;
    let client = NormalClient::start_beside(&service).await;
    let of_tasks = |kind: &str| (0..10).map(|task| event(kind, now(), "healthy", task)).collect::<String>();
    assert_eq!(service.post("/v1/events/sre", "", of_tasks("task_started")).await, StatusCode::OK);
    for _ in 0..20 {
        let ahead = event("heartbeat", now() + 295.0, "ahead", 0);
        assert_eq!(service.post("/v1/events/sre", "", ahead).await, StatusCode::OK);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(service.post("/v1/events/sre", "", of_tasks("task_finished")).await, StatusCode::OK);
    service.until_tasks("healthy", 10, 0).await;
    client.finishes_within_bounds(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_traces_counts_as_it_ended() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    let old = now() - 3.0 * 3_600.0;
    for trace in 0..20 {
        send_span(&service, trace, false, old).await;
        send_span(&service, 1_000 + trace, true, now()).await;
        send_span(&service, trace, true, old).await;
    }
    service.until_tasks("support", 40, 0).await;
    assert_eq!(service.agent("checkout").await, Value::Null, "nothing counts under the name of the service");
    client.finishes_within_bounds(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_is_sent_again_after_it_has_settled_counts_once() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    let spans = |trace| [span(trace, false, now()), span(trace, true, now())];
    let mut sent = spans(0).to_vec();
    assert_eq!(service.post("/v1/traces", "application/json", joined(&sent)).await, StatusCode::OK);
    service.until_tasks("support", 1, 0).await;
    // In other bodies, so that the service does not recognise them as the same requests.
    for trace in 1..4 {
        sent.extend(spans(trace));
        assert_eq!(service.post("/v1/traces", "application/json", joined(&sent)).await, StatusCode::OK);
        service.until_tasks("support", 1 + u64::from(trace), 0).await;
    }
    client.finishes_within_bounds(&mut service).await;
    service.restart();
    service.until_ready().await;
    sent.extend(spans(4));
    assert_eq!(service.post("/v1/traces", "application/json", joined(&sent)).await, StatusCode::OK);
    service.until_tasks("support", 5, 0).await;
    assert_eq!(service.agent("support").await["tool_calls"], 5);
    service.until_tasks("normal", service.counted, 0).await;
}

/// Invalid numbers and ids are rejected record by record, and leave no mark on the totals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_numbers_and_ids_are_rejected_and_counted() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    let line = |fields: &str| format!("{{\"time\":{:.3},\"agent\":\"greedy\",{fields}}}\n", now());
    let mut rejected = 0.0;
    for fields in [
        r#""event":"llm_call","model":"m","input_tokens":18446744073709551615"#,
        r#""event":"llm_call","model":"m","cost_usd":"9200000000""#,
        r#""event":"llm_call","model":"m","cost_usd":1e308"#,
        r#""event":"handoff","from":"a","to":"b","depth":4294967295"#,
    ] {
        let status = service.post("/v1/events/sre", "", line(fields)).await;
        assert!(status.is_success() || status == StatusCode::BAD_REQUEST, "{fields}: {status}");
        rejected += 1.0;
    }
    let valid = span(0, true, now());
    let run = json!({"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}).to_string();
    for (found, invalid) in [
        (format!("{:032x}", 1), "0".repeat(32)),
        (format!("{:016x}", 1), "0".repeat(16)),
        (run.clone(), call_of(json!("NaN"))),
        (run.clone(), call_of(json!("Infinity"))),
        (run, call_of(json!(1e308))),
    ] {
        let body = valid.replacen(&found, &invalid, 1);
        assert_ne!(body, valid);
        assert_eq!(service.post("/v1/traces", "application/json", body).await, StatusCode::OK, "{invalid}");
        rejected += 1.0;
    }
    assert_eq!(service.metric("sre_server_rejected_records_total ").await, rejected);
    let (_, costs) = service.get("/v1/costs").await.expect("an answer");
    let costs = String::from_utf8_lossy(&costs);
    assert!(!costs.contains("18446744073709551615") && !costs.contains("9200000000"), "{costs}");
    client.finishes_within_bounds(&mut service).await;
}

/// Returns the attributes of a model call of a cost.
fn call_of(dollars: Value) -> String {
    let call = json!({"key": "openinference.span.kind", "value": {"stringValue": "LLM"}});
    format!("{call},{}", json!({"key": "llm.cost.total", "value": {"doubleValue": dollars}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_requests_are_refused_in_json() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    for (path, body, expected) in [
        ("/v1/traces", "{}", StatusCode::OK),
        ("/v1/logs", "{}", StatusCode::OK),
        ("/v1/metrics", "[null,null]", StatusCode::BAD_REQUEST),
        ("/v1/gate", "[", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(service.post(path, "application/json", body).await, expected, "{path} {body}");
    }
    for path in ["/v1/alerts?limit=1001", "/v1/alerts?limit=x", "/v1/slos/answers%FF"] {
        let (status, body) = service.get(path).await.expect("an answer");
        let error = serde_json::from_slice::<Value>(&body).ok().and_then(|body| body["error"].as_str().map(str::len));
        assert!(status == StatusCode::BAD_REQUEST && error > Some(0), "{path}: {status} {body:?}");
    }
    for header in [&b"Host: \xe9vil.example"[..], b"Host: localhost\r\nOrigin: http://\xff", b"Host: evil.example"] {
        let request = [b"GET /v1/slos HTTP/1.1\r\nConnection: close\r\n", header, b"\r\n\r\n"].concat();
        let answer = service.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{}: {answer}", String::from_utf8_lossy(header));
    }
    client.finishes_within_bounds(&mut service).await;
}
