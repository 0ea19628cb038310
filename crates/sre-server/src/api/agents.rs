use std::sync::Arc;

use agent_sre::{AgentReport, AgentTotals, Timestamp};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::{Ctx, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page };

fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/v1/agents", get(agents))
}

fn page(context: &AppState, _now: Timestamp, parts: &mut PageParts) {
    let totals = context.shared.engines().get::<AgentTotals>();
    parts.insert("totals", totals.totals());
    parts.insert("agents", totals.agents());
}

#[derive(Serialize)]
struct AgentList {
    agents: Vec<AgentReport>,
}

async fn agents(State(context): Ctx) -> Json<AgentList> {
    Json(AgentList { agents: context.shared.engines().get::<AgentTotals>().agents() })
}
