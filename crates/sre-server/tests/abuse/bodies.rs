//! Bodies of at most `max_body` that decode to far more than a body of that size usually does.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
/// The size of each body, decompressed: `max_body` by default.
pub(crate) const BODY: usize = 16 << 20;

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
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

/// Returns a request of spans of many traces, each without its root.
pub(crate) fn open_spans(number: u32) -> Vec<u8> {
    let rest = [
        vec![0x22, 8, 9, 9, 9, 9, 9, 9, 9, 9],
        attribute("gen_ai.operation.name", &text("chat")),
        attribute("gen_ai.request.model", &text(&"m".repeat(450))),
    ]
    .concat();
    let length = numbered_span(0, &rest).len();
    let count = ((BODY - 1_000) / length) as u32;
    request(&(0..count).flat_map(|span| numbered_span(1 + number * 100 + span % 100, &rest)).collect::<Vec<u8>>())
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn cases() -> Vec<Case> {
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
        line("lines that are no events", "{\n".repeat((BODY - 1_000) / 2)),
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
        case("tool calls that are empty", "/v1/events/autogen", LINES, {
            let begun = r#"{"type":"conversation_start","time":1790000000,"initiator":"a"}"#;
            let content = list(r#"{"id":""}"#);
            format!("{begun}\n{{\"type\":\"ToolCallRequestEvent\",\"time\":1790000000,\"content\":{content}}}")
                .into_bytes()
        }),
        case("generations that are empty", "/v1/events/langchain", LINES, {
            let begun = r#"{"event":"on_llm_start","time":1790000000,"run_id":"r"}"#;
            let args = format!(r#"[{{"generations":{}}}]"#, list("[{}]"));
            format!("{begun}\n{{\"event\":\"on_llm_end\",\"time\":1790000000,\"run_id\":\"r\",\"args\":{args}}}")
                .into_bytes()
        }),
        case("many arguments of a callback", "/v1/events/langchain", LINES, {
            format!(r#"{{"event":"on_text","time":1790000000,"run_id":"r","args":{}}}"#, list("1")).into_bytes()
        }),
        case("an error with a list", "/v1/events/openai-agents", LINES, {
            let error = format!(r#""error":{{"message":"m","data":{{"x":{}}}}}"#, list("{}"));
            agents(format!(r#""span_data":{{"type":"agent","name":"t"}},{error}"#)).into_bytes()
        }),
    ]
}
