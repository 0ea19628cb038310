use sre_core::adapter::{AdapterError, Body, BodyKind};

use crate::request::Request;
use crate::{json, protobuf};

/// Reads a request in JSON or protobuf. An empty body is a valid, empty protobuf request.
pub(crate) fn read(body: &[u8], kind: BodyKind) -> Result<Request, AdapterError> {
    let mut request = Request::of_body(body.len());
    if is_json(body) {
        json::read(body, &mut request)?;
    } else if kind == BodyKind::Logs {
        protobuf::logs(body, &mut request)?;
    } else {
        protobuf::traces(body, &mut request)?;
    }
    Ok(request)
}

/// Returns whether a body is JSON. An OTLP message in protobuf never begins with a brace: that would start a group, which
/// OTLP does not use. It may begin with a line feed, the key of its first field, and a length that looks like a brace.
fn is_json(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let looks_like_json = first.is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"'));
    looks_like_json && !(body.starts_with(b"\n") && protobuf::is_request(body))
}

/// Returns the number of data points in an export request of metrics, in protobuf or JSON. Takes hardly any memory.
///
/// # Errors
///
/// Returns an error if the body is no such request.
///
/// ```
/// let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","gauge":{"dataPoints":[{},{}]}}]}]}]}"#;
/// assert_eq!(sre_adapter_otel::data_points(body).unwrap(), 2);
/// assert!(sre_adapter_otel::data_points(b"[null,null]").is_err());
/// ```
pub fn data_points(body: &[u8]) -> Result<u64, AdapterError> {
    if is_json(body) { json::data_points(body) } else { protobuf::data_points(body) }
}

/// Decodes a body that holds one request. The decoded form, stored in the journal, is about a tenth of the body's size.
pub(crate) fn decode(body: Body) -> Result<Body, AdapterError> {
    let (bytes, request) = match body.kind {
        BodyKind::Lines => return Ok(body),
        BodyKind::Decoded => {
            let request = Request::restore(&body.bytes)?;
            (body.bytes, request)
        }
        kind => {
            let request = read(&body.bytes, kind)?;
            (request.save()?.into(), request)
        }
    };
    let size = request.size;
    Ok(Body::decoded(bytes, request).with_decoded_size(size))
}
