use std::sync::atomic::Ordering;

use agent_sre::private::lock;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::AppRef;
use super::openapi::ApiRouter;

pub(super) fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz))
}

/// Whether the process is alive
#[utoipa::path(
    get, path = "/healthz",
    responses((status = 200, description = "The process is alive.", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests are accepted now.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether requests are accepted.
    ready: bool,
    /// Why requests are not accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    /// Problems that do not keep the service from working.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

impl Readiness {
    pub(super) fn new(reasons: Vec<String>, warnings: Vec<&'static str>) -> Self {
        Self { ready: reasons.is_empty(), reasons, warnings }
    }
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

/// Whether requests are accepted now
#[utoipa::path(
    get, path = "/readyz",
    responses(
        (status = 200, description = "Requests are accepted.", body = Readiness),
        (status = 503, description = "Requests are not accepted now; `reasons` has the causes.", body = Readiness)
    )
)]
async fn readyz(State(state): AppRef) -> Readiness {
    let shared = &state.shared;
    let mut reasons = Vec::new();
    if shared.is_stopping.load(Ordering::Relaxed) {
        reasons.push("the service is stopping".to_owned());
    }
    if shared.has_processor_panicked.load(Ordering::Relaxed) {
        let reason = "the processing thread panicked; requests are journaled, and processed after a restart";
        reasons.push(reason.to_owned());
    }
    if let Some(failure) = &*lock(&shared.journal.failure) {
        reasons.push(format!("journal write failed: {failure}"));
    }
    if let Some(failure) = &*lock(&shared.journal.snapshot_failure) {
        reasons.push(format!("snapshot failed, so the journal grows: {failure}"));
    }
    // The error itself may quote the configuration, which is not for everybody.
    let reload_failed = lock(&shared.config_error).is_some();
    let is_damaged = shared.journal.damaged.load(Ordering::Relaxed) > 0;
    let warnings = [
        (reload_failed, "config reload failed; keeping the previous configuration (the log has the error)"),
        (is_damaged, "parts of the journal could not be read at the start (the log names them)"),
    ];
    Readiness::new(reasons, warnings.into_iter().filter_map(|(holds, warning)| holds.then_some(warning)).collect())
}
