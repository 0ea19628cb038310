//! Telemetry in every format and encoding, and its outcome.

mod common;

use std::io::Write;
use std::time::Duration;

use common::{Service, config, finished, recordings};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use serde_json::{Value, json};
use sre_server::{Config, ServerLimits};
use sre_testkit::recordings::{Expected, Recording, folders, in_folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

fn matches(totals: &Value, expected: &Expected) -> bool {
    let count = |field: &str| totals[field].as_u64();
    [("tasks", expected.tasks), ("succeeded", expected.succeeded), ("failed", expected.failed)]
        .into_iter()
        .chain([("tool_calls", expected.tool_calls), ("tool_errors", expected.tool_errors)])
        .all(|(field, wanted)| count(field) == Some(wanted))
        && expected.llm_calls.is_none_or(|calls| count("llm_calls") == Some(calls))
        && expected.input_tokens.is_none_or(|tokens| count("input_tokens") == Some(tokens))
}

#[tokio::test]
async fn totals_match_the_ground_truth_of_every_framework() {
    let frameworks = folders(&recordings(""));
    let each = frameworks.iter().flat_map(|(framework, format)| {
        // An incomplete task ends after ten minutes.
        let complete = in_folder(&recordings(framework)).into_iter().filter(|one| one.expected.incomplete.is_none());
        complete.map(|recording| check_recording(format, framework, recording))
    });
    futures_util::future::join_all(each).await;
}

async fn check_recording(format: &str, framework: &str, recording: Recording) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let text = std::fs::read_to_string(&recording.lines).unwrap();
    if format == "otlp" {
        for line in text.lines() {
            let response = service.post("/v1/traces", JSON, line.to_owned()).await;
            assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
        }
    } else {
        let response = service.post(&format!("/v1/events/{format}"), "application/x-ndjson", text).await;
        let report: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(report["rejected"], 0, "{report}");
    }
    let found = service.until("/v1/slos", |slos| matches(&slos["totals"], &recording.expected)).await;
    assert_eq!(found["totals"]["incomplete"], 0, "{framework}/{}", recording.name);
    service.server.stop().await;
}

#[tokio::test]
async fn an_agent_whose_tasks_arrive_from_two_sources_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    service.events(&finished("other", 0, true)).await;
    service.tasks_from_two_sources("support", 6).await;
    let overlap = json!({"formats": ["langgraph", "otlp"], "tasks": 6});
    let agents = service.until("/v1/agents", |answer| answer["agents"][1]["overlap"] == overlap).await;
    assert_eq!(agents["agents"][1]["tasks"], 12, "each task counts twice");
    assert_eq!(agents["agents"][0].get("overlap"), None);
    let metrics = service.get_raw("/metrics").await;
    let metrics = std::str::from_utf8(metrics.body()).unwrap();
    assert!(metrics.contains("sre_server_overlapping_tasks{agent=\"support\"} 6\n"), "{metrics}");
}

#[tokio::test]
async fn gzip_and_chunked_bodies_are_accepted() {
    let recording =
        in_folder(&recordings("otlp-semantic-kernel")).into_iter().find(|one| one.name == "all_ok").unwrap();
    let body = std::fs::read(&recording.bodies[0]).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&body).unwrap();
    let gzip = gzip.finish().unwrap();

    for form in ["plain", "gzip", "chunked"] {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(config(folder.path())).await;
        match form {
            "plain" => {
                let response = service.post("/v1/traces", PROTOBUF, body.clone()).await;
                assert_eq!(response.headers()["content-type"], PROTOBUF);
                let answer = ExportTraceServiceResponse::decode(response.body().clone()).unwrap();
                assert_eq!(answer.partial_success, None);
            }
            "gzip" => {
                let request = service.request("/v1/traces", PROTOBUF).header("content-encoding", "gzip");
                assert_eq!(service.send(request, gzip.clone()).await.status(), StatusCode::OK);
            }
            _ => {
                let mut stream = tokio::net::TcpStream::connect(service.server.address()).await.unwrap();
                let head = format!(
                    "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PROTOBUF}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                for chunk in body.chunks(777) {
                    stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
                    stream.write_all(chunk).await.unwrap();
                    stream.write_all(b"\r\n").await.unwrap();
                }
                stream.write_all(b"0\r\n\r\n").await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{:?}", String::from_utf8_lossy(&answer));
            }
        }
        service.until("/v1/slos", |slos| matches(&slos["totals"], &recording.expected)).await;
    }
}

