use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_sre::adapter::{self, BodyKind};
use agent_sre::{Clock, Format, SystemClock};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use serde_json::{Value, json};

use super::body::{BufferedBody, off_the_runtime, whole};
use super::error::ApiError;
use super::ingest::{count_refusal, send};
use crate::app::AppState;
use crate::batch::{Batch, key_of};

type Ctx = State<Arc<AppState>>;

pub(crate) async fn traces(State(context): Ctx, headers: HeaderMap, body: Body) -> Response {
    Signal::Traces.respond(&context, &headers, body).await
}

pub(crate) async fn logs(State(context): Ctx, headers: HeaderMap, body: Body) -> Response {
    Signal::Logs.respond(&context, &headers, body).await
}

pub(crate) async fn metrics(State(context): Ctx, headers: HeaderMap, body: Body) -> Response {
    Signal::Metrics.respond(&context, &headers, body).await
}

/// OTLP/HTTP's two forms.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Protobuf,
    Json,
}

impl Form {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            other => {
                let expected = "application/x-protobuf or application/json";
                let message = format!("found `Content-Type: {other}`, expected {expected}");
                Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
            }
        }
    }

    /// How many points a request of metrics has.
    fn points(self, bytes: &[u8]) -> Result<u64, ApiError> {
        let points = match self {
            Self::Protobuf => ExportMetricsServiceRequest::decode(bytes)
                .map(|request| points(&request))
                .map_err(|error| format!("found no OTLP metrics as protobuf ({error}), expected an export request")),
            Self::Json => {
                serde_json::from_slice(bytes).map(|request| points_as_json(&request)).map_err(|error| error.to_string())
            }
        };
        points.map_err(ApiError::bad_request)
    }
}

/// What an SDK has an exporter for.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Traces,
    Logs,
    /// BatchReport, so that the exporter finds an answer, counted, and otherwise of no use here.
    Metrics,
}

impl Signal {
    /// Answers over HTTP, errors too as OTLP tells them.
    async fn respond(self, context: &AppState, headers: &HeaderMap, body: Body) -> Response {
        let form = match Form::of(headers) {
            Ok(form) => form,
            Err(error) => return error.into_response(),
        };
        let taken = async { self.take(context, whole(context, headers, body).await?, form).await }.await;
        match (taken, form) {
            (Ok(rejected), Form::Protobuf) => {
                ([(header::CONTENT_TYPE, "application/x-protobuf")], self.protobuf(rejected)).into_response()
            }
            (Ok(rejected), Form::Json) => Json(self.json(rejected)).into_response(),
            (Err(error), form) => {
                count_refusal(context, &error);
                error.into_otlp(form == Form::Protobuf)
            }
        }
    }

    /// Takes a request in: how many of its records were passed over.
    pub(crate) async fn take(self, context: &AppState, body: BufferedBody, form: Form) -> Result<u64, ApiError> {
        let kind = match self {
            Self::Traces => BodyKind::Traces,
            Self::Logs => BodyKind::Logs,
            Self::Metrics => {
                count_unused(context, form.points(&body.bytes)?);
                return Ok(0);
            }
        };
        let (received, bytes, shared) = (SystemClock.now(), body.bytes.clone(), context.shared.clone());
        let work = move || {
            let format: Format = "otlp".parse().expect("the service is built with it");
            // Exporters send the same bytes again when they have heard nothing: those count once.
            let key = key_of(&[&bytes]);
            Batch::new(format, adapter::Body::new(kind, bytes), Some(key), received).decode(&shared)
        };
        let batch = off_the_runtime(body.bytes.len(), work).await;
        let batch = batch.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let report = send(context, batch).await?.report;
        count_unused(context, report.unused);
        Ok(report.rejected)
    }

    /// The answer, as protobuf; partial success as OTLP defines it.
    pub(crate) fn protobuf(self, rejected: u64) -> Vec<u8> {
        let (any, count, error_message) = (rejected > 0, rejected.cast_signed(), PASSED_OVER.to_owned());
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

    fn json(self, rejected: u64) -> Value {
        let field = match self {
            _ if rejected == 0 => return json!({}),
            Self::Traces => "rejectedSpans",
            Self::Logs => "rejectedLogRecords",
            Self::Metrics => "rejectedDataPoints",
        };
        json!({"partialSuccess": {field: rejected.to_string(), "errorMessage": PASSED_OVER}})
    }
}

const PASSED_OVER: &str = "passed over: records without an id, or with a time, a duration or a cost that cannot be";

/// Counts what is of no use here.
fn count_unused(context: &AppState, records: u64) {
    context.shared.unused.fetch_add(records, Ordering::Relaxed);
}

fn points(request: &ExportMetricsServiceRequest) -> u64 {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let points = scopes.flat_map(|scope| &scope.metrics).map(|metric| match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    });
    points.sum::<usize>() as u64
}

fn points_as_json(request: &Value) -> u64 {
    fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
        value[name].as_array().map_or(&[], Vec::as_slice)
    }
    let scopes = list(request, "resourceMetrics").iter().flat_map(|resource| list(resource, "scopeMetrics"));
    let metrics = scopes.flat_map(|scope| list(scope, "metrics"));
    let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
    metrics.map(|metric| kinds.iter().map(|kind| list(&metric[*kind], "dataPoints").len() as u64).sum::<u64>()).sum()
}
