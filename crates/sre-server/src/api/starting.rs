//! The API while the service recovers its state from the journal.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::private::lock;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Uri};

use super::error::ApiError;
use super::health::{self, Readiness};
use super::otlp::{self, Encoding};

/// What a service waits for before it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StartPhase {
    /// Its journal is being read.
    #[default]
    Recovering,
    /// Another process holds the data folder.
    Locked,
    /// The disk of the data folder is full.
    DiskFull,
}

impl StartPhase {
    const fn reason(self) -> &'static str {
        match self {
            Self::Recovering => "the service is starting and reads its journal",
            Self::Locked => "the journal is locked by another process",
            Self::DiskFull => "the service waits for room on the disk of its data folder",
        }
    }
}

/// Returns routes that answer 503 with the reason.
pub(crate) fn router(phase: Arc<Mutex<StartPhase>>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(not_ready))
        .fallback(unavailable)
        .with_state(phase)
}

async fn not_ready(State(phase): State<Arc<Mutex<StartPhase>>>) -> Readiness {
    Readiness::new(vec![lock(&phase).reason().to_owned()], Vec::new())
}

async fn unavailable(State(phase): State<Arc<Mutex<StartPhase>>>, uri: Uri, headers: HeaderMap) -> Response {
    let error = ApiError::unavailable(format!("{}; retry later", lock(&phase).reason()), Duration::from_secs(1));
    match Encoding::of(&headers) {
        Ok(encoding) if otlp::PATHS.contains(&uri.path()) => error.into_otlp(encoding == Encoding::Protobuf),
        _ => error.into_response(),
    }
}
