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

/// Decodes a body that holds one request. What a journal keeps of it is about a tenth of what came.
pub(crate) fn decode(body: Body) -> Result<Body, AdapterError> {
    match body.kind {
        BodyKind::Lines => Ok(body),
        BodyKind::Decoded => {
            let request = Request::restore(&body.bytes)?;
            Ok(Body::decoded(body.bytes, request))
        }
        kind => {
            let request = read(&body.bytes, kind)?;
            Ok(Body::decoded(request.save()?, request))
        }
    }
}
