use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_sre::otel::Request as OtlpRequest;
use agent_sre::{Clock, Format, SystemClock};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use serde_json::{Value, json};

use super::Context;
use super::body::{Whole, off_the_runtime, whole};
use super::error::ApiError;
use crate::batch::{Batch, key_of};
use crate::engine::Taken;

type Ctx = State<Arc<Context>>;

/// OTLP/HTTP's two forms.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
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

    fn answer(self, protobuf: impl FnOnce() -> Vec<u8>, json: impl FnOnce() -> Value) -> Response {
        match self {
            Self::Protobuf => ([(header::CONTENT_TYPE, "application/x-protobuf")], protobuf()).into_response(),
            Self::Json => Json(json()).into_response(),
        }
    }
}

/// Does what `work` says, and answers as OTLP tells errors.
async fn otlp(
    context: &Context,
    headers: &HeaderMap,
    work: impl AsyncFnOnce(Form) -> Result<Response, ApiError>,
) -> Response {
    let form = match Form::of(headers) {
        Ok(form) => form,
        Err(error) => return error.into_response(),
    };
    work(form).await.unwrap_or_else(|error| {
        count_refusal(context, &error);
        error.into_otlp(form == Form::Protobuf)
    })
}

pub(crate) fn count_refusal(context: &Context, error: &ApiError) {
    if error.status == StatusCode::TOO_MANY_REQUESTS {
        context.shared.refused.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) async fn traces(State(context): Ctx, headers: HeaderMap, body: Body) -> Response {
    otlp(&context, &headers, async |form| {
        let body = whole(&context, &headers, body).await?;
        let read = move |bytes: &[u8]| match form {
            Form::Protobuf => OtlpRequest::read_traces(bytes),
            Form::Json => OtlpRequest::read(bytes),
        };
        let (rejected, _) = take_otlp(&context, body, read).await?;
        let message = rejection(rejected);
        Ok(form.answer(
            || {
                let partial = ExportTracePartialSuccess {
                    rejected_spans: rejected.cast_signed(),
                    error_message: message.clone(),
                };
                let partial_success = (rejected > 0).then_some(partial);
                ExportTraceServiceResponse { partial_success }.encode_to_vec()
            },
            || partial("rejectedSpans", rejected, &message),
        ))
    })
    .await
}

pub(crate) async fn logs(State(context): Ctx, headers: HeaderMap, body: Body) -> Response {
    otlp(&context, &headers, async |form| {
        let body = whole(&context, &headers, body).await?;
        let read = move |bytes: &[u8]| match form {
            Form::Protobuf => OtlpRequest::read_logs(bytes),
            Form::Json => OtlpRequest::read(bytes),
        };
        let (rejected, unused) = take_otlp(&context, body, read).await?;
        count_unused(&context, unused);
        let message = rejection(rejected);
        Ok(form.answer(
            || {
                let partial = ExportLogsPartialSuccess {
                    rejected_log_records: rejected.cast_signed(),
                    error_message: message.clone(),
                };
                ExportLogsServiceResponse { partial_success: (rejected > 0).then_some(partial) }.encode_to_vec()
            },
            || partial("rejectedLogRecords", rejected, &message),
        ))
    })
    .await
}

/// Metrics are taken, so that an SDK's exporter finds an answer, counted, and otherwise of no use here.
pub(crate) async fn metrics(State(context): Ctx, headers: HeaderMap, body: Body) -> Response {
    otlp(&context, &headers, async |form| {
        let body = whole(&context, &headers, body).await?;
        let points = match form {
            Form::Protobuf => ExportMetricsServiceRequest::decode(body.bytes.clone())
                .map(|request| points(&request))
                .map_err(|error| format!("found no OTLP metrics as protobuf ({error}), expected an export request")),
            Form::Json => serde_json::from_slice::<Value>(&body.bytes)
                .map(|request| points_as_json(&request))
                .map_err(|error| error.to_string()),
        };
        count_unused(&context, points.map_err(ApiError::bad_request)?);
        Ok(form.answer(|| ExportMetricsServiceResponse::default().encode_to_vec(), || json!({})))
    })
    .await
}

/// Lines in any format that an adapter reads. With an `Idempotency-Key`, what is sent again counts once.
pub(crate) async fn events(
    State(context): Ctx,
    Path(format): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Taken>, ApiError> {
    let format: Format =
        format.parse().map_err(|error| ApiError::new(StatusCode::NOT_FOUND, format!("the format: {error}")))?;
    let outcome = async {
        let body = whole(&context, &headers, body).await?;
        // With its body: a key that somebody else uses too must not swallow anything.
        let key = headers
            .get("idempotency-key")
            .map(|key| key_of(&[format.as_str().as_bytes(), key.as_bytes(), &body.bytes]));
        let batch = Batch::lines(format, body.bytes.clone(), key, SystemClock.now());
        send(&context, batch).await
    }
    .await;
    outcome.map(Json).inspect_err(|error| count_refusal(&context, error))
}

/// Reads and takes in a request: how many records were passed over, and how many were of no use.
pub(crate) async fn take_otlp(
    context: &Context,
    body: Whole,
    read: impl FnOnce(&[u8]) -> Result<OtlpRequest, agent_sre::AdapterError> + Send + 'static,
) -> Result<(u64, u64), ApiError> {
    let received = SystemClock.now();
    let bytes = body.bytes.clone();
    // Exporters send the same bytes again when they have heard nothing: those count once.
    let work = move || {
        read(&bytes).map(|request| (request.unknown(), Batch::otlp(request, Some(key_of(&[&bytes])), received)))
    };
    let read = off_the_runtime(body.bytes.len(), work).await;
    let (unknown, batch) = read.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let batch = batch.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok((send(context, batch).await?.rejected, unknown))
}

async fn send(context: &Context, batch: Batch) -> Result<Taken, ApiError> {
    let lost =
        || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody knows what became of it: this is a bug of ours");
    let outcome = context.pipeline.send(batch)?.await.map_err(|_| lost())?;
    Ok(outcome?)
}

pub(crate) fn rejection(rejected: u64) -> String {
    if rejected == 0 {
        return String::new();
    }
    "passed over: records without an id, or with a time, a duration or a cost that cannot be".to_owned()
}

fn partial(field: &str, rejected: u64, message: &str) -> Value {
    if rejected == 0 {
        return json!({});
    }
    json!({"partialSuccess": {field: rejected.to_string(), "errorMessage": message}})
}

/// Counts what is of no use here.
pub(crate) fn count_unused(context: &Context, records: u64) {
    context.shared.unused.fetch_add(records, Ordering::Relaxed);
}

pub(crate) fn points(request: &ExportMetricsServiceRequest) -> u64 {
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
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let scopes = list(request, "resourceMetrics").into_iter().flat_map(|resource| list(&resource, "scopeMetrics"));
    let metrics = scopes.flat_map(|scope| list(&scope, "metrics"));
    let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
    metrics.map(|metric| kinds.iter().map(|kind| list(&metric[*kind], "dataPoints").len() as u64).sum::<u64>()).sum()
}
