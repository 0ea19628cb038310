use agent_sre::Timestamp;
use agent_sre::http::OutboxStats;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::openapi::ApiRouter;
use super::{AppRef, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page, view: None };

fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(exporters))
}

fn page(state: &AppState, _now: Timestamp, parts: &mut PageParts) {
    parts.insert("exporters", statuses(state));
}

/// Exporters.
#[derive(Serialize, ToSchema)]
struct ExporterList {
    /// In the order of the configuration.
    exporters: Vec<ExporterStatus>,
}

/// An exporter's health, and the number of its records: events, metrics and snapshots.
#[derive(Serialize, ToSchema)]
struct ExporterStatus {
    /// Its name in the configuration.
    name: String,
    state: ExporterState,
    /// Accepted by the backend.
    sent: u64,
    /// Without an equivalent in the backend.
    ignored: u64,
    /// Rejected by the backend.
    rejected: u64,
    /// Dropped before they were sent.
    dropped: u64,
    /// Events that wait in memory or in the spool.
    waiting: u64,
    /// The last error, until a request succeeds.
    error: Option<String>,
}

/// An exporter's state: `ok`; `failing` while requests fail and are repeated; `halted` once the backend rejects the
/// credentials, until the settings change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExporterState {
    Ok,
    Failing,
    Halted,
}

impl From<OutboxStats> for ExporterStatus {
    fn from(stats: OutboxStats) -> Self {
        let both = [&stats.events, &stats.state];
        Self {
            state: match (stats.is_halted, stats.last_error.is_empty()) {
                (true, _) => ExporterState::Halted,
                (false, false) => ExporterState::Failing,
                (false, true) => ExporterState::Ok,
            },
            sent: both.iter().map(|counts| counts.sent).sum(),
            ignored: both.iter().map(|counts| counts.ignored).sum(),
            rejected: both.iter().flat_map(|counts| counts.rejected.values()).sum(),
            dropped: both.iter().flat_map(|counts| counts.dropped.values()).sum(),
            waiting: stats.queue_length + stats.spool_length,
            error: Some(stats.last_error).filter(|error| !error.is_empty()),
            name: stats.exporter,
        }
    }
}

/// Exporters, their health and what they have sent
#[utoipa::path(
    get, path = "/v1/exporters",
    responses((status = 200, description = "The state of each exporter.", body = ExporterList))
)]
async fn exporters(State(state): AppRef) -> Json<ExporterList> {
    Json(ExporterList { exporters: statuses(&state) })
}

fn statuses(state: &AppState) -> Vec<ExporterStatus> {
    state.shared.engines().runtime.exporters().iter().map(|outbox| outbox.stats().into()).collect()
}