#[tokio::test]
async fn errors_follow_otlp() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    // One of the spans has no id.
    let body = std::fs::read(recordings("otlp-semantic-kernel").join("all_ok.0.bin")).unwrap();
    let mut request = ExportTraceServiceRequest::decode(&*body).unwrap();
    request.resource_spans[0].scope_spans[0].spans[0].span_id.clear();
    let response = service.post("/v1/traces", PROTOBUF, request.encode_to_vec()).await;
    let answer = ExportTraceServiceResponse::decode(response.body().clone()).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.contains("without an id")), (1, true));
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "name": "no id"});
    let as_json = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    let response = service.post("/v1/traces", JSON, as_json).await;
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1");

    for (path, kind, body, status, message) in [
        ("/v1/traces", PROTOBUF, &b"\xff\xff"[..], 400, "found invalid protobuf"),
        ("/v1/traces", JSON, b"{", 400, "EOF while parsing"),
        ("/v1/traces", JSON, b"{\"a\":{}}", 400, "found no `resourceSpans`"),
        ("/v1/logs", PROTOBUF, b"\xff\xff", 400, "found invalid protobuf"),
        ("/v1/metrics", PROTOBUF, b"\xff\xff", 400, "found invalid protobuf"),
        ("/v1/metrics", JSON, b"[1]", 400, "found no JSON object"),
        ("/v1/traces", "text/plain", b"", 415, "found `Content-Type: text/plain`, expected application/x-protobuf"),
        ("/v1/events/fax", "text/plain", b"", 404, "found `fax`, expected one of sre, langgraph"),
        ("/v1/nothing", JSON, b"", 404, "no such endpoint: /v1/nothing"),
    ] {
        let response = service.post(path, kind, body).await;
        assert_eq!(response.status().as_u16(), status, "{path} {message}");
        let text = String::from_utf8_lossy(response.body());
        assert!(text.contains(message), "{path}: {text}");
    }
    // An error has the encoding of its request.
    let response = service.post("/v1/traces", PROTOBUF, &b"\xff\xff"[..]).await;
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    // An SDK without data sends empty requests.
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        assert_eq!(service.post(path, PROTOBUF, "").await.status(), StatusCode::OK, "{path}");
    }
    let broken = service.request("/v1/traces", PROTOBUF).header("content-encoding", "gzip");
    assert_eq!(service.send(broken, "no gzip").await.status(), StatusCode::BAD_REQUEST);
    let other = service.request("/v1/traces", PROTOBUF).header("content-encoding", "br");
    assert_eq!(service.send(other, "x").await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn logs_and_metrics_are_accepted_and_evaluations_count() {
    let folder = tempfile::tempdir().unwrap();
    let slo = folder.path().join("slo.yaml");
    std::fs::write(&slo, "name: honest\nindicators: [{type: hallucination_rate}]\n").unwrap();
    let service = Service::start(Config { slos: vec![slo], ..config(folder.path()) }).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string();
    let attribute = |key: &str, value: Value| json!({"key": key, "value": value});
    let record = json!({"timeUnixNano": now, "eventName": "gen_ai.evaluation.result", "attributes": [
        attribute("gen_ai.evaluation.name", json!({"stringValue": "hallucination"})),
        attribute("gen_ai.evaluation.score.value", json!({"doubleValue": 0.9})),
        attribute("gen_ai.agent.name", json!({"stringValue": "support"})),
    ]});
    let other = json!({"timeUnixNano": now, "body": {"stringValue": "hello"}});
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record, other]}]}]}).to_string();
    assert_eq!(service.post("/v1/logs", JSON, logs).await.status(), StatusCode::OK);
    let found = service.until("/v1/slos", |slos| slos["slos"][0]["indicators"][0]["samples"] == 1).await;
    assert_eq!(
        (&found["slos"][0]["agent"], &found["slos"][0]["indicators"][0]["value"]),
        (&json!("support"), &json!(1.0))
    );
    let points = json!([{"asInt": "1"}, {"asInt": "2"}]);
    let metric = json!({"name": "x", "sum": {"dataPoints": points}});
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).to_string();
    assert_eq!(service.post("/v1/metrics", JSON, metrics).await.body(), "{}");
    let metrics = service.get_raw("/metrics").await;
    let text = String::from_utf8_lossy(metrics.body());
    assert!(text.contains("\nsre_server_unused_records_total 3\n"), "{text}");
}

