//! OTLP/gRPC, on the same address as HTTP.
//!
//! Messages are read here instead of by tonic, so that their memory counts as it does for bodies over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::{Code, Status};

use super::body::{BufferedBody, decompress, receive};
use super::error::ApiError;
use super::ingest::count_refusal;
use super::otlp::Signal;
use crate::app::AppState;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Length of a message's prefix: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub(crate) fn routes() -> Router<Arc<AppState>> {
    Router::new().route(TRACES, post(export)).route(LOGS, post(export)).route(METRICS, post(export))
}

async fn export(State(state): State<Arc<AppState>>, request: Request) -> http::Response<Body> {
    let (head, body) = request.into_parts();
    let signal = match head.uri.path() {
        TRACES => Signal::Traces,
        LOGS => Signal::Logs,
        _ => Signal::Metrics,
    };
    let outcome = async { signal.ingest(&state, read_message(&state, &head.headers, body).await?).await }.await;
    match outcome {
        Ok(rejected) => respond(&signal.protobuf_response(rejected)),
        Err(error) => {
            count_refusal(&state, &error);
            let mut response = status(&error).into_http();
            if error.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip"));
            }
            response
        }
    }
}

/// Reads the only message of a request, within the limits of a body.
///
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
async fn read_message(state: &AppState, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ApiError> {
    let max_body = state.config.server_limits.max_body;
    let BufferedBody { mut bytes, permit } = receive(state, headers, body, max_body + PREFIX).await?;
    let Some((prefix, message)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(ApiError::bad_request("found no message, expected one"));
    };
    let [compressed, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    if length != message.len() {
        let message = format!("found {} bytes after a prefix for {length}, expected one message", message.len());
        return Err(ApiError::bad_request(message));
    }
    let message = BufferedBody { bytes: bytes.split_off(PREFIX), permit };
    let encoding = headers.get(ENCODING).map_or(&b"identity"[..], HeaderValue::as_bytes);
    match (compressed, encoding) {
        (0, _) => Ok(message),
        (1, b"gzip") => decompress(message, max_body).await,
        _ => {
            let encoding = String::from_utf8_lossy(encoding);
            let message = format!("found a message compressed by `grpc-encoding: {encoding}`, expected gzip or none");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// Returns the response with one message, and the status in its trailers.
fn respond(message: &[u8]) -> http::Response<Body> {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or_default());
    framed.put_slice(message);
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
    let body = Full::<Bytes>::from(framed.freeze()).with_trailers(async { Some(Ok(trailers)) });
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn status(error: &ApiError) -> Status {
    let status = error.rpc_status();
    Status::with_details(Code::from_i32(status.code), &error.message, status.encode_to_vec().into())
}
