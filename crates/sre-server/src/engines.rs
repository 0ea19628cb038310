use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::alerts::{AlertManager, CallbackChannel, ChannelConfig, ManagerError};
use agent_sre::cost::{CostGuard, CostObserver, InvalidLimits, Limits, Pricing};
use agent_sre::http::{BuildError, Client};
use agent_sre::slo::{EngineError, ExhaustionAction, SloEngine};
use agent_sre::sqlite::SqliteAlertStore;
use agent_sre::{
    Alert, AlertQuery, AlertRecord, AlertStore, Hub, ManualClock, Observer, Severity, Signal, SignalHandler,
    StateError, StateReader, StateWriter, StoreError,
};

use crate::agents::Agents;
use crate::rules::Rules;

/// Everything that reads events, by one set of rules.
pub(crate) struct Engines {
    pub(crate) hub: Hub,
    pub(crate) slos: Arc<SloEngine>,
    pub(crate) costs: Arc<CostGuard>,
    cost_observer: Arc<CostObserver>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) pricing: Pricing,
    pub(crate) alerts: Arc<AlertManager>,
    history: Arc<SqliteAlertStore>,
    pub(crate) exhaustion_actions: BTreeMap<String, ExhaustionAction>,
}

/// Engines that cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnginesError {
    /// The objectives.
    #[error(transparent)]
    Slos(#[from] EngineError),
    /// The cost limits.
    #[error(transparent)]
    Limits(#[from] InvalidLimits),
    /// The alerts.
    #[error(transparent)]
    Alerts(#[from] ManagerError),
    /// The history of alerts.
    #[error(transparent)]
    History(#[from] StoreError),
    /// The way out for channels.
    #[error(transparent)]
    Http(#[from] BuildError),
}

/// The channel that is always there: a line in the log, and so a place in the history for alerts that no other channel wants.
const LOG: &str = "log";

impl Engines {
    /// Engines that have seen nothing. `clock` is the time by which costs are counted.
    pub(crate) fn start(
        rules: Rules,
        data: &Path,
        max_agents: usize,
        clock: Arc<ManualClock>,
    ) -> Result<Self, EnginesError> {
        let slos = Arc::new(rules.engine(max_agents)?);
        let exhaustion_actions = rules.exhaustion_actions();
        let history = Arc::new(SqliteAlertStore::open(data.join("alerts.db"))?);
        let mut notify = rules.notify;
        notify.options.store = Some(history.clone() as Arc<dyn AlertStore>);
        notify.options.http = Arc::new(Client::new(agent_sre::http::Options::default())?);
        notify.options.shutdown_timeout = Duration::from_secs(3);
        let alerts = Arc::new(notify.start()?);
        alerts.add_channel(
            CallbackChannel::new(LOG, log),
            ChannelConfig { min_severity: Severity::Info, ..ChannelConfig::default() },
        )?;
        // Agents beyond the limit count for the organisation alone.
        let limits = Limits { max_agents: rules.limits.max_agents.min(max_agents), ..rules.limits };
        let costs = Arc::new(CostGuard::with_limits(limits)?.with_clock(clock));
        let cost_observer = Arc::new(CostObserver::new(costs.clone()));
        let agents = Arc::new(Agents::new(max_agents));
        let to_alerts = alerts.clone();
        let hub = Hub::builder()
            .observe(slos.clone())
            .observe(cost_observer.clone())
            .observe(agents.clone())
            .handle(Arc::new(move |signal: &Signal| to_alerts.handle(signal)))
            .build();
        let pricing = Pricing::new(rules.prices);
        Ok(Self { hub, slos, costs, cost_observer, agents, pricing, alerts, history, exhaustion_actions })
    }

    /// The alerts that match, the newest first, with what became of them.
    pub(crate) fn alert_history(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        self.history.query(query)
    }

    fn observers(&self) -> [(&'static str, &dyn Observer); 3] {
        [("slos", &*self.slos), ("costs", &*self.cost_observer), ("agents", &*self.agents)]
    }

    pub(crate) fn save(&self, state: &mut StateWriter) {
        for (name, observer) in self.observers() {
            state.section(name, |state| observer.save(state));
        }
    }

    /// Takes up one part of what was saved; false where it is none of ours.
    pub(crate) fn restore(&self, name: &str, state: &mut StateReader<'_>) -> Result<bool, StateError> {
        match self.observers().into_iter().find(|(known, _)| *known == name) {
            Some((_, observer)) => observer.restore(state).map(|()| true),
            None => Ok(false),
        }
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
