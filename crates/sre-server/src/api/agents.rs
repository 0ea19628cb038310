use agent_sre::private::lock;
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
use crate::overlap::Overlap;

pub(super) const MODULE: Module = Module { routes, page, view: None };

fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(agents))
}

fn page(state: &AppState, _now: Timestamp, parts: &mut PageParts) {
    parts.insert("totals", state.shared.engines().get::<AgentTotals>().totals());
    parts.insert("agents", activity(state));
}

/// Agents, by name.
#[derive(Serialize, ToSchema)]
struct AgentList {
    /// Sorted by name.
    agents: Vec<AgentActivity>,
}

/// An agent and what it has done.
#[derive(Serialize, ToSchema)]
struct AgentActivity {
    #[serde(flatten)]
    report: AgentReport,
    /// Present if the agent's tasks arrive in several formats, and each counts twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<Overlap>,
}

fn activity(state: &AppState) -> Vec<AgentActivity> {
    let mut overlaps = lock(&state.shared.checks.overlaps).overlaps();
    let reports = state.shared.engines().get::<AgentTotals>().agents();
    reports.into_iter().map(|report| AgentActivity { overlap: overlaps.remove(&report.agent), report }).collect()
}

/// Activity of each agent since the service was first started
#[utoipa::path(get, path = "/v1/agents", responses((status = 200, description = "By name.", body = AgentList)))]
async fn agents(State(state): AppRef) -> Json<AgentList> {
    Json(AgentList { agents: activity(&state) })
}
