//! The memory of requests, measured by the process's own resident size. A single test, since that is one for the process.

#![cfg(target_os = "linux")]

mod common;

use std::io::Write;

use common::{Service, config, finished};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
/// Size of each body, decompressed.
const BODY: usize = 4 << 20;
/// How much the process may grow by one request.
const MAX_GROWTH: usize = 4 * BODY + (1 << 20);

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

/// Returns a field of `/proc/self/status`, in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kib: usize = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// Returns a protobuf message with one field of a length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(value);
    message
}

/// Returns a request with one resource and one scope, which holds `records`.
fn request(records: &[u8]) -> Vec<u8> {
    field(1, &field(2, records))
}

/// Repeats `part` up to the size of a body.
fn repeated(part: &[u8]) -> Vec<u8> {
    part.repeat((BODY - 1_000) / part.len())
}

fn repeated_text(part: &str) -> String {
    part.repeat((BODY - 1_000) / part.len())
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    field(9, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn text(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

/// Returns the fields that make a span valid, without its trace id.
fn valid_span() -> Vec<u8> {
    let time = 1_790_000_000_000_000_000_u64.to_le_bytes();
    [&[0x12, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x39][..], &time, &[0x41], &time].concat()
}

fn numbered_span(number: u32, rest: &[u8]) -> Vec<u8> {
    let id = [&[7_u8; 12][..], &number.to_be_bytes()].concat();
    field(2, &[field(1, &id), valid_span(), rest.to_vec()].concat())
}

fn many_spans(rest: &[u8]) -> Vec<u8> {
    let length = numbered_span(0, rest).len();
    // All of one trace, so that little is kept of them.
    request(&(0..(BODY - 1_000) / length).flat_map(|_| numbered_span(1, rest)).collect::<Vec<u8>>())
}

struct Case {
    name: &'static str,
    path: &'static str,
    kind: &'static str,
    body: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let case = |name, path, kind, body: Vec<u8>| Case { name, path, kind, body };
    let spans = |name, records: Vec<u8>| case(name, "/v1/traces", PROTOBUF, request(&records));
    let in_span = |name, rest: Vec<u8>| case(name, "/v1/traces", PROTOBUF, request(&numbered_span(1, &rest)));
    let json = |name, path, list: [&str; 3], element: &str| {
        let elements = repeated_text(&format!("{element},")) + element;
        let [resources, scopes, records] = list;
        let body = format!(r#"{{"{resources}":[{{"{scopes}":[{{"{records}":[{elements}]}}]}}]}}"#);
        case(name, path, JSON, body.into_bytes())
    };
    let line = |name, body: String| case(name, "/v1/events/sre", LINES, body.into_bytes());
    let list = |element: &str| format!("[{}{element}]", repeated_text(&format!("{element},")));
    let heartbeat =
        |attributes: &str| format!(r#"{{"event":"heartbeat","time":1790000000,"attributes":{{"a":{attributes}}}}}"#);
    let known = attribute("tool.name", &text("t"));
    let marker = |operation: &str| attribute("gen_ai.operation.name", &text(operation));
    let tool = |arguments: String| {
        [marker("execute_tool"), attribute("gen_ai.tool.call.arguments", &text(&arguments))].concat()
    };
    let failed = [marker("chat"), field(15, &[field(2, &vec![1; BODY - 1_000]), vec![0x18, 2]].concat())].concat();
    let mut nested = Vec::new();
    for _ in 0..(BODY / 10) {
        nested.extend([0x2a, 0]);
    }
    let evaluation = [
        field(12, b"gen_ai.evaluation.result"),
        vec![0x09, 1, 0, 0, 0, 0, 0, 0, 1],
        field(6, &[field(1, b"gen_ai.evaluation.name"), field(2, &text("m"))].concat()),
        field(6, &[field(1, b"gen_ai.evaluation.score.value"), field(2, &[0x21, 0, 0, 0, 0, 0, 0, 0, 0])].concat()),
    ]
    .concat();
    let service = field(1, &field(1, &[field(1, b"service.name"), field(2, &text(&"s".repeat(BODY / 2)))].concat()));
    let evaluations = field(2, &field(2, &evaluation).repeat(BODY / 2 / (evaluation.len() + 10)));
    let langgraph = |event: &str, data: String| {
        format!(r#"{{"event":"{event}","time":1790000000,"name":"a","run_id":"r","parent_ids":[],"data":{data}}}"#)
    };
    let agents =
        |fields: String| format!(r#"{{"event":"span_end","time":1790000000,"id":"s","trace_id":"t",{fields}}}"#);
    vec![
        spans("empty spans", repeated(&[0x12, 0])),
        spans("empty scopes", Vec::new()),
        case("empty resources", "/v1/traces", PROTOBUF, repeated(&[0x0a, 0])),
        json("empty spans", "/v1/traces", ["resourceSpans", "scopeSpans", "spans"], "{}"),
        case("empty log records", "/v1/logs", PROTOBUF, request(&repeated(&[0x12, 0]))),
        json("empty log records", "/v1/logs", ["resourceLogs", "scopeLogs", "logRecords"], "{}"),
        case("empty metrics", "/v1/metrics", PROTOBUF, request(&repeated(&[0x12, 0]))),
        case("empty data points", "/v1/metrics", PROTOBUF, request(&field(2, &field(5, &repeated(&[0x0a, 0]))))),
        json(
            "empty metrics",
            "/v1/metrics",
            ["resourceMetrics", "scopeMetrics", "metrics"],
            r#"{"sum":{"dataPoints":[{}]}}"#,
        ),
        in_span("empty attributes", repeated(&[0x4a, 0])),
        in_span("empty span events", repeated(&[0x5a, 0])),
        in_span("one attribute again and again", repeated(&known)),
        in_span("nested attributes", attribute("a", &field(5, &repeated(&[0x0a, 2, 0x2a, 0])))),
        in_span("deep attributes", attribute("a", &nested)),
        in_span("arguments that are empty objects", tool(list("{}"))),
        in_span("arguments that are objects", tool(list(r#"{"":0}"#))),
        in_span("arguments with many keys", tool(format!("{{{}\"z\":0}}", repeated_text(r#""b":0,"a":0,"#)))),
        in_span("arguments that become longer", tool(list("1e15"))),
        in_span("an error of control characters", failed),
        case(
            "evaluations of a service with a long name",
            "/v1/logs",
            PROTOBUF,
            field(1, &[service, evaluations].concat()),
        ),
        case("small spans", "/v1/traces", PROTOBUF, many_spans(&[])),
        case("small model calls", "/v1/traces", PROTOBUF, many_spans(&marker("chat"))),
        line("attributes that are nulls", heartbeat(&list("null"))),
        line("attributes that are objects", heartbeat(&list(r#"{"":0}"#))),
        line("attributes that are a long text", heartbeat(&format!("\"{}\"", "x".repeat(BODY - 1_000)))),
        line("a long list before the event", format!(r#"{{"x":{},"event":"heartbeat","time":1}}"#, list("[]"))),
        line(
            "many fields before the event",
            format!(r#"{{{}"event":"heartbeat","time":1}}"#, repeated_text(r#""a":0,"#)),
        ),
        line("a deep list", "[".repeat(BODY - 1_000)),
        line("no line", "\n".repeat(BODY - 1_000)),
        case("an error that is a list", "/v1/events/langgraph", LINES, {
            let begun = langgraph("on_chain_start", "{}".to_owned());
            format!("{begun}\n{}", langgraph("on_chain_error", format!(r#"{{"error":{{"x":{}}}}}"#, list("{}"))))
                .into_bytes()
        }),
        case("many parents", "/v1/events/langgraph", LINES, {
            let line = langgraph("on_chain_start", "{}".to_owned());
            line.replace("[]", &list("\"\"")).into_bytes()
        }),
        case("an input that is a list", "/v1/events/openai-agents", LINES, {
            agents(format!(r#""span_data":{{"type":"function","name":"t","input":{}}}"#, list("{}"))).into_bytes()
        }),
        case("an error with a list", "/v1/events/openai-agents", LINES, {
            let error = format!(r#""error":{{"message":"m","data":{{"x":{}}}}}"#, list("{}"));
            agents(format!(r#""span_data":{{"type":"agent","name":"t"}},{error}"#)).into_bytes()
        }),
    ]
}

/// Runs in a process of its own, whose allocator returns large memory to the system at once.
#[test]
fn no_request_takes_more_than_four_times_its_size() {
    const IS_CHILD: &str = "SRE_TEST_MEMORY";
    if std::env::var_os(IS_CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(measure());
    }
    let tunables = "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072";
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--nocapture")
        .env(IS_CHILD, "1")
        .env("GLIBC_TUNABLES", tunables)
        .status()
        .unwrap();
    assert!(status.success());
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let send = async |path: &str, kind: &str, body: Vec<u8>| {
        let request = service.request(path, kind).header("content-encoding", "gzip");
        service.send(request, body).await.status()
    };
    // The caches of the journal and of the allocator.
    for _ in 0..2 {
        let first: String = (0..20_000).map(|task| finished("a", task, true)).collect();
        assert_eq!(send("/v1/events/sre", LINES, gzip(first.as_bytes())).await, StatusCode::OK);
    }
    let mut failures = Vec::new();
    for Case { name, path, kind, body } in cases() {
        let length = body.len();
        assert!(length <= BODY + 1_000, "{name}: {length} bytes");
        let compressed = gzip(&body);
        drop(body);
        // Sets the peak to the current size.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS");
        let answer = send(path, kind, compressed).await;
        let growth = status("VmHWM").saturating_sub(before);
        println!("{path} {kind} {name}: {answer}, {:.2} times {length} bytes", growth as f64 / length as f64);
        assert!(matches!(answer, StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE), "{answer}");
        if growth > MAX_GROWTH {
            failures.push(format!("{path} {kind} {name}: {answer}, {growth} bytes"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    service.server.stop().await;
}
