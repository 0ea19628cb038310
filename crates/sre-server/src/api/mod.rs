//! The HTTP API. Each engine has one file here, and a row in [`MODULES`].

mod access;
mod agents;
mod alerts;
mod assets;
mod body;
mod breakers;
mod costs;
mod error;
mod exporters;
mod extract;
mod gate;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod ingest;
mod live;
mod measure;
mod metrics;
mod modules;
mod openapi;
mod otlp;
mod otlp_json;
mod process_metrics;
mod reads;
mod slos;
mod starting;
mod traces;

use std::sync::Arc;

use agent_sre::Timestamp;
use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;

pub(crate) use self::live::publish;
use self::modules::MODULES;
pub use self::openapi::openapi;
use self::openapi::{ApiRouter, for_everybody, for_scope};
pub(crate) use self::starting::{StartPhase, router as starting};
use crate::Scope;
use crate::app::AppState;
use crate::live::{PageParts, View};

type AppRef = State<Arc<AppState>>;

/// An engine's part of the API and of the page.
struct Module {
    /// Returns its operations, for clients with scope `read`.
    routes: fn() -> ApiRouter,
    /// Adds its parts that are the same on every page, as of a time.
    page: fn(&AppState, Timestamp, &mut PageParts),
    /// Adds its parts that depend on the view, as of a time.
    view: Option<AddToViews>,
}

type AddToViews = fn(&AppState, Timestamp, &mut [(&View, &mut PageParts)]);

fn ingest_routes() -> ApiRouter {
    for_scope(otlp::routes().merge(ingest::routes()), Scope::Ingest)
}

fn engine_routes() -> ApiRouter {
    for_scope(MODULES.iter().fold(ApiRouter::default(), |router, module| router.merge((module.routes)())), Scope::Read)
}

/// Routes that are no lists of an engine, and need no permit to be computed.
fn other_read_routes() -> ApiRouter {
    for_scope(gate::routes().merge(live::routes()).merge(metrics::routes()), Scope::Read)
}

/// None of these reveals data of agents: the health of the service, the page without its content, and the API's description.
fn service_routes() -> ApiRouter {
    for_everybody(health::routes().merge(assets::routes()))
}

pub(crate) fn router(state: Arc<AppState>) -> Router {
    let ingest = Router::from(ingest_routes());
    #[cfg(feature = "grpc")]
    let ingest = ingest.merge(grpc::routes());
    let ingest = ingest.route_layer(from_fn_with_state(state.clone(), access::ingest));
    let engines = Router::from(engine_routes()).route_layer(from_fn_with_state(state.clone(), reads::answer));
    let read = engines.merge(Router::from(other_read_routes()));
    let read = read.route_layer(from_fn_with_state(state.clone(), access::read));
    Router::from(service_routes())
        .merge(ingest)
        .merge(read)
        .fallback(error::not_found)
        .layer(from_fn_with_state(state.clone(), access::own_host))
        .layer(from_fn_with_state(state.clone(), measure::measure))
        .with_state(state)
}
