use std::time::Duration;

use agent_sre::StoreError;
use axum::Json;
use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use prost::Message;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::body_memory::OutOfMemory;
use crate::pipeline::IngestError;

/// An error response.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// How long to wait before a retry.
    pub(crate) retry_after: Option<Duration>,
}

/// An OTLP error in protobuf: `google.rpc.Status`.
#[derive(Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`: how long to wait before a retry. Exporters over gRPC look for it in the details of a status.
#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<WireDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Message)]
struct WireDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

impl RetryInfo {
    fn after(time: Duration) -> Any {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1);
        let info = Self { retry_delay: Some(WireDuration { seconds }) };
        Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: info.encode_to_vec() }
    }
}

/// The error of a failed request.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// The error message.
    error: String,
}

impl ErrorBody {
    /// Returns a reference to the schema.
    pub(super) fn reference() -> RefOr<Schema> {
        Ref::from_schema_name(Self::name()).into()
    }
}

/// The error of a failed OTLP request: `google.rpc.Status` as JSON.
#[derive(Serialize, ToSchema)]
#[schema(as = OtlpError)]
pub(super) struct StatusBody {
    /// The gRPC status code.
    code: i32,
    /// What was found and what was expected.
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Too many requests are in progress.
    pub(crate) fn busy() -> Self {
        let message = "too many requests are in progress; retry later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).after(Duration::from_secs(1))
    }

    /// A temporary failure; the request may succeed after `retry_after`.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).after(retry_after)
    }

    fn of_store(what: &str, error: &StoreError) -> Self {
        // The error itself may name a file, which is not for clients.
        Self::unavailable(format!("{what} ({}); retry later", error.reason()), Duration::from_secs(5))
    }

    /// Says when the request may succeed.
    pub(crate) fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Returns the response in the form that OTLP defines, in protobuf or JSON.
    pub(crate) fn into_otlp(self, as_protobuf: bool) -> Response {
        let status = self.rpc_status();
        let body = if as_protobuf {
            ([(header::CONTENT_TYPE, "application/x-protobuf")], status.encode_to_vec()).into_response()
        } else {
            Json(StatusBody { code: status.code, message: status.message }).into_response()
        };
        self.finish(body)
    }

    /// Returns the status in the form that OTLP defines, for gRPC and for bodies over HTTP.
    pub(crate) fn rpc_status(&self) -> RpcStatus {
        let code = match self.status {
            StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            StatusCode::PAYLOAD_TOO_LARGE => 11,
            StatusCode::REQUEST_TIMEOUT => 4,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => 12,
            status if status.is_client_error() => 3,
            _ => 13,
        };
        let details = self.retry_after.map(RetryInfo::after).into_iter().collect();
        RpcStatus { code, message: self.message.clone(), details }
    }

    /// Sets the status and the headers of a response.
    fn finish(&self, mut response: Response) -> Response {
        *response.status_mut() = self.status;
        if let Some(retry_after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A failed read.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::of_store("read failed", &error)
    }
}

impl From<IngestError> for ApiError {
    fn from(reason: IngestError) -> Self {
        match reason {
            IngestError::Busy => Self::busy(),
            IngestError::Journal(error) => Self::of_store("journal write failed", &error),
            IngestError::Stopping => Self::unavailable("the service is stopping; retry later", Duration::from_secs(2)),
        }
    }
}

impl From<OutOfMemory> for ApiError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::busy()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let response = Json(ErrorBody { error: self.message.clone() }).into_response();
        self.finish(response)
    }
}

pub(crate) async fn not_found(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("no such endpoint: {}; see /openapi.json", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_is_a_temporary_failure_and_names_no_file() {
        let error = ApiError::from(StoreError::unavailable("/data/alerts.db", "disk full"));
        assert_eq!((error.status, error.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(5))));
        assert_eq!(error.message, "read failed (unavailable: disk full); retry later");
    }

    #[test]
    fn grpc_status_tells_exporters_when_to_retry() {
        let status = ApiError::busy().rpc_status().encode_to_vec();
        // Protobuf's encoding: code 8 in field 1, the message in field 2, the type's URL and one second in field 3.
        let message = b"too many requests are in progress; retry later";
        let kind = b"type.googleapis.com/google.rpc.RetryInfo";
        let mut expected = vec![0x08, 8, 0x12, message.len() as u8];
        expected.extend(message);
        expected.extend([0x1a, kind.len() as u8 + 8, 0x0a, kind.len() as u8]);
        expected.extend(kind);
        expected.extend([0x12, 4, 0x0a, 2, 0x08, 1]);
        assert_eq!(status, expected);
    }
}
