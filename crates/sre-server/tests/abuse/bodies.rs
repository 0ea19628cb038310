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

/// Repeats a part up to a size.
fn repeated(size: usize, part: &[u8]) -> Vec<u8> {
    part.repeat(size / part.len())
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

/// Returns spans of one trace, so that little is kept of them.
fn spans_of_one_trace(size: usize, rest: &[u8]) -> Vec<u8> {
    repeated(size, &numbered_span(1, rest))
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

/// A kind of body that decodes to more than its size.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) kind: &'static str,
    build: Box<dyn Fn(usize) -> Vec<u8>>,
}

/// The kinds that an attack used, and those that took most memory. They are tried at the size of [`BODY`], too.
const LARGE: [&str; 7] = [
    "empty spans",
    "empty metrics",
    "empty data points",
    "small spans",
    "arguments that are objects",
    "attributes that are nulls",
    "generations that are empty",
];

impl Case {
    fn new(
        name: &'static str,
        path: &'static str,
        kind: &'static str,
        build: impl Fn(usize) -> Vec<u8> + 'static,
    ) -> Self {
        Self { name, path, kind, build: Box::new(build) }
    }

    /// Returns a body of about a size, and not more than [`BODY`].
    pub(crate) fn body(&self, size: usize) -> Vec<u8> {
        (self.build)(size.min(BODY - 1_000))
    }

    /// Returns whether the kind is tried at the size of [`BODY`].
    pub(crate) fn is_large(&self) -> bool {
        LARGE.contains(&self.name)
    }
}

/// Returns a request of spans.
fn spans(name: &'static str, records: impl Fn(usize) -> Vec<u8> + 'static) -> Case {
    Case::new(name, "/v1/traces", PROTOBUF, move |size| request(&records(size)))
}

/// Returns a request of one span.
fn in_span(name: &'static str, fields: impl Fn(usize) -> Vec<u8> + 'static) -> Case {
    spans(name, move |size| numbered_span(1, &fields(size)))
}

/// Returns a request in JSON, of one kind of element.
fn json(name: &'static str, path: &'static str, lists: [&'static str; 3], element: &'static str) -> Case {
    let [resources, scopes, records] = lists;
    let build = move |size| {
        let elements = list(size, element);
        format!(r#"{{"{resources}":[{{"{scopes}":[{{"{records}":{elements}}}]}}]}}"#).into_bytes()
    };
    Case::new(name, path, JSON, build)
}

/// Returns lines of a format.
fn lines(name: &'static str, path: &'static str, text: impl Fn(usize) -> String + 'static) -> Case {
    Case::new(name, path, LINES, move |size| text(size).into_bytes())
}

fn sre(name: &'static str, text: impl Fn(usize) -> String + 'static) -> Case {
    lines(name, "/v1/events/sre", text)
}

/// Returns a list in JSON.
fn list(size: usize, element: &str) -> String {
    format!("[{}{element}]", format!("{element},").repeat(size / (element.len() + 1)))
}

fn heartbeat(attribute: &str) -> String {
    format!(r#"{{"event":"heartbeat","time":1790000000,"attributes":{{"a":{attribute}}}}}"#)
}

fn langgraph(event: &str, data: &str) -> String {
    format!(r#"{{"event":"{event}","time":1790000000,"name":"a","run_id":"r","parent_ids":[],"data":{data}}}"#)
}

fn openai_agents(fields: &str) -> String {
    format!(r#"{{"event":"span_end","time":1790000000,"id":"s","trace_id":"t",{fields}}}"#)
}

fn operation(name: &str) -> Vec<u8> {
    attribute("gen_ai.operation.name", &text(name))
}

fn tool(arguments: &str) -> Vec<u8> {
    [operation("execute_tool"), attribute("gen_ai.tool.call.arguments", &text(arguments))].concat()
}

fn failed_span(size: usize) -> Vec<u8> {
    [operation("chat"), field(15, &[field(2, &vec![1; size]), vec![0x18, 2]].concat())].concat()
}

fn evaluations(size: usize) -> Vec<u8> {
    let evaluation = [
        field(12, b"gen_ai.evaluation.result"),
        vec![0x09, 1, 0, 0, 0, 0, 0, 0, 1],
        field(6, &[field(1, b"gen_ai.evaluation.name"), field(2, &text("m"))].concat()),
        field(6, &[field(1, b"gen_ai.evaluation.score.value"), field(2, &[0x21, 0, 0, 0, 0, 0, 0, 0, 0])].concat()),
    ]
    .concat();
    let service = field(1, &field(1, &[field(1, b"service.name"), field(2, &text(&"s".repeat(size / 2)))].concat()));
    let evaluations = field(2, &field(2, &evaluation).repeat(size / 2 / (evaluation.len() + 10)));
    field(1, &[service, evaluations].concat())
}

pub(crate) fn cases() -> Vec<Case> {
    let metric = r#"{"sum":{"dataPoints":[{}]}}"#;
    vec![
        spans("empty spans", |size| repeated(size, &[0x12, 0])),
        spans("empty scopes", |_| Vec::new()),
        Case::new("empty resources", "/v1/traces", PROTOBUF, |size| repeated(size, &[0x0a, 0])),
        json("empty spans", "/v1/traces", ["resourceSpans", "scopeSpans", "spans"], "{}"),
        Case::new("empty log records", "/v1/logs", PROTOBUF, |size| request(&repeated(size, &[0x12, 0]))),
        json("empty log records", "/v1/logs", ["resourceLogs", "scopeLogs", "logRecords"], "{}"),
        Case::new("empty metrics", "/v1/metrics", PROTOBUF, |size| request(&repeated(size, &[0x12, 0]))),
        Case::new("empty data points", "/v1/metrics", PROTOBUF, |size| {
            request(&field(2, &field(5, &repeated(size, &[0x0a, 0]))))
        }),
        json("empty metrics", "/v1/metrics", ["resourceMetrics", "scopeMetrics", "metrics"], metric),
        in_span("empty attributes", |size| repeated(size, &[0x4a, 0])),
        in_span("empty span events", |size| repeated(size, &[0x5a, 0])),
        in_span("one attribute again and again", |size| repeated(size, &attribute("tool.name", &text("t")))),
        in_span("nested attributes", |size| attribute("a", &field(5, &repeated(size, &[0x0a, 2, 0x2a, 0])))),
        in_span("deep attributes", |size| attribute("a", &[0x2a, 0].repeat(size / 10))),
        in_span("arguments that are empty objects", |size| tool(&list(size, "{}"))),
        in_span("arguments that are objects", |size| tool(&list(size, r#"{"":0}"#))),
        in_span("arguments with many keys", |size| {
            let keys = r#""b":0,"a":0,"#;
            tool(&format!("{{{}\"z\":0}}", keys.repeat(size / keys.len())))
        }),
        in_span("arguments that become longer", |size| tool(&list(size, "1e15"))),
        in_span("an error of control characters", failed_span),
        Case::new("evaluations of a service with a long name", "/v1/logs", PROTOBUF, evaluations),
        spans("small spans", |size| spans_of_one_trace(size, &[])),
        spans("small model calls", |size| spans_of_one_trace(size, &operation("chat"))),
        sre("attributes that are nulls", |size| heartbeat(&list(size, "null"))),
        sre("attributes that are objects", |size| heartbeat(&list(size, r#"{"":0}"#))),
        sre("attributes that are a long text", |size| heartbeat(&format!("\"{}\"", "x".repeat(size)))),
        sre("a long list before the event", |size| {
            format!(r#"{{"x":{},"event":"heartbeat","time":1}}"#, list(size, "[]"))
        }),
        sre("many fields before the event", |size| {
            format!(r#"{{{}"event":"heartbeat","time":1}}"#, r#""a":0,"#.repeat(size / 6))
        }),
        sre("a deep list", |size| "[".repeat(size)),
        sre("no line", |size| "\n".repeat(size)),
        sre("lines that are no events", |size| "{\n".repeat(size / 2)),
        lines("an error that is a list", "/v1/events/langgraph", |size| {
            let error = format!(r#"{{"error":{{"x":{}}}}}"#, list(size, "{}"));
            format!("{}\n{}", langgraph("on_chain_start", "{}"), langgraph("on_chain_error", &error))
        }),
        lines("many parents", "/v1/events/langgraph", |size| {
            langgraph("on_chain_start", "{}").replace("[]", &list(size, "\"\""))
        }),
        lines("an input that is a list", "/v1/events/openai-agents", |size| {
            openai_agents(&format!(r#""span_data":{{"type":"function","name":"t","input":{}}}"#, list(size, "{}")))
        }),
        lines("tool calls that are empty", "/v1/events/autogen", |size| {
            let begun = r#"{"type":"conversation_start","time":1790000000,"initiator":"a"}"#;
            let content = list(size, r#"{"id":""}"#);
            format!("{begun}\n{{\"type\":\"ToolCallRequestEvent\",\"time\":1790000000,\"content\":{content}}}")
        }),
        lines("generations that are empty", "/v1/events/langchain", |size| {
            let begun = r#"{"event":"on_llm_start","time":1790000000,"run_id":"r"}"#;
            let args = format!(r#"[{{"generations":{}}}]"#, list(size, "[{}]"));
            format!("{begun}\n{{\"event\":\"on_llm_end\",\"time\":1790000000,\"run_id\":\"r\",\"args\":{args}}}")
        }),
        lines("many arguments of a callback", "/v1/events/langchain", |size| {
            format!(r#"{{"event":"on_text","time":1790000000,"run_id":"r","args":{}}}"#, list(size, "1"))
        }),
        lines("an error with a list", "/v1/events/openai-agents", |size| {
            let error = format!(r#""error":{{"message":"m","data":{{"x":{}}}}}"#, list(size, "{}"));
            openai_agents(&format!(r#""span_data":{{"type":"agent","name":"t"}},{error}"#))
        }),
    ]
}
