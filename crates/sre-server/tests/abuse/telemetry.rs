//! Telemetry that would lose, change or end that of others.

use http::StatusCode;
use serde_json::{Value, json};

use crate::attacked::Attacked;
use crate::bodies::gzip;
use crate::honest::{Honest, finished, now};

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

async fn send_span(service: &Attacked, trace: u32, is_root: bool, end: f64) {
    let status = service.post("/v1/traces", "application/json", span(trace, is_root, end)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_of_a_gzip_body_counts() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    for round in 1..=20 {
        let members = [gzip(finished("members").as_bytes()), gzip(finished("members").as_bytes())].concat();
        assert_eq!(service.post("/v1/events/sre", "", members.clone()).await, StatusCode::OK);
        let with_garbage = [members, b"garbage".to_vec()].concat();
        assert_eq!(service.post("/v1/events/sre", "", with_garbage).await, StatusCode::BAD_REQUEST);
        service.until_tasks("members", 2 * round, 0).await;
    }
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_ends_no_task_of_another_agent() {
    let mut service = Attacked::start("task_timeout: 4m\n").await;
    let honest = Honest::beside(&service).await;
    let of_tasks = |kind: &str| (0..10).map(|task| event(kind, now(), "healthy", task)).collect::<String>();
    assert_eq!(service.post("/v1/events/sre", "", of_tasks("task_started")).await, StatusCode::OK);
    for _ in 0..20 {
        let ahead = event("heartbeat", now() + 295.0, "ahead", 0);
        assert_eq!(service.post("/v1/events/sre", "", ahead).await, StatusCode::OK);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(service.post("/v1/events/sre", "", of_tasks("task_finished")).await, StatusCode::OK);
    service.until_tasks("healthy", 10, 0).await;
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_traces_counts_as_it_ended() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    let old = now() - 3.0 * 3_600.0;
    for trace in 0..20 {
        send_span(&service, trace, false, old).await;
        send_span(&service, 1_000 + trace, true, now()).await;
        send_span(&service, trace, true, old).await;
    }
    service.until_tasks("support", 40, 0).await;
    assert_eq!(service.agent("checkout").await, Value::Null, "nothing counts under the name of the service");
    honest.ends_unharmed(&mut service).await;
}

/// What cannot be is rejected record by record, and leaves no mark on the totals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_and_ids_that_cannot_be_are_rejected() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    let call = |fields: &str| {
        let time = now();
        format!(
            "{{\"event\":\"llm_call\",\"time\":{time:.3},\"agent\":\"greedy\",\"model\":\"m\",\"success\":true,{fields}}}\n"
        )
    };
    for fields in ["\"input_tokens\":18446744073709551615", "\"cost_usd\":\"9200000000\"", "\"cost_usd\":1e308"] {
        let status = service.post("/v1/events/sre", "", call(fields)).await;
        assert!(status.is_success() || status == StatusCode::BAD_REQUEST, "{fields}: {status}");
    }
    let zeros = span(0, true, now()).replace(&format!("{:032x}", 1), &"0".repeat(32));
    assert_eq!(service.post("/v1/traces", "application/json", zeros).await, StatusCode::OK);
    for (path, body, expected) in [
        ("/v1/metrics", "[null,null]", StatusCode::BAD_REQUEST),
        ("/v1/traces", "{}", StatusCode::OK),
        ("/v1/logs", "{}", StatusCode::OK),
    ] {
        assert_eq!(service.post(path, "application/json", body).await, expected, "{path} {body}");
    }
    let (_, costs) = service.get("/v1/costs").await.expect("an answer");
    let costs = String::from_utf8_lossy(&costs);
    assert!(!costs.contains("18446744073709551615") && !costs.contains("9200000000"), "{costs}");
    let (_, text) = service.get("/metrics").await.expect("an answer");
    let text = String::from_utf8_lossy(&text);
    let rejected = text.lines().find_map(|line| line.strip_prefix("sre_server_rejected_total ")?.parse::<u32>().ok());
    assert!(rejected.is_some_and(|rejected| rejected >= 4), "{rejected:?}");
    honest.ends_unharmed(&mut service).await;
}
