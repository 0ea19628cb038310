use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use agent_sre::alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig, ManagerError, default_mapping};
use agent_sre::http::{BuildError, Client, OutboxError};
use agent_sre::private::lock;
use agent_sre::slo::ExhaustionAction;
use agent_sre::sqlite::{SqliteAlertStore, SqliteSpool, SqliteTraceStore};
use agent_sre::trace::{TailSampler, TailSamplerOptions};
use agent_sre::{
    Alert, AlertChannel, AlertQuery, AlertRecord, AlertStore, EngineError, HttpClient, Runtime, RuntimeBuilder,
    RuntimeError, Severity, Signal, SignalHandler, StoreError, TraceStore,
};

use crate::ServerLimits;
use crate::event_checks::EventChecks;
use crate::loaded_config::{LOG, LoadedConfig};
use crate::removed_exporters::RemovedExporters;
use crate::service_time::Clocks;

/// The names of the engines' files in the data folder.
const ALERTS_FILE: &str = "alerts.db";
const SPOOL_FILE: &str = "spool.db";
const TRACES_FILE: &str = "traces.db";

/// Checks that [`PreparedEngines::start`] can open its files.
pub(crate) fn check_files(data: &Path) -> Result<(), StoreError> {
    SqliteAlertStore::check(data.join(ALERTS_FILE))?;
    SqliteSpool::check(data.join(SPOOL_FILE))?;
    SqliteTraceStore::check(data.join(TRACES_FILE))
}

/// The runtime with every adapter and engine, and the alert manager for its signals, for one configuration.
pub(crate) struct EngineSet {
    pub(crate) runtime: Runtime,
    pub(crate) alerts: Arc<AlertManager>,
    spool: Arc<SqliteSpool>,
    history: Arc<SqliteAlertStore>,
    /// The traces of bad and slow tasks; `None` if none are kept.
    pub(crate) traces: Option<Arc<dyn TraceStore>>,
    /// The action of each objective once its budget is exhausted, by name.
    pub(crate) exhaustion_actions: BTreeMap<String, ExhaustionAction>,
    /// The date of the built-in list of prices, unless a file replaces it.
    pub(crate) prices_as_of: Option<&'static str>,
    delivery: Arc<Delivery>,
}

