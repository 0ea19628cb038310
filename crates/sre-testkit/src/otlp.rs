//! Reads OTLP requests that an exporter sent.

use std::io::Read;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
pub use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use wiremock::{Request, ResponseTemplate};

use crate::conformance::ArrivedSpan;

/// Returns a body, decompressed.
///
/// # Panics
/// Panics if it is not gzip although a header says so.
pub fn body(request: &Request) -> Vec<u8> {
    decompressed(request.headers.contains_key("content-encoding"), &request.body)
}

fn decompressed(is_gzip: bool, body: &[u8]) -> Vec<u8> {
    if !is_gzip {
        return body.to_vec();
    }
    let mut decompressed = Vec::new();
    GzDecoder::new(body).read_to_end(&mut decompressed).expect("a body of gzip");
    decompressed
}

/// Returns the trace request in a body.
///
/// # Panics
/// Panics if there is none.
pub fn trace_request(request: &Request) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*body(request)).expect("a trace request in protobuf")
}

/// Returns the trace request in the compressed body of a request that a test's own client received.
///
/// # Panics
/// Panics if there is none.
pub fn compressed_trace_request(body: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*decompressed(true, body)).expect("a trace request in protobuf")
}

/// Returns the metrics request in the compressed body of a request that a test's own client received.
///
/// # Panics
/// Panics if there is none.
pub fn compressed_metrics_request(body: &[u8]) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest::decode(&*decompressed(true, body)).expect("a metrics request in protobuf")
}

/// Returns the spans in a body.
///
/// # Panics
/// Panics if the body is not a trace request, or if a resource has no name of the service.
pub fn spans(request: &Request) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in trace_request(request).resource_spans {
        let attributes = resource.resource.expect("a resource").attributes;
        assert!(attributes.iter().any(|attribute| attribute.key == "service.name"), "{attributes:?}");
        spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    spans
}

/// Returns the points of a gauge in a body, each with its time in Unix nanoseconds.
///
/// # Panics
/// Panics if the body is not a metrics request.
pub fn points(request: &Request, name: &str) -> Vec<(u64, f64)> {
    let request = ExportMetricsServiceRequest::decode(&*body(request)).expect("a metrics request in protobuf");
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics).filter(|metric| metric.name == name);
    let data = metrics.filter_map(|metric| match metric.data? {
        metric::Data::Gauge(gauge) => Some(gauge.data_points),
        _ => None,
    });
    data.flatten()
        .filter_map(|point| match point.value? {
            number_data_point::Value::AsDouble(value) => Some((point.time_unix_nano, value)),
            number_data_point::Value::AsInt(value) => Some((point.time_unix_nano, value as f64)),
        })
        .collect()
}

/// Returns an attribute's value.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref().map(json)
}

fn json(value: &AnyValue) -> Value {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => text.as_str().into(),
        Some(any_value::Value::BoolValue(value)) => (*value).into(),
        Some(any_value::Value::IntValue(value)) => (*value).into(),
        Some(any_value::Value::DoubleValue(value)) => (*value).into(),
        Some(any_value::Value::ArrayValue(array)) => array.values.iter().map(json).collect(),
        Some(any_value::Value::KvlistValue(list)) => list
            .values
            .iter()
            .map(|entry| (entry.key.clone(), entry.value.as_ref().map_or(Value::Null, json)))
            .collect(),
        _ => Value::Null,
    }
}

/// Returns a response that rejects one span.
pub fn rejects_one() -> ResponseTemplate {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".to_owned() };
    let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    ResponseTemplate::new(200).set_body_bytes(body)
}

impl ArrivedSpan {
    /// Reads ids, times and status of a span; not tokens and cost.
    pub fn from_otlp(span: &Span) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self {
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_span_id: Some(hex(&span.parent_span_id)).filter(|id| !id.is_empty()),
            start: span.start_time_unix_nano.cast_signed(),
            end: span.end_time_unix_nano.cast_signed(),
            is_error: span.status.as_ref().is_some_and(|status| status.code == 2),
            usage: None,
        }
    }
}
