use std::sync::atomic::Ordering;

use agent_sre::Format;
use agent_sre::adapter::{self, AdapterError, BodyKind};
use agent_sre::otel::data_points;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::{Value, json};
use utoipa::PartialSchema;
use utoipa_axum::routes;

use super::AppRef;
use super::body::{BufferedBody, off_the_runtime, read_body};
use super::error::{ApiError, ErrorBody, StatusBody};
use super::ingest::{count_refusal, send};
use super::openapi::{ApiRouter, Binary, INGEST_ERRORS, with_errors};
use super::otlp_json::{LogsJson, MetricsJson, TracesJson};
use crate::app::AppState;
use crate::batch::{Batch, key_of};

pub(super) fn routes() -> ApiRouter {
    let routes = ApiRouter::default().routes(routes!(traces)).routes(routes!(logs)).routes(routes!(metrics));
    // An unsupported content type is answered before the encoding of an OTLP error is known.
    let (of_http, of_otlp): (Vec<_>, Vec<_>) =
        INGEST_ERRORS.iter().partition(|(status, _)| *status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let routes = with_errors(routes, &of_http, &[(JSON, ErrorBody::reference())]);
    with_errors(routes, &of_otlp, &[(JSON, StatusBody::schema()), (PROTOBUF, Binary::schema())])
}

/// The paths of OTLP/HTTP.
pub(super) const PATHS: [&str; 3] = ["/v1/traces", "/v1/logs", "/v1/metrics"];

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// OTLP/HTTP: traces
///
/// Spans in any dialect that the adapter reads. The same bytes sent again count once.
#[utoipa::path(
    post, path = "/v1/traces", operation_id = "export_traces",
    request_body(
        description = "An export request; gzip and chunked bodies are accepted.",
        content((inline(Binary) = "application/x-protobuf"), (inline(TracesJson) = "application/json"))
    ),
    responses((
        status = 200, description = "The spans are processed and durable; an OTLP partial success counts rejected ones.",
        content((inline(Binary) = "application/x-protobuf"), (Object = "application/json"))
    ))
)]
async fn traces(State(state): AppRef, headers: HeaderMap, body: Body) -> Response {
    Signal::Traces.respond(&state, &headers, body).await
}

/// OTLP/HTTP: logs
///
/// Evaluation results (`gen_ai.evaluation.result`) are used; other records are only counted.
#[utoipa::path(
    post, path = "/v1/logs", operation_id = "export_logs",
    request_body(
        description = "An export request; gzip and chunked bodies are accepted.",
        content((inline(Binary) = "application/x-protobuf"), (inline(LogsJson) = "application/json"))
    ),
    responses((
        status = 200, description = "The records are processed and durable; an OTLP partial success counts rejected ones.",
        content((inline(Binary) = "application/x-protobuf"), (Object = "application/json"))
    ))
)]
async fn logs(State(state): AppRef, headers: HeaderMap, body: Body) -> Response {
    Signal::Logs.respond(&state, &headers, body).await
}

/// OTLP/HTTP: metrics
///
/// Accepted so that the exporter of an SDK works, and only counted.
#[utoipa::path(
    post, path = "/v1/metrics", operation_id = "export_metrics",
    request_body(
        description = "An export request; gzip and chunked bodies are accepted.",
        content((inline(Binary) = "application/x-protobuf"), (inline(MetricsJson) = "application/json"))
    ),
    responses((
        status = 200, description = "The data points are counted.",
        content((inline(Binary) = "application/x-protobuf"), (Object = "application/json"))
    ))
)]
async fn metrics(State(state): AppRef, headers: HeaderMap, body: Body) -> Response {
    Signal::Metrics.respond(&state, &headers, body).await
}

/// The encoding of an OTLP/HTTP request and its response.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            PROTOBUF => Ok(Self::Protobuf),
            JSON => Ok(Self::Json),
            other => {
                let expected = "application/x-protobuf or application/json";
                let message = format!("found `Content-Type: {other}`, expected {expected}");
                Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
            }
        }
    }

    /// Checks that a body in JSON is an object: other bytes may also be read as protobuf.
    fn check(self, bytes: &[u8]) -> Result<(), ApiError> {
        if self == Self::Json && bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::bad_request("found no JSON object, expected an OTLP export request"));
        }
        Ok(())
    }
}

