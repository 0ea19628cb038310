use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_sre::adapter::{self, BodyKind};
use agent_sre::{Clock, Format, SystemClock};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};

use super::body::whole;
use super::error::ApiError;
use crate::app::AppState;
use crate::batch::{Batch, key_of};
use crate::processor::BatchReport;

/// Lines in any format that an adapter reads. With an `Idempotency-Key`, what is sent again counts once.
pub(crate) async fn events(
    State(context): State<Arc<AppState>>,
    Path(format): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BatchReport>, ApiError> {
    let format: Format =
        format.parse().map_err(|error| ApiError::new(StatusCode::NOT_FOUND, format!("the format: {error}")))?;
    let outcome = async {
        let whole = whole(&context, &headers, body).await?;
        // With its body: a key that somebody else uses too must not swallow anything.
        let key = headers
            .get("idempotency-key")
            .map(|key| key_of(&[format.as_str().as_bytes(), key.as_bytes(), &whole.bytes]));
        let body = adapter::Body::new(BodyKind::Lines, whole.bytes.clone());
        let batch = Batch::new(format, body, key, SystemClock.now());
        send(&context, batch).await
    }
    .await;
    outcome.map(Json).inspect_err(|error| count_refusal(&context, error))
}

pub(crate) async fn send(context: &AppState, batch: Batch) -> Result<BatchReport, ApiError> {
    let lost =
        || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody knows what became of it: this is a bug of ours");
    let outcome = context.pipeline.send(batch)?.await.map_err(|_| lost())?;
    Ok(outcome?)
}

pub(crate) fn count_refusal(context: &AppState, error: &ApiError) {
    if error.status == StatusCode::TOO_MANY_REQUESTS {
        context.shared.refused.fetch_add(1, Ordering::Relaxed);
    }
}
