use sre_core::adapter::{AdapterError, Body, BodyKind};

use crate::request::Request;
use crate::{json, protobuf};

/// Reads a request in JSON or protobuf. An empty body is a valid, empty protobuf request.
pub(crate) fn read(body: &[u8], kind: BodyKind) -> Result<Request, AdapterError> {
    let mut request = Request::default();
    // An OTLP message in protobuf never begins with a brace: that would start a group, which OTLP does not use.
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

/// Decodes a body that holds one request. The decoded form, stored in the journal, is about a tenth of the body's size.
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
