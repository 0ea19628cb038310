use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as proto};
use prost::Message;
use sre_core::{AdapterError, SpanId, TraceId};

use crate::request::Request;
use crate::span::{Known, RawSpan, Scalar, Span, local_parent, timestamp};

pub(crate) fn traces(body: &[u8], into: &mut Request) -> Result<(), AdapterError> {
    let request = ExportTraceServiceRequest::decode(body).map_err(|error| malformed("traces", &error))?;
    for resource in &request.resource_spans {
        let service = service(resource.resource.as_ref().map(|resource| resource.attributes.as_slice()));
        let service = into.service(service);
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            into.add_span(read(span), service);
        }
    }
    Ok(())
}

pub(crate) fn logs(body: &[u8], into: &mut Request) -> Result<(), AdapterError> {
    let request = ExportLogsServiceRequest::decode(body).map_err(|error| malformed("logs", &error))?;
    for resource in &request.resource_logs {
        let service = service(resource.resource.as_ref().map(|resource| resource.attributes.as_slice()));
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            let known = known(&record.attributes);
            let nanos = if record.time_unix_nano == 0 { record.observed_time_unix_nano } else { record.time_unix_nano };
            let place = (trace_id(&record.trace_id), span_id(&record.span_id));
            into.add_log(&record.event_name, timestamp(nanos), place, &known, service);
        }
    }
    Ok(())
}

fn malformed(what: &str, error: &prost::DecodeError) -> AdapterError {
    AdapterError::Malformed(format!("found invalid protobuf ({error}), expected an OTLP export request for {what}"))
}

fn read(span: &proto::Span) -> Option<(TraceId, Span)> {
    let raw = RawSpan {
        id: span_id(&span.span_id)?,
        parent: local_parent(span_id(&span.parent_span_id), span.flags),
        name: &span.name,
        is_client: span.kind == SpanKind::Client as i32,
        start: timestamp(span.start_time_unix_nano)?,
        end: timestamp(span.end_time_unix_nano)?,
        failed: span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32),
        status_message: span.status.as_ref().map_or("", |status| &status.message),
    };
    let events = span.events.iter().filter_map(|event| Some((event.name.as_str(), timestamp(event.time_unix_nano)?)));
    let read = Span::read(&raw, &known(&span.attributes), events)?;
    Some((trace_id(&span.trace_id)?, read))
}

/// Returns `None` for an id of all zeros.
fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    TraceId::from_bytes(bytes.try_into().ok()?)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::from_bytes(bytes.try_into().ok()?)
}

fn known(attributes: &[KeyValue]) -> Known<'_> {
    let mut known = Known::with_capacity(attributes.len());
    for attribute in attributes {
        known.add(&attribute.key, scalar(attribute.value.as_ref()));
    }
    known
}

fn scalar(value: Option<&AnyValue>) -> Scalar<'_> {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => Scalar::Text(text),
        Some(Value::IntValue(number)) => Scalar::Int(*number),
        Some(Value::DoubleValue(number)) => Scalar::Float(*number),
        Some(Value::BoolValue(flag)) => Scalar::Bool(*flag),
        _ => Scalar::Other,
    }
}

fn service(attributes: Option<&[KeyValue]>) -> Option<&str> {
    let attribute = attributes?.iter().find(|attribute| attribute.key == "service.name")?;
    match scalar(attribute.value.as_ref()) {
        Scalar::Text(name) => Some(name),
        _ => None,
    }
}
