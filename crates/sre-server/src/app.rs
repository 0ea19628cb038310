use std::sync::{Arc, Mutex};

use agent_sre::private::lock;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::Config;
use crate::admission::Admission;
use crate::body_memory::BodyMemory;
use crate::live::Views;
use crate::pipeline::Pipeline;
use crate::request_metrics::RequestMetrics;
use crate::scrapes::Scrapes;
use crate::shared::Shared;

/// The state of the application.
pub(crate) struct AppState {
    /// The settings at the start; some of them cannot change without a restart.
    pub(crate) config: Arc<Config>,
    /// The current settings.
    settings: Mutex<Arc<Config>>,
    /// Accepts new TLS connections; `None` without TLS.
    pub(crate) tls: watch::Sender<Option<TlsAcceptor>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pipeline: Pipeline,
    pub(crate) views: Views,
    pub(crate) scrapes: Scrapes,
    pub(crate) requests: RequestMetrics,
    /// Permits to compute answers about engines: with many objectives, each takes a while.
    pub(crate) reads: Semaphore,
    /// True once the service is stopping.
    pub(crate) stop: watch::Receiver<bool>,
    /// Memory for request bodies and the records in them.
    pub(crate) body_memory: Arc<BodyMemory>,
}

/// How many answers are computed at a time. More would only make each of them slower, and telemetry with them.
const MAX_READS: usize = 2;

impl AppState {
    pub(crate) fn new(
        config: Arc<Config>,
        tls: watch::Sender<Option<TlsAcceptor>>,
        admission: Arc<Admission>,
        shared: Arc<Shared>,
        pipeline: Pipeline,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let body_memory = BodyMemory::of(&config.server_limits);
        let settings = Mutex::new(config.clone());
        Self {
            config,
            settings,
            tls,
            admission,
            shared,
            pipeline,
            views: Views::default(),
            scrapes: Scrapes::default(),
            requests: RequestMetrics::default(),
            reads: Semaphore::new(MAX_READS),
            stop,
            body_memory,
        }
    }

    pub(crate) fn settings(&self) -> Arc<Config> {
        lock(&self.settings).clone()
    }

    pub(crate) fn change_settings(&self, settings: Config) {
        *lock(&self.settings) = Arc::new(settings);
    }
}
