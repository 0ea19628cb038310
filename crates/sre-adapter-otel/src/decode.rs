use sre_core::adapter::{AdapterError, Body, BodyKind};

use crate::request::Request;
use crate::{json, protobuf};

/// Reads a request, in JSON or in protobuf; an empty one of protobuf has nothing in it.
pub(crate) fn read(body: &[u8], kind: BodyKind) -> Result<Request, AdapterError> {
    let mut request = Request::default();
    // No protobuf of OTLP begins with a brace: it would be a group, which OTLP has none of.
    let is_json =
        body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"'));
    if is_json {
        json::read(body, &mut request)?;
    } else if kind == BodyKind::Logs {
        protobuf::logs(body, &mut request)?;
    } else {
        protobuf::traces(body, &mut request)?;
    }
    Ok(request)
}

/// Reads a body that holds one request.
pub(crate) fn decode(body: Body) -> Result<Body, AdapterError> {
    if body.kind == BodyKind::Lines {
        return Ok(body);
    }
    let request = read(&body.bytes, body.kind)?;
    Ok(body.with_decoded(request))
}
