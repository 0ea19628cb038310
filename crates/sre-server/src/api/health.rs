use std::sync::atomic::Ordering;

use agent_sre::private::lock;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::Ctx;

/// The process is alive.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests are accepted now; anybody may ask.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    /// What is wrong without keeping the service from working.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'static str; 1]>,
}

impl Readiness {
    pub(super) fn new(reasons: Vec<String>, warning: Option<&'static str>) -> Self {
        Self { ready: reasons.is_empty(), reasons, warnings: warning.map(|warning| [warning]) }
    }
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

pub(crate) async fn readyz(State(context): Ctx) -> Readiness {
    let shared = &context.shared;
    let mut reasons = Vec::new();
    if shared.is_stopping.load(Ordering::Relaxed) {
        reasons.push("the service is stopping".to_owned());
    }
    if shared.is_engine_gone.load(Ordering::Relaxed) {
        reasons.push("the processing thread has panicked: requests are journaled and processed after a restart; please report this bug".to_owned());
    }
    if let Some(failure) = &*lock(&shared.journal.failure) {
        reasons.push(format!("journal write failed: {failure}"));
    }
    // The error may quote the files, which not everybody may read.
    let is_wrong = lock(&shared.config_error).is_some();
    Readiness::new(reasons, is_wrong.then_some("config reload failed; keeping the previous configuration: see the log"))
}
