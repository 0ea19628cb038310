use std::sync::Arc;
use std::time::Duration;

use agent_sre::{AlertQuery, AlertRecord, Clock, Severity, StoreError, SystemClock, Timestamp, Window};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Ctx, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page };

fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/v1/alerts", get(alerts))
}

fn page(context: &AppState, _now: Timestamp, parts: &mut PageParts) {
    let query = AlertQuery { limit: Some(SHOWN), ..AlertQuery::default() };
    parts.insert("alerts", context.shared.engines().alert_history(&query).unwrap_or_default());
}

/// The page shows so many alerts.
const SHOWN: usize = 50;

#[derive(Deserialize)]
struct AlertFilter {
    agent: Option<String>,
    severity: Option<Severity>,
    slo: Option<String>,
    since: Option<Window>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct AlertList {
    alerts: Vec<AlertRecord>,
}

const MOST_ALERTS: usize = 1_000;

/// The alerts that match, the newest first, with what became of them.
async fn alerts(State(context): Ctx, Query(filter): Query<AlertFilter>) -> Result<Json<AlertList>, ApiError> {
    let query = AlertQuery {
        agent_id: filter.agent,
        severity: filter.severity,
        slo_name: filter.slo,
        since: filter.since.map(|since| SystemClock.now().saturating_sub(since.duration())),
        until: None,
        limit: Some(filter.limit.unwrap_or(100).min(MOST_ALERTS)),
    };
    let found = tokio::task::spawn_blocking(move || context.shared.engines().alert_history(&query)).await;
    let found = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let unavailable = |error: StoreError| ApiError::unavailable(error.reason(), Duration::from_secs(5));
    Ok(Json(AlertList { alerts: found.map_err(unavailable)? }))
}
