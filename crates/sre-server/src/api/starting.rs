//! What is answered while the service takes up what an earlier run has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderMap;

use super::error::ApiError;
use super::health::{self, Readiness};
use super::otlp::Form;

/// Answers that it is there and not ready yet; `is_locked` says whether that is because another process is at work on its data.
pub(crate) fn router(is_locked: Arc<AtomicBool>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(not_ready))
        .fallback(not_yet)
        .with_state(is_locked)
}

async fn not_ready(State(is_locked): State<Arc<AtomicBool>>) -> Readiness {
    Readiness::new(vec![reason(&is_locked).to_owned()], None)
}

async fn not_yet(State(is_locked): State<Arc<AtomicBool>>, headers: HeaderMap) -> Response {
    let error = ApiError::unavailable(format!("{}: try again", reason(&is_locked)), Duration::from_secs(1));
    match Form::of(&headers) {
        Ok(Form::Protobuf) => error.into_otlp(true),
        _ => error.into_response(),
    }
}

fn reason(is_locked: &AtomicBool) -> &'static str {
    if is_locked.load(Ordering::Relaxed) {
        "the journal is locked by another process"
    } else {
        "the service is starting: it reads its journal"
    }
}
