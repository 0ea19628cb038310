use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use sre_core::{BackendApi, EventSpan, ExportError, ExportReport, HttpClient, Resource, Timestamp};

use crate::Attributes;

/// Creates the span of an event. A failed one has the event's error as its status.
pub fn span(place: &EventSpan<'_>, name: String, kind: SpanKind, attributes: Attributes) -> Span {
    let failed = place.outcome == Some(false);
    let status = || Status { message: place.error.unwrap_or_default().to_owned(), code: StatusCode::Error.into() };
    Span {
        trace_id: place.trace_id.to_bytes().to_vec(),
        span_id: place.span_id.to_bytes().to_vec(),
        parent_span_id: place.parent_span_id.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        start_time_unix_nano: unix_nanos(place.start),
        end_time_unix_nano: unix_nanos(place.end),
        attributes: attributes.into_inner(),
        status: failed.then(status),
        ..Span::default()
    }
}

/// Sets the status of a span that succeeded to OK, for backends that show a span without a status as unfinished.
pub fn set_ok(span: &mut Span, place: &EventSpan<'_>) {
    if place.outcome == Some(true) {
        span.status = Some(Status { code: StatusCode::Ok.into(), ..Status::default() });
    }
}

/// Adds the error of an event to its span as OpenTelemetry's event `exception`, which several backends show.
pub fn add_exception(span: &mut Span, place: &EventSpan<'_>) {
    if let Some(error) = place.error.filter(|_| place.outcome == Some(false)) {
        let mut attributes = Attributes::default();
        attributes.text("exception.message", error);
        span.events.push(Event {
            name: "exception".to_owned(),
            time_unix_nano: unix_nanos(place.end),
            attributes: attributes.into_inner(),
            ..Event::default()
        });
    }
}

/// Creates the request with these spans.
pub fn trace_request(resource: v1::Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

/// Posts spans to a path such as `/v1/traces`, and reads the partial success from the response. Without spans, it makes no
/// request.
pub async fn send_spans(
    api: &BackendApi,
    path: &str,
    resource: v1::Resource,
    spans: Vec<Span>,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<ExportReport, ExportError> {
    let count = spans.len();
    if count == 0 {
        return Ok(ExportReport::default());
    }
    let answer = post(api, path, &trace_request(resource, spans), at, http).await?;
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    Ok(partial.map_or_else(
        || ExportReport::accepted(count),
        |partial| api.report(count, u64::try_from(partial.rejected_spans).unwrap_or(0), &partial.error_message),
    ))
}

/// Posts a message, compressed. Returns the body of a successful response.
pub async fn post(
    api: &BackendApi,
    path: &str,
    message: &impl Message,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<Bytes, ExportError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(&message.encode_to_vec());
    let body = written.and_then(|()| encoder.finish()).map_err(|error| api.invalid(error))?;
    let request = api.request(Method::POST, path);
    let request = request.header(CONTENT_TYPE, "application/x-protobuf").header(CONTENT_ENCODING, "gzip");
    Ok(api.send(request, body, at, http).await?.into_body())
}

/// Converts a resource.
pub fn resource(resource: &Resource) -> v1::Resource {
    let mut attributes = Attributes::default();
    resource.attributes.iter().for_each(|(key, value)| attributes.text(key, value.as_str()));
    v1::Resource { attributes: attributes.into_inner(), ..v1::Resource::default() }
}

/// Returns the scope of everything that agent-sre sends.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "agent-sre".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Returns nanoseconds since the Unix epoch. OTLP has no time before 1970.
pub fn unix_nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(0)
}
