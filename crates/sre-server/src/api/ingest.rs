use std::sync::atomic::Ordering;

use agent_sre::Format;
use agent_sre::adapter::{self, BodyKind};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use utoipa_axum::routes;

use super::AppRef;
use super::body::{BufferedBody, read_body};
use super::error::{ApiError, ErrorBody};
use super::extract::Path;
use super::openapi::{ApiRouter, Binary, INGEST_ERRORS, with_errors};
use crate::app::AppState;
use crate::batch::{Batch, key_of};
use crate::processor::BatchReport;

pub(super) fn routes() -> ApiRouter {
    let routes = ApiRouter::default().routes(routes!(events));
    with_errors(routes, INGEST_ERRORS, &[("application/json", ErrorBody::reference())])
}

/// The schema of a format's name.
struct FormatName;

impl PartialSchema for FormatName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Format::all().map(|format| format.to_string())))
            .into()
    }
}

impl ToSchema for FormatName {}

/// Describes the headers of a request with events.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes")]
struct SenderHeaders {
    /// A request sent again with the same key and body counts once.
    #[param(rename = "Idempotency-Key", value_type = String, required = false)]
    idempotency_key: (),
    /// How many events the sender has lost since it last reported that.
    #[param(rename = "Sre-Lost-Events", value_type = u32, required = false)]
    lost_events: (),
}

/// Events in the format of any adapter, one record per line
#[utoipa::path(
    post, path = "/v1/events/{format}",
    params(
        ("format" = inline(FormatName), Path, description = "The format."),
        SenderHeaders
    ),
    request_body(
        content = inline(Binary), content_type = "application/x-ndjson",
        description = "Records, one on each line; gzip is accepted. Malformed lines are counted in the response."
    ),
    responses(
        (status = 200, description = "The records are processed and durable.", body = BatchReport),
        (status = 404, description = "No adapter reads this format.", body = ErrorBody)
    )
)]
async fn events(
    State(state): AppRef,
    Path(format): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BatchReport>, ApiError> {
    let format: Format =
        format.parse().map_err(|error| ApiError::new(StatusCode::NOT_FOUND, format!("format: {error}")))?;
    let outcome = async {
        let lost = lost_events(&headers)?;
        let BufferedBody { bytes, mut permit } = read_body(&state, &headers, body).await?;
        // For the journal's copy, and the record that is being read.
        permit.acquire(3 * bytes.len()).await?;
        // The body is part of the key, so that two clients with the same key do not lose records.
        let key =
            headers.get("idempotency-key").map(|key| key_of(&[format.as_str().as_bytes(), key.as_bytes(), &bytes]));
        let body = adapter::Body::new(BodyKind::Lines, bytes);
        let batch = Batch::new(format, body, key).with_memory(permit);
        let report = send(&state, batch).await?;
        if !report.repeated {
            state.shared.counters.lost_by_senders.fetch_add(lost, Ordering::Relaxed);
        }
        Ok(report)
    }
    .await;
    outcome.map(Json).inspect_err(|error| count_refusal(&state, error))
}

/// Returns how many events the sender reports as lost.
fn lost_events(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(value) = headers.get("sre-lost-events") else { return Ok(0) };
    let count = value.to_str().ok().and_then(|count| count.parse::<u32>().ok());
    let expected = || ApiError::bad_request(format!("Sre-Lost-Events: found {value:?}, expected a number of 32 bits"));
    count.map(u64::from).ok_or_else(expected)
}

/// Sends a batch through the pipeline, and returns once it is processed and durable.
pub(super) async fn send(state: &AppState, batch: Batch) -> Result<BatchReport, ApiError> {
    let outcome = state.pipeline.send(batch)?.await.map_err(|_| {
        let message = "internal error: the outcome of the batch is unknown; please report this bug";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    Ok(outcome?)
}

pub(super) fn count_refusal(state: &AppState, error: &ApiError) {
    if error.status == StatusCode::TOO_MANY_REQUESTS {
        state.shared.refused.fetch_add(1, Ordering::Relaxed);
    }
}
