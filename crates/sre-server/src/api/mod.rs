//! What the service answers, address by address.

mod access;
mod body;
mod error;
mod gate;
#[cfg(feature = "grpc")]
mod grpc;
mod ingest;
mod metrics;
mod otlp;
mod page;
mod read;
mod starting;

use std::sync::{Arc, Mutex};

use agent_sre::lock;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::read::{cost_report, slo_list};
pub(crate) use self::starting::router as starting;
use crate::Config;
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::shared::Shared;

/// The API's description for programs.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What every answer is made from.
pub(crate) struct Context {
    /// The settings as of the start, some of which hold until the end.
    pub(crate) config: Arc<Config>,
    /// The settings as of when they were last read.
    settings: Mutex<Arc<Config>>,
    /// What new connections are met with.
    pub(crate) tls: watch::Sender<Option<TlsAcceptor>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pipeline: Pipeline,
    pub(crate) live: Live,
    /// True once the service is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// What bodies may hold together, in KiB.
    in_flight: Arc<Semaphore>,
}

impl Context {
    pub(crate) fn new(
        config: Arc<Config>,
        tls: watch::Sender<Option<TlsAcceptor>>,
        shared: Arc<Shared>,
        pipeline: Pipeline,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(config.bounds.max_in_flight >> 10));
        let settings = Mutex::new(config.clone());
        Self { config, settings, tls, shared, pipeline, live: Live::default(), stop, in_flight }
    }

    pub(crate) fn settings(&self) -> Arc<Config> {
        lock(&self.settings).clone()
    }

    pub(crate) fn change_settings(&self, settings: Config) {
        *lock(&self.settings) = Arc::new(settings);
    }
}

pub(crate) fn router(context: Arc<Context>) -> Router {
    let ingest = Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/logs", post(otlp::logs))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/v1/events/{format}", post(ingest::events));
    #[cfg(feature = "grpc")]
    let ingest = ingest.merge(grpc::routes(&context.config.bounds));
    let ingest = ingest.route_layer(from_fn_with_state(context.clone(), access::ingest));
    let read = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/v1/slos", get(read::slos))
        .route("/v1/slos/{name}", get(read::slo))
        .route("/v1/agents", get(read::agents))
        .route("/v1/alerts", get(read::alerts))
        .route("/v1/costs", get(read::costs))
        .route("/v1/live", get(page::live))
        .route("/v1/gate", post(gate::gate))
        .route_layer(from_fn_with_state(context.clone(), access::read));
    // Without these, nobody's data is told: a page's shell, the API's description, whether the service is up.
    Router::new()
        .merge(ingest)
        .merge(read)
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .route("/openapi.json", get(page::openapi))
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .fallback(error::no_such_address)
        .layer(from_fn_with_state(context.clone(), access::own_host))
        .with_state(context)
}
