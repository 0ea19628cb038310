use agent_sre::{AgentReport, AgentTotals, Timestamp};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::openapi::ApiRouter;
use super::{AppRef, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page };

fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(agents))
}

fn page(state: &AppState, _now: Timestamp, parts: &mut PageParts) {
    let totals = state.shared.engines().get::<AgentTotals>();
    parts.insert("totals", totals.totals());
    parts.insert("agents", totals.agents());
}

/// Agents, by name.
#[derive(Serialize, ToSchema)]
struct AgentList {
    agents: Vec<AgentReport>,
}

/// Activity of each agent since the service was first started
#[utoipa::path(get, path = "/v1/agents", responses((status = 200, description = "By name.", body = AgentList)))]
async fn agents(State(state): AppRef) -> Json<AgentList> {
    Json(AgentList { agents: state.shared.engines().get::<AgentTotals>().agents() })
}