#[tokio::test]
async fn invalid_lines_are_reported_and_the_others_count() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let ahead = "{\"event\":\"task_finished\",\"time\":4000000000,\"agent\":\"a\",\"success\":true}\n";
    let lines = format!("{}nonsense\n\n{{\"event\":\"task_finished\",\"time\":1}}\n{ahead}", finished("a", 1, true));
    let report = service.events(&lines).await;
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(1), &json!(3)));
    assert_eq!((&report["errors"][0]["line"], &report["errors"][1]["line"]), (&json!(2), &json!(4)));
    assert!(report["errors"][1]["error"].as_str().unwrap().contains("success"));
    assert!(report["errors"][2]["error"].as_str().unwrap().contains("check the clock of the sender"));
    let slos = service.get("/v1/slos").await;
    assert_eq!(slos["input"], json!({"lines": 4, "events": 1, "skipped": 3, "unknown": 0, "unmatched": 0}));
    // A clock that is far ahead ends no runs of others.
    let begun = finished("a", 2, true).replace("task_finished", "task_started");
    service.events(&(begun + ahead + &finished("a", 2, true))).await;
    assert_eq!((&service.totals().await["tasks"], &service.totals().await["incomplete"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn retries_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let body = std::fs::read(recordings("otlp-semantic-kernel").join("all_ok.0.bin")).unwrap();
    for _ in 0..3 {
        assert_eq!(service.post("/v1/traces", PROTOBUF, body.clone()).await.status(), StatusCode::OK);
    }
    let keyed = |key: &str| service.request("/v1/events/sre", "application/x-ndjson").header("idempotency-key", key);
    let line = finished("other", 1, true);
    for (key, repeated) in [("one", false), ("one", true), ("two", false)] {
        let response = service.send(keyed(key), line.clone()).await;
        let report: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(report.get("repeated").is_some(), repeated);
    }
    let of_recording =
        in_folder(&recordings("otlp-semantic-kernel")).into_iter().find(|one| one.name == "all_ok").unwrap();
    // A different body is a different batch, even with the same key.
    let other = service.send(keyed("one"), finished("other", 2, true)).await;
    assert!(!String::from_utf8_lossy(other.body()).contains("repeated"));
    let wanted = of_recording.expected.tasks + 3;
    service.until("/v1/slos", |slos| slos["totals"]["tasks"] == wanted).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(service.totals().await["tasks"], wanted);
}

#[tokio::test]
async fn losses_that_senders_report_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let reporting = |lost: &str| {
        let request = service.request("/v1/events/sre", "application/x-ndjson");
        request.header("idempotency-key", "one").header("sre-lost-events", lost)
    };
    for (lost, body, status) in [
        ("7", finished("support", 1, true), StatusCode::OK),
        ("7", finished("support", 1, true), StatusCode::OK),
        // A sender that has nothing else to send.
        ("3", String::new(), StatusCode::OK),
        ("-1", finished("support", 2, true), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(service.send(reporting(lost), body).await.status(), status, "{lost}");
    }
    let metrics = service.get_raw("/metrics").await;
    let metrics = String::from_utf8_lossy(metrics.body());
    assert!(metrics.contains("\nsre_server_sender_lost_events_total 10\n"), "{metrics}");
    assert_eq!(service.totals().await["tasks"], 1);
}

#[tokio::test]
async fn overload_and_slow_or_huge_clients_are_refused_before_memory_grows() {
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits {
        max_body: 1 << 20,
        max_in_flight: 2 << 20,
        client_timeout: Duration::from_secs(2),
        ..ServerLimits::default()
    };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let huge = service.post("/v1/events/sre", "text/plain", vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // A small body that grows to a gigabyte.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    (0..1_024).for_each(|_| gzip.write_all(&vec![0; 1 << 20]).unwrap());
    let bomb = service.request("/v1/traces", PROTOBUF).header("content-encoding", "gzip");
    assert_eq!(service.send(bomb, gzip.finish().unwrap()).await.status(), StatusCode::PAYLOAD_TOO_LARGE);

    // Slow clients, whose bodies use up the memory for bodies.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut client = tokio::net::TcpStream::connect(service.server.address()).await.unwrap();
        let head = "POST /v1/events/sre HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b' '; 950_000]).await.unwrap();
        let (answers, mut rest) = client.into_split();
        tokio::spawn(async move {
            while rest.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        slow.push(answers);
    }
    let arrived = std::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // A second later, they would have to give up their memory.
    if arrived.elapsed() < Duration::from_millis(800) {
        let refused = service.post("/v1/events/sre", "text/plain", vec![b' '; 300_000]).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "the memory for bodies is used up");
        assert_eq!(refused.headers()["retry-after"], "1");
    }
    // They are answered after the timeout, which frees the memory.
    let mut answer = vec![0; 100];
    for client in &mut slow {
        let length = client.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(service.events(&finished("a", 1, true)).await["accepted"], 1);

    // A client that does not complete the head of its request.
    let mut silent = tokio::net::TcpStream::connect(service.server.address()).await.unwrap();
    silent.write_all(b"POST /v1/tra").await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the connection stays open");

    // A client that sends requests and does not read the responses.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let (mut answers, mut questions) = socket.connect(service.server.address()).await.unwrap().into_split();
    let asking = tokio::spawn(async move {
        let question = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
        while questions.write_all(question).await.is_ok() {}
    });
    let closed = tokio::time::timeout(Duration::from_secs(20), asking).await;
    assert!(closed.is_ok(), "the connection stays open");
    let mut rest = Vec::new();
    let _ = answers.read_to_end(&mut rest).await;
}
