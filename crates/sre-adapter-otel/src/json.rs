//! OTLP in JSON: ids in hex and enums by number or, in protobuf's own JSON form, ids in base64 and enums by name.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use sre_core::{AdapterError, SpanId, TraceId};

use crate::request::Request as Into;
use crate::span::{Known, RawSpan, Scalar, Span, local_parent, timestamp};

pub(crate) fn read(body: &[u8], into: &mut Into) -> Result<(), AdapterError> {
    let request: Request<'_> = serde_json::from_slice(body)?;
    if request.resource_spans.is_none() && request.resource_logs.is_none() && request.resource_metrics.is_none() {
        let message = "found no `resourceSpans` or `resourceLogs`, expected an OTLP export request";
        return Err(AdapterError::Malformed(message.to_owned()));
    }
    for resource in request.resource_spans.iter().flatten() {
        let service = into.service(resource.resource.service());
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            into.add_span(read_span(span), service);
        }
    }
    for resource in request.resource_logs.iter().flatten() {
        let service = resource.resource.service();
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            let nanos =
                if record.time_unix_nano.0 == 0 { record.observed_time_unix_nano.0 } else { record.time_unix_nano.0 };
            let place = (trace_id(&record.trace_id), span_id(&record.span_id));
            into.add_log(&record.event_name, timestamp(nanos), place, &known(&record.attributes), service);
        }
    }
    Ok(())
}

fn read_span(span: &JsonSpan<'_>) -> Option<(TraceId, Span)> {
    let raw = RawSpan {
        id: span_id(&span.span_id)?,
        parent: local_parent(span_id(&span.parent_span_id), span.flags),
        name: &span.name,
        is_client: matches!(&span.kind, Enum::Number(3)) || span.kind.is_named("SPAN_KIND_CLIENT"),
        start: timestamp(span.start_time_unix_nano.0)?,
        end: timestamp(span.end_time_unix_nano.0)?,
        failed: matches!(&span.status.code, Enum::Number(2)) || span.status.code.is_named("STATUS_CODE_ERROR"),
        status_message: &span.status.message,
    };
    let events = span.events.iter().filter_map(|event| Some((&*event.name, timestamp(event.time_unix_nano.0)?)));
    let read = Span::read(&raw, &known(&span.attributes), events)?;
    Some((trace_id(&span.trace_id)?, read))
}

/// Reads an id in hex, or in base64, which is shorter.
fn trace_id(text: &str) -> Option<TraceId> {
    if text.len() == 32 { text.parse().ok() } else { TraceId::from_bytes(base64(text)?) }
}

fn span_id(text: &str) -> Option<SpanId> {
    if text.len() == 16 { text.parse().ok() } else { SpanId::from_bytes(base64(text)?) }
}

fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn known<'a>(attributes: &'a [Attribute<'_>]) -> Known<'a> {
    let mut known = Known::with_capacity(attributes.len());
    for attribute in attributes {
        known.add(&attribute.key, attribute.value.scalar());
    }
    known
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    resource_spans: Option<Vec<ResourceSpans<'a>>>,
    #[serde(borrow)]
    resource_logs: Option<Vec<ResourceLogs<'a>>>,
    resource_metrics: Option<de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    #[serde(borrow, default)]
    resource: Resource<'a>,
    #[serde(borrow, default)]
    scope_spans: Vec<ScopeSpans<'a>>,
}

#[derive(Default, Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
}

impl Resource<'_> {
    fn service(&self) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.key == "service.name")?
            .value
            .string_value
            .as_ref()
            .map(|text| &*text.0)
    }
}

#[derive(Deserialize)]
struct ScopeSpans<'a> {
    #[serde(borrow, default)]
    spans: Vec<JsonSpan<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan<'a> {
    #[serde(borrow, default)]
    trace_id: Cow<'a, str>,
    #[serde(borrow, default)]
    span_id: Cow<'a, str>,
    #[serde(borrow, default)]
    parent_span_id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    flags: u32,
    #[serde(default)]
    kind: Enum,
    #[serde(default)]
    start_time_unix_nano: Nanos,
    #[serde(default)]
    end_time_unix_nano: Nanos,
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
    #[serde(borrow, default)]
    events: Vec<SpanEvent<'a>>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanEvent<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    time_unix_nano: Nanos,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(default)]
    code: Enum,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    #[serde(borrow, default)]
    resource: Resource<'a>,
    #[serde(borrow, default)]
    scope_logs: Vec<ScopeLogs<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    #[serde(borrow, default)]
    log_records: Vec<LogRecord<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord<'a> {
    #[serde(borrow, default)]
    event_name: Cow<'a, str>,
    #[serde(default)]
    time_unix_nano: Nanos,
    #[serde(default)]
    observed_time_unix_nano: Nanos,
    #[serde(borrow, default)]
    trace_id: Cow<'a, str>,
    #[serde(borrow, default)]
    span_id: Cow<'a, str>,
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: AnyValue<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue<'a> {
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
    int_value: Option<Number>,
    double_value: Option<Number>,
    bool_value: Option<bool>,
}

/// A string that borrows even inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl AnyValue<'_> {
    fn scalar(&self) -> Scalar<'_> {
        match self {
            Self { string_value: Some(text), .. } => Scalar::Text(&text.0),
            Self { int_value: Some(number), .. } => Scalar::Int(number.0 as i64),
            Self { double_value: Some(number), .. } => Scalar::Float(number.0),
            Self { bool_value: Some(flag), .. } => Scalar::Bool(*flag),
            _ => Scalar::Other,
        }
    }
}

/// An enum by number or by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Enum {
    Number(i64),
    Name(String),
}

impl Enum {
    fn is_named(&self, wanted: &str) -> bool {
        matches!(self, Self::Name(name) if name == wanted)
    }
}

impl Default for Enum {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Nanoseconds as a string, as JSON represents 64-bit numbers, or as a number.
#[derive(Clone, Copy, Default)]
struct Nanos(u64);

/// A number, or a string that holds one.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NanosVisitor;
        impl Visitor<'_> for NanosVisitor {
            type Value = Nanos;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nanoseconds since the Unix epoch, as a number or a string")
            }

            fn visit_u64<E>(self, nanos: u64) -> Result<Nanos, E> {
                Ok(Nanos(nanos))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Nanos, E> {
                text.parse().map(Nanos).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NanosVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a string that holds one")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}
