//! Bodies of requests: gzip, what OTLP allows, and clients that hold memory or send nothing.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Service, config, finished};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use sre_server::{Config, ServerLimits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

async fn send_gzip(service: &Service, path: &str, kind: &str, body: Vec<u8>) -> Response<Bytes> {
    service.send(service.request(path, kind).header("content-encoding", "gzip"), body).await
}

/// Returns a request with one trace of an agent's task.
fn trace(number: u32) -> Value {
    trace_with(number, &json!([]))
}

fn trace_with(number: u32, more: &Value) -> Value {
    let mut attributes = vec![
        json!({"key": "openinference.span.kind", "value": {"stringValue": "LLM"}}),
        json!({"key": "gen_ai.agent.name", "value": {"stringValue": "a"}}),
    ];
    attributes.extend(more.as_array().unwrap().iter().cloned());
    let span = json!({
        "traceId": format!("{number:032x}"), "spanId": format!("{number:016x}"), "name": "n",
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001000000000", "attributes": attributes,
    });
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
}

#[tokio::test]
async fn every_member_of_a_gzip_body_counts_and_garbage_behind_them_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let member = |task| gzip(finished("a", task, true).as_bytes());
    let three = [member(1), member(2), member(3)].concat();
    let response = send_gzip(&service, "/v1/events/sre", LINES, three.clone()).await;
    let report: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((response.status(), &report["accepted"]), (StatusCode::OK, &json!(3)));
    let response = send_gzip(&service, "/v1/events/sre", LINES, [three, b"garbage".to_vec()].concat()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{:?}", response.body());
    let text = trace(1).to_string();
    let (begin, end) = text.split_at(text.len() / 2);
    let members = [gzip(begin.as_bytes()), gzip(end.as_bytes())].concat();
    assert_eq!(send_gzip(&service, "/v1/traces", JSON, members).await.status(), StatusCode::OK);
    service.until("/v1/slos", |slos| slos["totals"]["tasks"] == 4).await;
}

#[tokio::test]
async fn empty_requests_are_accepted_as_otlp_allows_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        for (body, expected) in [
            ("{}", StatusCode::OK),
            ("[null,null]", StatusCode::BAD_REQUEST),
            ("null", StatusCode::BAD_REQUEST),
            ("{\"resourceSpans\":[null],\"resourceLogs\":[null],\"resourceMetrics\":[null]}", StatusCode::BAD_REQUEST),
        ] {
            let response = service.post(path, JSON, body).await;
            assert_eq!(response.status(), expected, "{path} {body}: {:?}", response.body());
        }
    }
    let nulls = r#"{"resourceSpans":null}"#;
    assert_eq!(service.post("/v1/traces", JSON, nulls).await.status(), StatusCode::OK);
    // Lines of another format, sent here by mistake, must not vanish.
    let mistake = finished("a", 1, true);
    assert_eq!(service.post("/v1/traces", JSON, mistake).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn spans_with_a_cost_or_tokens_that_cannot_be_are_rejected_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let cost = |value: Value| json!([{"key": "llm.cost.total", "value": value}]);
    let tokens = |value: Value| json!([{"key": "llm.token_count.prompt", "value": value}]);
    let cases = [
        cost(json!({"doubleValue": "NaN"})),
        cost(json!({"doubleValue": "Infinity"})),
        cost(json!({"doubleValue": 1e308})),
        cost(json!({"stringValue": "much"})),
        cost(json!({"doubleValue": -0.1})),
        cost(json!({"doubleValue": 9.2e9})),
        tokens(json!({"intValue": "9223372036854775807"})),
        tokens(json!({"doubleValue": 1e300})),
    ];
    for (number, more) in (1..).zip(&cases) {
        let response = service.post("/v1/traces", JSON, trace_with(number, more).to_string()).await;
        let answer: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1", "{more}");
    }
    let fine = [cost(json!({"doubleValue": 100_000.0})), tokens(json!({"intValue": "1000000000"}))];
    for (number, more) in (100..).zip(&fine) {
        assert_eq!(service.post("/v1/traces", JSON, trace_with(number, more).to_string()).await.body(), "{}", "{more}");
    }
    let metrics = service.get_raw("/metrics").await;
    let text = String::from_utf8_lossy(metrics.body());
    assert!(text.contains("\nsre_server_rejected_records_total 8\n"), "{text}");
}

