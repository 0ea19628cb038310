use agent_sre::cascade::CascadeDetector;
use agent_sre::{BreakerSnapshot, CascadeReport, Collect, Snapshot, Timestamp};
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
    ApiRouter::default().routes(routes!(breakers)).routes(routes!(cascades))
}

fn page(state: &AppState, now: Timestamp, parts: &mut PageParts) {
    let (breakers, cascades) = snapshots(state, now);
    parts.insert("breakers", breakers);
    parts.insert("cascades", cascades);
}

/// Circuit breakers.
#[derive(Serialize, ToSchema)]
struct BreakerList {
    /// One for each target that has failed.
    breakers: Vec<BreakerSnapshot>,
}

/// Cascading failures.
#[derive(Serialize, ToSchema)]
struct CascadeList {
    /// One for each origin.
    cascades: Vec<CascadeReport>,
}

/// Circuit breakers of all agents, tools and models that have failed since the service was first started
#[utoipa::path(
    get, path = "/v1/breakers",
    responses((status = 200, description = "The state of each breaker.", body = BreakerList))
)]
async fn breakers(State(state): AppRef) -> Json<BreakerList> {
    Json(BreakerList { breakers: snapshots(&state, state.shared.now()).0 })
}

/// Cascading failures in progress
#[utoipa::path(
    get, path = "/v1/cascades",
    responses((status = 200, description = "The origin, path and blast radius of each.", body = CascadeList))
)]
async fn cascades(State(state): AppRef) -> Json<CascadeList> {
    Json(CascadeList { cascades: snapshots(&state, state.shared.now()).1 })
}

fn snapshots(state: &AppState, now: Timestamp) -> (Vec<BreakerSnapshot>, Vec<CascadeReport>) {
    let (mut breakers, mut cascades) = (Vec::new(), Vec::new());
    for snapshot in state.shared.engines().get::<CascadeDetector>().snapshots(now) {
        match snapshot {
            Snapshot::Breaker(breaker) => breakers.push(breaker),
            Snapshot::Cascade(cascade) => cascades.push(cascade),
            _ => {}
        }
    }
    (breakers, cascades)
}
