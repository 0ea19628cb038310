//! The API while the service recovers its state from the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Uri};

use super::error::ApiError;
use super::health::{self, Readiness};
use super::otlp::{self, Encoding};

/// Returns routes that answer 503; `is_locked` tells whether another process holds the journal.
pub(crate) fn router(is_locked: Arc<AtomicBool>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(not_ready))
        .fallback(unavailable)
        .with_state(is_locked)
}

async fn not_ready(State(is_locked): State<Arc<AtomicBool>>) -> Readiness {
    Readiness::new(vec![reason(&is_locked).to_owned()], None)
}

async fn unavailable(State(is_locked): State<Arc<AtomicBool>>, uri: Uri, headers: HeaderMap) -> Response {
    let error = ApiError::unavailable(format!("{}; retry later", reason(&is_locked)), Duration::from_secs(1));
    match Encoding::of(&headers) {
        Ok(encoding) if otlp::PATHS.contains(&uri.path()) => error.into_otlp(encoding == Encoding::Protobuf),
        _ => error.into_response(),
    }
}

fn reason(is_locked: &AtomicBool) -> &'static str {
    if is_locked.load(Ordering::Relaxed) {
        "the journal is locked by another process"
    } else {
        "the service is starting and reads its journal"
    }
}