/// Sends the head of a request and a part of its body, and then nothing.
async fn stall(service: &Service, path: &str, announced: usize, sent: usize) -> TcpStream {
    let mut client = TcpStream::connect(service.server.address()).await.unwrap();
    let kind = "application/grpc";
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {announced}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b' '; sent]).await.unwrap();
    client
}

#[tokio::test]
async fn bodies_that_stall_give_their_memory_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { max_body: 1 << 20, max_in_flight: 10 << 20, ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let mut stalled = Vec::new();
    for _ in 0..10 {
        stalled.push(stall(&service, "/v1/events/sre", 1 << 20, (1 << 20) - 1).await);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    for number in 0..5 {
        let lines: String = (0..1_000).map(|task| finished("a", 1_000 * number + task, true)).collect();
        assert_eq!(service.events(&lines).await["accepted"], 1_000);
    }
    // Far less than `client_timeout`, which would end them too.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(stalled);
}

mod grpc {
    use super::*;

    const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn framed(is_compressed: bool, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[u8::from(is_compressed)][..], &length, message].concat()
    }

    async fn export(service: &Service, encoding: &str, body: Vec<u8>) -> Option<String> {
        let request = service.request(TRACES, "application/grpc").header("grpc-encoding", encoding);
        let response = service.send(request, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn streams_that_send_nothing_block_nobody_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let server_limits = ServerLimits { client_timeout: Duration::from_secs(3), ..ServerLimits::default() };
        let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(stall(&service, TRACES, 16 << 20, 0).await);
        }
        let message = trace(1).to_string();
        let sent = tokio::time::timeout(
            Duration::from_secs(2),
            export(&service, "identity", framed(false, message.as_bytes())),
        );
        assert_eq!(sent.await.expect("blocked by silent streams"), None);
        for mut stream in silent {
            let mut answer = vec![0; 500];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut answer);
            let length = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it stays open").unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            assert!(answer.contains("grpc-status: 4"), "{answer}");
        }
    }

    #[tokio::test]
    async fn messages_are_read_within_the_limits() {
        let folder = tempfile::tempdir().unwrap();
        let server_limits = ServerLimits { max_body: 1 << 20, ..ServerLimits::default() };
        let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
        let text = trace(1).to_string();
        let (begin, end) = text.split_at(text.len() / 2);
        let members = [gzip(begin.as_bytes()), gzip(end.as_bytes())].concat();
        assert_eq!(export(&service, "gzip", framed(true, &members)).await, None, "both members are read");
        service.until("/v1/slos", |slos| slos["totals"]["tasks"] == 1).await;
        for (encoding, body, status) in [
            ("gzip", framed(true, &[members.clone(), b"garbage".to_vec()].concat()), "3"),
            ("gzip", framed(true, &gzip(&vec![0; (1 << 20) + 1])), "11"),
            ("identity", framed(false, &vec![0; (1 << 20) + 1]), "11"),
            ("zstd", framed(true, b"x"), "12"),
            ("identity", framed(true, b"x"), "12"),
            ("identity", [framed(false, b""), framed(false, b"")].concat(), "3"),
            ("identity", b"\0\0".to_vec(), "3"),
            ("identity", Vec::new(), "3"),
            ("identity", framed(false, b"\xff"), "3"),
        ] {
            assert_eq!(export(&service, encoding, body.clone()).await.as_deref(), Some(status), "{encoding} {body:?}");
        }
        assert_eq!(export(&service, "identity", framed(false, b"")).await, None, "an empty request is valid");
    }
}
