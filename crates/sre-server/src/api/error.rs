use std::time::Duration;

use axum::Json;
use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use prost::Message;
use serde::Serialize;

use crate::pipeline::NotTaken;

/// A request that is not done, and what its sender should know.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

/// The form in which OTLP tells errors, as protobuf: `google.rpc.Status`.
#[derive(Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Too much is under way.
    pub(crate) fn busy() -> Self {
        let message = "too much is being taken in at the moment: try again";
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).after(Duration::from_secs(1))
    }

    /// It cannot be done now, and perhaps after a while.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).after(retry_after)
    }

    fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// As an OTLP exporter understands it.
    pub(crate) fn into_otlp(self, as_protobuf: bool) -> Response {
        let status = Status { code: self.grpc_code(), message: self.message.clone() };
        let body = if as_protobuf {
            ([(header::CONTENT_TYPE, "application/x-protobuf")], status.encode_to_vec()).into_response()
        } else {
            Json(serde_json::json!({"code": status.code, "message": status.message})).into_response()
        };
        self.around(body)
    }

    fn grpc_code(&self) -> i32 {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            StatusCode::REQUEST_TIMEOUT => 4,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            status if status.is_client_error() => 3,
            _ => 13,
        }
    }

    fn around(&self, mut response: Response) -> Response {
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

impl From<NotTaken> for ApiError {
    fn from(reason: NotTaken) -> Self {
        match reason {
            NotTaken::Busy => Self::busy(),
            NotTaken::Journal(error) => {
                // The path of a file is nobody's affair outside.
                let message = format!("what was sent cannot be kept ({}): try again", error.reason);
                Self::unavailable(message, Duration::from_secs(5))
            }
            NotTaken::Stopping => Self::unavailable("the service is about to stop: try again", Duration::from_secs(2)),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.around(Json(Body { error: &self.message }).into_response())
    }
}

pub(crate) async fn no_such_address(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("found nothing at {}: /openapi.json lists the addresses", uri.path()))
}
