//! What the service answers. An engine is one file here, and a row in [`MODULES`].

mod access;
mod agents;
mod alerts;
mod assets;
mod body;
mod breakers;
mod costs;
mod error;
mod gate;
#[cfg(feature = "grpc")]
mod grpc;
mod health;
mod ingest;
mod live;
mod metrics;
mod otlp;
mod slos;
mod starting;

use std::sync::Arc;

use agent_sre::Timestamp;
use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub(crate) use self::live::publish;
pub(crate) use self::starting::router as starting;
use crate::app::AppState;
use crate::live::PageParts;

/// The API's description for programs.
pub const OPENAPI: &str = include_str!("openapi.json");

type Ctx = State<Arc<AppState>>;

/// An engine's part of the API and of the page.
struct Module {
    /// Its addresses, for whoever may read.
    routes: fn() -> Router<Arc<AppState>>,
    /// Adds its parts of the page, as of a time.
    page: fn(&AppState, Timestamp, &mut PageParts),
}

/// Every engine. A new engine is a row.
static MODULES: &[Module] = &[slos::MODULE, agents::MODULE, costs::MODULE, breakers::MODULE, alerts::MODULE];

pub(crate) fn router(context: Arc<AppState>) -> Router {
    let ingest = Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/logs", post(otlp::logs))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/v1/events/{format}", post(ingest::events));
    #[cfg(feature = "grpc")]
    let ingest = ingest.merge(grpc::routes(&context.config.server_limits));
    let ingest = ingest.route_layer(from_fn_with_state(context.clone(), access::ingest));
    let engines = MODULES.iter().fold(Router::new(), |router, module| router.merge((module.routes)()));
    let read = engines
        .route("/metrics", get(metrics::metrics))
        .route("/v1/live", get(live::live))
        .route("/v1/gate", post(gate::gate))
        .route_layer(from_fn_with_state(context.clone(), access::read));
    // These tell nobody's data: the page without its content, the API's description, whether the service is up.
    Router::new()
        .merge(ingest)
        .merge(read)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/openapi.json", get(assets::openapi))
        .route("/", get(assets::index))
        .route("/page/{file}", get(assets::file))
        .fallback(error::no_such_address)
        .layer(from_fn_with_state(context.clone(), access::own_host))
        .with_state(context)
}