/// Channels to which alerts are sent once [`EngineSet::deliver`] has added them. Until then signals wait in the runtime.
struct Delivery {
    alerts: Arc<AlertManager>,
    channels: Vec<(Arc<dyn AlertChannel>, ChannelConfig)>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

/// Error of starting the engines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineSetError {
    /// The settings of an engine are invalid.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The alert manager.
    #[error(transparent)]
    Alerts(#[from] ManagerError),
    /// The history of alerts, the spool of signals, or the traces.
    #[error(transparent)]
    History(#[from] StoreError),
    /// The HTTP client of the alert channels and exporters.
    #[error(transparent)]
    Http(#[from] BuildError),
    /// An exporter.
    #[error(transparent)]
    Exporter(#[from] OutboxError),
}

/// Everything of an [`EngineSet`] that its configuration determines. Creating it opens no file and sends nothing, so that
/// `sre config check` finds the errors that would stop a start.
pub(crate) struct PreparedEngines {
    runtime: RuntimeBuilder,
    alerts: AlertOptions,
    channels: Vec<(Arc<dyn AlertChannel>, ChannelConfig)>,
    traces: Option<TailSamplerOptions>,
    exhaustion_actions: BTreeMap<String, ExhaustionAction>,
    prices_as_of: Option<&'static str>,
}

impl PreparedEngines {
    /// Creates the engines without state, and checks that the alert channels can be added.
    pub(crate) fn new(config: LoadedConfig, limits: &ServerLimits, clocks: &Clocks) -> Result<Self, EngineSetError> {
        let exhaustion_actions = config.exhaustion_actions();
        let mut settings = config.engines;
        let (quiet_sources, prices_as_of) = (std::mem::take(&mut settings.quiet_sources), settings.prices_as_of);
        let mut alerts = config.notify.options;
        let http: Arc<dyn HttpClient> = Arc::new(Client::new(agent_sre::http::Options::default())?);
        alerts.http = http.clone();
        alerts.clock = clocks.wall.clone();
        alerts.shutdown_timeout = Duration::from_secs(3);
        alerts.mapping = Arc::new(move |signal: &Signal| {
            let is_quiet = quiet_sources.contains(&&*signal.source);
            if is_quiet { None } else { default_mapping(signal) }
        });
        let mut channels = config.notify.channels;
        let every = ChannelConfig { min_severity: Severity::Info, ..ChannelConfig::default() };
        channels.push((Arc::new(CallbackChannel::new(LOG, log)), every));
        // A manager that delivers nothing checks the channels as the one of the service does.
        AlertManager::without_thread(AlertOptions { http: http.clone(), ..AlertOptions::default() })
            .add_channels(channels.clone())?;
        let traces = settings.traces.clone().filter(TailSamplerOptions::keeps_traces);
        settings.clock = clocks.engines.clone();
        settings.max_agents = limits.max_agents;
        let runtime = Runtime::builder()
            .formats(limits.run_limits())
            .engines(&settings)?
            .exporters(&config.exporters, &http)
            .start_exporters_later();
        Ok(Self { runtime, alerts, channels, traces, exhaustion_actions, prices_as_of })
    }

    /// Returns the number of objectives.
    pub(crate) fn objectives(&self) -> usize {
        self.exhaustion_actions.len()
    }

    /// Starts the engines, with stores in the folder `data` and checks of the events. Alerts wait until [`EngineSet::deliver`].
    pub(crate) fn start(self, data: &Path, checks: Arc<EventChecks>) -> Result<EngineSet, EngineSetError> {
        let Self { runtime, mut alerts, channels, traces, exhaustion_actions, prices_as_of } = self;
        let history = Arc::new(SqliteAlertStore::open(data.join(ALERTS_FILE))?);
        alerts.store = Some(history.clone() as Arc<dyn AlertStore>);
        let alerts = Arc::new(AlertManager::new(alerts)?);
        let delivery =
            Arc::new(Delivery { alerts: alerts.clone(), channels, is_open: Mutex::default(), opened: Condvar::new() });
        let spool = Arc::new(SqliteSpool::open(data.join(SPOOL_FILE))?);
        let runtime = runtime
            .adapter_stage(move |format, event| checks.accept(format, event))
            .collect(alerts.clone())
            .handle("alerts", delivery.clone())
            .spool(spool.clone())
            .build()?;
        let open = |options: TailSamplerOptions| SqliteTraceStore::open(data.join(TRACES_FILE), options.limits);
        let traces = traces.map(open).transpose()?.map(|store| Arc::new(store) as Arc<dyn TraceStore>);
        if let (Some(sampler), Some(store)) = (runtime.get::<TailSampler>(), &traces) {
            sampler.set_store(store.clone());
        }
        Ok(EngineSet { runtime, alerts, spool, history, traces, exhaustion_actions, prices_as_of, delivery })
    }
}

impl EngineSet {
    /// Takes over the open incidents, unfinished deliveries and unsent events of the data folder, and starts to send
    /// alerts and to export. Must be called only when nothing else in this process sends from that folder, because later
    /// alerts would overtake its pending ones. Events that wait for exporters that this set does not have are deleted.
    pub(crate) fn deliver(&self, removed: &RemovedExporters) -> Result<(), EngineSetError> {
        self.runtime.start_exporters()?;
        removed.clean(&*self.spool, &self.runtime);
        self.alerts.add_channels(self.delivery.channels.clone())?;
        self.delivery.open();
        Ok(())
    }

    /// Waits until alerts are sent.
    pub(crate) fn wait_until_delivering(&self) {
        self.delivery.wait();
    }

    /// Returns an engine that is always part of the set.
    pub(crate) fn get<E: Send + Sync + 'static>(&self) -> Arc<E> {
        self.runtime.get().unwrap_or_else(|| panic!("{} is not part of the set", std::any::type_name::<E>()))
    }

    /// Returns the alerts that match, newest first.
    pub(crate) fn alert_history(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        self.history.query(query)
    }
}

/// Unblocks the alert handler so that the runtime can shut down.
impl Drop for EngineSet {
    fn drop(&mut self) {
        self.delivery.open();
    }
}

impl Delivery {
    fn open(&self) {
        *lock(&self.is_open) = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let is_open = lock(&self.is_open);
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap_or_else(PoisonError::into_inner));
    }
}

impl SignalHandler for Delivery {
    fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
        self.wait();
        self.alerts.handle(signals, emit);
    }
}

fn log(alert: &Alert) {
    let Alert { title, message, agent_id, slo_name, .. } = alert;
    match alert.severity {
        Severity::Critical => tracing::error!(agent = agent_id, slo = slo_name, "{title}: {message}"),
        Severity::Warning => tracing::warn!(agent = agent_id, slo = slo_name, "{title}: {message}"),
        Severity::Info | Severity::Resolved => tracing::info!(agent = agent_id, slo = slo_name, "{title}: {message}"),
    }
}