/// The kinds of OTLP exports.
#[derive(Clone, Copy)]
pub(super) enum Signal {
    Traces,
    Logs,
    /// Only counted.
    Metrics,
}

impl Signal {
    /// Ingests a request over HTTP, and answers in its encoding.
    async fn respond(self, state: &AppState, headers: &HeaderMap, body: Body) -> Response {
        let encoding = match Encoding::of(headers) {
            Ok(encoding) => encoding,
            Err(error) => return error.into_response(),
        };
        let outcome = async {
            let body = read_body(state, headers, body).await?;
            encoding.check(&body.bytes)?;
            self.ingest(state, body).await
        }
        .await;
        match (outcome, encoding) {
            (Ok(rejected), Encoding::Protobuf) => {
                ([(header::CONTENT_TYPE, PROTOBUF)], self.protobuf_response(rejected)).into_response()
            }
            (Ok(rejected), Encoding::Json) => Json(self.json_response(rejected)).into_response(),
            (Err(error), encoding) => {
                count_refusal(state, &error);
                error.into_otlp(encoding == Encoding::Protobuf)
            }
        }
    }

    /// Ingests a request, and returns the number of its rejected records.
    pub(super) async fn ingest(self, state: &AppState, body: BufferedBody) -> Result<u64, ApiError> {
        let BufferedBody { bytes, mut permit } = body;
        let length = bytes.len();
        let kind = match self {
            Self::Traces => BodyKind::Traces,
            Self::Logs => BodyKind::Logs,
            Self::Metrics => {
                let points = off_the_runtime(length, move || {
                    let _permit = permit;
                    data_points(&bytes)
                });
                count_unused(state, points.await.map_err(invalid_body)?);
                return Ok(0);
            }
        };
        permit.acquire(adapter::Body::max_decoded_size(length)).await?;
        let shared = state.shared.clone();
        let work = move || {
            let format: Format = "otlp".parse().expect("the service includes the OTLP adapter");
            // Exporters retry with the same bytes, which must count once.
            let key = key_of(&[&bytes]);
            let batch = Batch::new(format, adapter::Body::new(kind, bytes), Some(key)).decode(&shared)?;
            permit.shrink_to(batch.memory_size());
            Ok(batch.with_memory(permit))
        };
        let batch = off_the_runtime(length, work).await.map_err(invalid_body)?;
        let report = send(state, batch).await?.report;
        count_unused(state, report.unused);
        Ok(report.rejected)
    }

    /// Returns the response in protobuf, with the rejected records as a partial success.
    pub(super) fn protobuf_response(self, rejected: u64) -> Vec<u8> {
        let (any, count, error_message) = (rejected > 0, rejected.cast_signed(), REJECTED.to_owned());
        match self {
            Self::Traces => {
                let partial = ExportTracePartialSuccess { rejected_spans: count, error_message };
                ExportTraceServiceResponse { partial_success: any.then_some(partial) }.encode_to_vec()
            }
            Self::Logs => {
                let partial = ExportLogsPartialSuccess { rejected_log_records: count, error_message };
                ExportLogsServiceResponse { partial_success: any.then_some(partial) }.encode_to_vec()
            }
            Self::Metrics => ExportMetricsServiceResponse::default().encode_to_vec(),
        }
    }

    fn json_response(self, rejected: u64) -> Value {
        let field = match self {
            _ if rejected == 0 => return json!({}),
            Self::Traces => "rejectedSpans",
            Self::Logs => "rejectedLogRecords",
            Self::Metrics => "rejectedDataPoints",
        };
        json!({"partialSuccess": {field: rejected.to_string(), "errorMessage": REJECTED}})
    }
}

fn invalid_body(error: AdapterError) -> ApiError {
    let status = match error {
        AdapterError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, error.to_string())
}

const REJECTED: &str =
    "rejected records without an id, or with a time, duration, cost or number of tokens out of range";

/// Counts records that are not used.
fn count_unused(state: &AppState, records: u64) {
    state.shared.unused.fetch_add(records, Ordering::Relaxed);
}
