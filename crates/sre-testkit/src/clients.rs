//! What vendors' own clients sent for a small run: the recordings in `tests/contracts/clients`.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde_json::Value;

/// Returns the requests of a client, in order.
///
/// # Panics
/// Panics if there is no such recording.
pub fn requests(client: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/contracts/clients/{client}.json"));
    let text = std::fs::read_to_string(path).expect("a recording");
    let mut recording: Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(recording["requests"].take()).expect("a list of requests")
}

/// Returns the number of bytes of a recorded body on the wire: JSON without spaces, OTLP in protobuf, parts with their
/// headers, and compressed if the client compressed it.
///
/// # Panics
/// Panics if the body is none of these.
pub fn wire_len(request: &Value) -> usize {
    let body = &request["body"];
    let content_type = request["headers"]["content-type"].as_str().unwrap_or_default();
    let bytes = if content_type == "application/x-protobuf" {
        trace_request(body).encode_to_vec()
    } else if let Some(parts) = body["parts"].as_array() {
        let boundary = content_type.rsplit_once('=').expect("a boundary").1;
        let parts: String = parts.iter().map(|part| text_of(part, boundary)).collect();
        format!("{parts}--{boundary}--\r\n").into_bytes()
    } else if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    if request["headers"]["content-encoding"] != "gzip" {
        return bytes.len();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("writing to memory").len()
}

/// Asserts that an exporter sends at most 1.1 times as many bytes as the vendor's client for the same.
///
/// # Panics
/// Panics if it sends more.
pub fn assert_wire_len(ours: usize, theirs: usize) {
    println!("{ours} bytes, {:.2} × the {theirs} of the vendor's client", ours as f64 / theirs as f64);
    assert!(ours * 10 <= theirs * 11, "{ours} bytes, more than 1.1 times the {theirs} of the vendor's client");
}

/// Returns a part of a multipart body. The recording has its content in another order of fields, but of the same length as
/// its header states.
fn text_of(part: &Value, boundary: &str) -> String {
    let headers = part["headers"].as_object().expect("headers");
    let length = headers["content-length"].as_str().expect("a length").parse().expect("a number");
    let headers = headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap_or_default()));
    format!("--{boundary}\r\n{}\r\n{}\r\n", headers.collect::<String>(), "x".repeat(length))
}

/// Converts protobuf's JSON form.
fn trace_request(body: &Value) -> ExportTraceServiceRequest {
    let resource_spans = list(&body["resourceSpans"]).map(|of_resource| ResourceSpans {
        resource: Some(Resource { attributes: attributes(&of_resource["resource"]), ..Resource::default() }),
        scope_spans: list(&of_resource["scopeSpans"])
            .map(|of_scope| ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: text(&of_scope["scope"]["name"]),
                    version: text(&of_scope["scope"]["version"]),
                    attributes: attributes(&of_scope["scope"]),
                    ..InstrumentationScope::default()
                }),
                spans: list(&of_scope["spans"]).map(span).collect(),
                ..ScopeSpans::default()
            })
            .collect(),
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn span(span: &Value) -> Span {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    let code = |status: &Value| match status["code"].as_str() {
        Some("STATUS_CODE_OK") => 1,
        Some("STATUS_CODE_ERROR") => 2,
        _ => 0,
    };
    let event = |event: &Value| Event {
        name: text(&event["name"]),
        time_unix_nano: number(&event["timeUnixNano"]),
        attributes: attributes(event),
        ..Event::default()
    };
    let status = span["status"].as_object().map(|_| &span["status"]);
    Span {
        trace_id: base64(&span["traceId"]),
        span_id: base64(&span["spanId"]),
        parent_span_id: base64(&span["parentSpanId"]),
        name: text(&span["name"]),
        kind: i32::from(span["kind"].is_string()),
        start_time_unix_nano: number(&span["startTimeUnixNano"]),
        end_time_unix_nano: number(&span["endTimeUnixNano"]),
        attributes: attributes(span),
        events: list(&span["events"]).map(event).collect(),
        status: status.map(|status| Status { message: text(&status["message"]), code: code(status) }),
        flags: span["flags"].as_u64().unwrap_or_default() as u32,
        ..Span::default()
    }
}

fn attributes(of: &Value) -> Vec<KeyValue> {
    list(&of["attributes"]).map(key_value).collect()
}

fn key_value(entry: &Value) -> KeyValue {
    KeyValue { key: text(&entry["key"]), value: Some(any(&entry["value"])), ..KeyValue::default() }
}

fn any(value: &Value) -> AnyValue {
    let (kind, value) = value.as_object().and_then(|value| value.iter().next()).expect("a value");
    let value = match kind.as_str() {
        "stringValue" => any_value::Value::StringValue(text(value)),
        "boolValue" => any_value::Value::BoolValue(value.as_bool().unwrap_or_default()),
        "intValue" => any_value::Value::IntValue(text(value).parse().expect("a whole number")),
        "doubleValue" => any_value::Value::DoubleValue(value.as_f64().unwrap_or_default()),
        "arrayValue" => any_value::Value::ArrayValue(ArrayValue { values: list(&value["values"]).map(any).collect() }),
        "kvlistValue" => {
            any_value::Value::KvlistValue(KeyValueList { values: list(&value["values"]).map(key_value).collect() })
        }
        other => panic!("{other}"),
    };
    AnyValue { value: Some(value) }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn base64(id: &Value) -> Vec<u8> {
    STANDARD.decode(id.as_str().unwrap_or_default()).expect("base64")
}
