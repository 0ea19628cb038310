//! The bodies of OTLP/JSON, as the OpenAPI document describes them: the fields that the service reads. Others may be present.

use utoipa::openapi::schema::{AnyOfBuilder, SchemaType};
use utoipa::openapi::{ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// An export request of traces.
pub(super) struct TracesJson;

/// An export request of logs.
pub(super) struct LogsJson;

/// An export request of metrics.
pub(super) struct MetricsJson;

impl PartialSchema for TracesJson {
    fn schema() -> RefOr<Schema> {
        let event = object([("name", text("")), ("timeUnixNano", nanos())]);
        let span = object([
            ("traceId", text("16 bytes in hex, or in base64. A span without is rejected.")),
            ("spanId", text("8 bytes in hex, or in base64. A span without is rejected.")),
            ("parentSpanId", text("8 bytes in hex, or in base64.")),
            ("name", text("")),
            ("flags", ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX)).into()),
            ("kind", number_or_name()),
            ("startTimeUnixNano", nanos()),
            ("endTimeUnixNano", nanos()),
            ("attributes", list(attribute())),
            ("events", list(event)),
            ("status", object([("code", number_or_name()), ("message", text(""))])),
        ]);
        request("resourceSpans", resource([("scopeSpans", list(object([("spans", list(span))])))]))
    }
}

impl PartialSchema for LogsJson {
    fn schema() -> RefOr<Schema> {
        let record = object([
            ("eventName", text("")),
            ("timeUnixNano", nanos()),
            ("observedTimeUnixNano", nanos()),
            ("traceId", text("16 bytes in hex, or in base64.")),
            ("spanId", text("8 bytes in hex, or in base64.")),
            ("attributes", list(attribute())),
        ]);
        request("resourceLogs", resource([("scopeLogs", list(object([("logRecords", list(record))])))]))
    }
}

impl PartialSchema for MetricsJson {
    fn schema() -> RefOr<Schema> {
        let data = || object([("dataPoints", list(object([])))]);
        let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
        let metrics = list(object(kinds.map(|kind| (kind, data()))));
        object([("resourceMetrics", list(object([("scopeMetrics", list(object([("metrics", metrics)])))])))])
    }
}

impl ToSchema for TracesJson {}
impl ToSchema for LogsJson {}
impl ToSchema for MetricsJson {}

/// An object without fields, or with the list `name`: one of other fields only is probably no export request.
fn request(name: &str, element: RefOr<Schema>) -> RefOr<Schema> {
    let empty = ObjectBuilder::new().schema_type(Type::Object).max_properties(Some(0));
    let request = ObjectBuilder::new().schema_type(Type::Object).property(name, list(element)).required(name);
    AnyOfBuilder::new().item(empty).item(request).into()
}

fn resource<const N: usize>(fields: [(&str, RefOr<Schema>); N]) -> RefOr<Schema> {
    let resource = ("resource", object([("attributes", list(attribute()))]));
    object(std::iter::once(resource).chain(fields))
}

fn attribute() -> RefOr<Schema> {
    let number = |string: &str| {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        let string = ObjectBuilder::new().schema_type(Type::String).pattern(Some(string));
        OneOfBuilder::new().item(number).item(string).item(ObjectBuilder::new().schema_type(Type::Null)).into()
    };
    let value = object([
        ("stringValue", nullable(Type::String)),
        ("intValue", number("^-?[0-9]{1,19}$")),
        ("doubleValue", number("^(-?[0-9]{1,15}(\\.[0-9]{1,15})?|NaN|-?Infinity)$")),
        ("boolValue", nullable(Type::Boolean)),
    ]);
    object([("key", text("")), ("value", value)])
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, RefOr<Schema>)>) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    fields.into_iter().fold(object, |object, (name, schema)| object.property(name, schema)).into()
}

/// `null` is an empty list.
fn list(items: RefOr<Schema>) -> RefOr<Schema> {
    let types = SchemaType::from_iter([Type::Array, Type::Null]);
    ArrayBuilder::new().schema_type(types).items(items).into()
}

fn nullable(kind: Type) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null])).into()
}

fn text(description: &str) -> RefOr<Schema> {
    let description = Some(description).filter(|description| !description.is_empty());
    ObjectBuilder::new().schema_type(Type::String).description(description).into()
}

/// Nanoseconds since the Unix epoch.
fn nanos() -> RefOr<Schema> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u64::MAX));
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{1,19}$"));
    OneOfBuilder::new().item(number).item(text).into()
}

/// An enum by number or by name.
fn number_or_name() -> RefOr<Schema> {
    let format = Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
    let number = ObjectBuilder::new().schema_type(Type::Integer).format(format);
    let number = number.minimum(Some(i64::MIN)).maximum(Some(i64::MAX));
    OneOfBuilder::new().item(number).item(ObjectBuilder::new().schema_type(Type::String)).into()
}
