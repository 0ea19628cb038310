use agent_sre::{AlertQuery, AlertRecord, Severity, Timestamp, Window};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::error::{ApiError, ErrorBody};
use super::extract::{Query, limit};
use super::openapi::{ApiRouter, window_parameter, with_errors};
use super::{AppRef, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page, view: None };

fn routes() -> ApiRouter {
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "The history cannot be read; retry later.");
    let routes = ApiRouter::default().routes(routes!(alerts));
    with_errors(routes, &[unavailable], &[("application/json", ErrorBody::reference())])
}

fn page(state: &AppState, _now: Timestamp, parts: &mut PageParts) {
    let query = AlertQuery { limit: Some(MAX_ON_PAGE), ..AlertQuery::default() };
    let engines = state.shared.engines();
    parts.insert("alerts", engines.alert_history(&query).unwrap_or_default());
    parts.insert("handlers", engines.runtime.handler_stats());
}

const MAX_ON_PAGE: usize = 50;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AlertFilter {
    /// Only alerts of this agent.
    agent: Option<String>,
    /// Only alerts of this severity.
    severity: Option<Severity>,
    /// Only alerts of this objective.
    slo: Option<String>,
    /// Only alerts of the last 5m, 6h, 30d ….
    #[param(schema_with = window_parameter)]
    since: Option<Window>,
    /// The maximum number of alerts.
    #[param(default = 100, minimum = 0, maximum = 1000)]
    limit: Option<usize>,
}

/// Alerts, newest first.
#[derive(Serialize, ToSchema)]
struct AlertList {
    /// Newest first.
    alerts: Vec<AlertRecord>,
}

/// Alerts and their deliveries, newest first
#[utoipa::path(
    get, path = "/v1/alerts", params(AlertFilter),
    responses(
        (status = 200, description = "The alerts that match.", body = AlertList),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody)
    )
)]
async fn alerts(State(state): AppRef, Query(filter): Query<AlertFilter>) -> Result<Json<AlertList>, ApiError> {
    let query = AlertQuery {
        agent_id: filter.agent,
        severity: filter.severity,
        slo_name: filter.slo,
        since: filter.since.map(|since| state.shared.now().saturating_sub(since.duration())),
        limit: Some(limit(filter.limit, 100, 0..=1_000)?),
        ..AlertQuery::default()
    };
    Ok(Json(AlertList { alerts: state.shared.engines().alert_history(&query)? }))
}
