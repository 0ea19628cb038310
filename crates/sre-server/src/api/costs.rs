use std::collections::BTreeMap;

use agent_sre::cost::{CostGuard, Pricing};
use agent_sre::{AgentTotals, BudgetSnapshot, Clock, CostAlert, ModelTotals, Timestamp, Usd};
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
    ApiRouter::default().routes(routes!(costs))
}

fn page(state: &AppState, _now: Timestamp, parts: &mut PageParts) {
    parts.insert("costs", report(state));
}

/// Spending, against the limits.
#[derive(Serialize, ToSchema)]
struct CostReport {
    /// Budgets of the current day; the organisation's of the current month.
    budgets: Vec<BudgetSnapshot>,
    /// Sums by model since the service was first started.
    models: BTreeMap<String, ModelTotals>,
    /// Cost of all tasks since the service was first started.
    total_usd: Usd,
    /// The latest alerts.
    alerts: Vec<CostAlert>,
    /// Number of calls without a cost whose model has no price, by model.
    unknown_models: BTreeMap<String, u64>,
    /// The date of the built-in list of prices; null if the file `prices` replaces it.
    prices_as_of: Option<&'static str>,
}

/// Spending by agent, team and model, against the limits
#[utoipa::path(
    get, path = "/v1/costs",
    responses((status = 200, description = "Spending of the day, and of the organisation's month.", body = CostReport))
)]
async fn costs(State(state): AppRef) -> Json<CostReport> {
    Json(report(&state))
}

fn report(state: &AppState) -> CostReport {
    let engines = state.shared.engines();
    let (guard, totals) = (engines.get::<CostGuard>(), engines.get::<AgentTotals>());
    CostReport {
        budgets: guard.snapshot_at(state.shared.clocks.engines.now()).budgets,
        models: totals.models(),
        total_usd: totals.totals().cost_usd,
        alerts: guard.alerts(),
        unknown_models: engines.get::<Pricing>().report().unknown_models,
        prices_as_of: engines.prices_as_of,
    }
}
