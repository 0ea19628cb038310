use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use sre_core::{BackendApi, ExportError, ExportReport, HttpClient, Resource, Timestamp};

use crate::{Encoder, Spans};

/// A request with the spans, or metrics, of one resource.
///
/// `ExportTraceServiceRequest` and `ExportMetricsServiceRequest` have the same fields down to their records.
#[derive(Debug)]
pub struct OtlpRequest<'a> {
    /// Resource and scope.
    head: Encoder,
    records: &'a [u8],
}

impl<'a> OtlpRequest<'a> {
    /// Creates a request. `records` are encoded as the field 2 of `ScopeSpans` or `ScopeMetrics`.
    pub fn new(resource: &Resource, records: &'a [u8]) -> Self {
        let mut scope = Encoder::default();
        scope.message(1, |scope| {
            scope.text(1, &["agent-sre"]);
            scope.text(2, &[env!("CARGO_PKG_VERSION")]);
        });
        let mut of_resource = Encoder::default();
        of_resource.message(1, |message| {
            let mut attributes = message.attributes(1);
            resource.attributes.iter().for_each(|(key, value)| attributes.text(key, value.as_str()));
        });
        of_resource.begin(2, scope.as_bytes().len() + records.len());
        let mut head = Encoder::default();
        head.begin(1, of_resource.as_bytes().len() + scope.as_bytes().len() + records.len());
        head.append(&of_resource);
        head.append(&scope);
        Self { head, records }
    }

    /// Returns the request in two parts, one after the other.
    pub fn parts(&self) -> [&[u8]; 2] {
        [self.head.as_bytes(), self.records]
    }
}

/// Posts spans to a path such as `/v1/traces`, and reads the partial success from the response. Without spans, it makes no
/// request.
pub async fn send_spans(
    api: &BackendApi,
    path: &str,
    resource: &Resource,
    spans: &Spans,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<ExportReport, ExportError> {
    if spans.is_empty() {
        return Ok(ExportReport::default());
    }
    let answer = post(api, path, &OtlpRequest::new(resource, spans.as_bytes()), at, http).await?;
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    Ok(partial.map_or_else(
        || ExportReport::accepted(spans.len()),
        |partial| api.report(spans.len(), u64::try_from(partial.rejected_spans).unwrap_or(0), &partial.error_message),
    ))
}

/// Posts a request, compressed. Returns the body of a successful response.
pub async fn post(
    api: &BackendApi,
    path: &str,
    request: &OtlpRequest<'_>,
    at: Timestamp,
    http: &dyn HttpClient,
) -> Result<Bytes, ExportError> {
    let head = api.request(Method::POST, path).header(CONTENT_TYPE, "application/x-protobuf");
    Ok(api.send_gzip(head, &request.parts(), at, http).await?.into_body())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use sre_core::{AgentEvent, EventSpan};

    use super::*;
    use crate::{SpanKind, StatusCode, gen_ai};

    #[test]
    fn prost_reads_a_request() {
        let line = br#"{"event":"tool_call","time":12.5,"agent":"a","task":"t","tool":"search","duration_ms":500,"success":false,"error":"down"}"#;
        let event = AgentEvent::from_json(line).unwrap();
        let place = EventSpan::of(&event).unwrap();
        let mut spans = Spans::with_capacity(2);
        for _ in 0..2 {
            spans.add(|span| {
                let (name, kind) = gen_ai(&event, &place, &mut span.attributes());
                span.name(&name);
                span.kind(kind);
                span.event_span(&place);
                span.exception(&place);
            });
        }
        let resource = Resource::new("tests").with("host.name", "h");
        let bytes = OtlpRequest::new(&resource, spans.as_bytes()).parts().concat();
        let mut request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        assert_eq!(request.encoded_len(), bytes.len(), "nothing is there that is not read");
        let of_resource = request.resource_spans.remove(0);
        assert_eq!(of_resource.resource.unwrap().attributes.len(), 2);
        let scope = &of_resource.scope_spans[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "agent-sre");
        assert_eq!(scope.spans.len(), 2);
        let span = &scope.spans[1];
        assert_eq!(span.trace_id, place.trace_id.to_bytes());
        assert_eq!(span.span_id, place.span_id.to_bytes());
        assert_eq!(span.parent_span_id, place.parent_span_id.unwrap().to_bytes());
        assert_eq!((span.name.as_str(), span.kind()), ("execute_tool search", SpanKind::Internal));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (12_000_000_000, 12_500_000_000));
        let status = span.status.as_ref().unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "down"));
        assert_eq!((span.events[0].name.as_str(), span.events[0].time_unix_nano), ("exception", 12_500_000_000));
        assert_eq!(span.events[0].attributes[0].key, "exception.message");
    }
}
