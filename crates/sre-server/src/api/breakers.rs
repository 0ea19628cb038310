use std::sync::Arc;

use agent_sre::cascade::CascadeDetector;
use agent_sre::{BreakerSnapshot, CascadeReport, Clock, Collect, Snapshot, SystemClock, Timestamp};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::{Ctx, Module};
use crate::app::AppState;
use crate::live::PageParts;

pub(super) const MODULE: Module = Module { routes, page };

fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/v1/breakers", get(breakers)).route("/v1/cascades", get(cascades))
}

fn page(context: &AppState, now: Timestamp, parts: &mut PageParts) {
    let (breakers, cascades) = state(context, now);
    parts.insert("breakers", breakers);
    parts.insert("cascades", cascades);
}

/// The breakers of all targets that have failed since the service was first started.
#[derive(Serialize)]
struct BreakerList {
    breakers: Vec<BreakerSnapshot>,
}

/// The cascades that go on.
#[derive(Serialize)]
struct CascadeList {
    cascades: Vec<CascadeReport>,
}

async fn breakers(State(context): Ctx) -> Json<BreakerList> {
    Json(BreakerList { breakers: state(&context, SystemClock.now()).0 })
}

async fn cascades(State(context): Ctx) -> Json<CascadeList> {
    Json(CascadeList { cascades: state(&context, SystemClock.now()).1 })
}

fn state(context: &AppState, now: Timestamp) -> (Vec<BreakerSnapshot>, Vec<CascadeReport>) {
    let (mut breakers, mut cascades) = (Vec::new(), Vec::new());
    for snapshot in context.shared.engines().get::<CascadeDetector>().snapshots(now) {
        match snapshot {
            Snapshot::Breaker(breaker) => breakers.push(breaker),
            Snapshot::Cascade(cascade) => cascades.push(cascade),
            _ => {}
        }
    }
    (breakers, cascades)
}
