use std::collections::BTreeMap;
use std::sync::Arc;

use agent_sre::cost::{CostGuard, Pricing};
use agent_sre::{AgentTotals, BudgetSnapshot, Clock, CostAlert, ModelTotals, Timestamp, Usd};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::{Ctx, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page };

fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/v1/costs", get(costs))
}

fn page(context: &AppState, _now: Timestamp, parts: &mut PageParts) {
    parts.insert("costs", report(context));
}

/// What is spent, by whom and on what, against the limits.
#[derive(Serialize)]
struct CostReport {
    /// Of the day, and the organisation's of the month.
    budgets: Vec<BudgetSnapshot>,
    /// Since the service was first started.
    models: BTreeMap<String, ModelTotals>,
    total_usd: Usd,
    /// The latest.
    alerts: Vec<CostAlert>,
    /// Calls without a cost whose model has no price, by model.
    unknown_models: BTreeMap<String, u64>,
}

async fn costs(State(context): Ctx) -> Json<CostReport> {
    Json(report(&context))
}

fn report(context: &AppState) -> CostReport {
    let engines = context.shared.engines();
    let (guard, totals) = (engines.get::<CostGuard>(), engines.get::<AgentTotals>());
    CostReport {
        budgets: guard.snapshot_at(context.shared.clock.now()).budgets,
        models: totals.models(),
        total_usd: totals.totals().cost_usd,
        alerts: guard.alerts(),
        unknown_models: engines.get::<Pricing>().report().unknown_models,
    }
}
