use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use agent_sre::alerts::{NotifyConfig, NotifyError};
use agent_sre::cascade::DetectorConfig;
use agent_sre::cost::{FileError, InvalidLimits, Limits, PriceBook};
use agent_sre::slo::{EngineError, SliRegistry, SloEngine, SloSpec, SpecError};
use tokio_rustls::TlsAcceptor;

use crate::Config;

/// What the files say that the settings name: read and checked as a whole, so that a wrong one changes nothing.
pub(crate) struct LoadedConfig {
    pub(crate) specs: Vec<SloSpec>,
    pub(crate) notify: NotifyConfig,
    pub(crate) limits: Limits,
    pub(crate) prices: PriceBook,
    /// Where the configuration has any.
    pub(crate) breakers: Option<DetectorConfig>,
}

/// A file that cannot be used; says which line, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Objectives.
    #[error(transparent)]
    Slos(#[from] SpecError),
    /// Objectives that cannot be run together.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Channels.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// Limits or prices.
    #[error(transparent)]
    Costs(#[from] FileError),
    /// Breakers.
    #[error(transparent)]
    Breakers(#[from] agent_sre::cascade::SpecError),
    /// Limits that cannot be.
    #[error(transparent)]
    Limits(#[from] InvalidLimits),
    /// A folder or list of objectives without any.
    #[error("{}: found no objective, expected at least one", .0.display())]
    NoObjectives(PathBuf),
    /// An address that others reach, without tokens.
    #[error(
        "`listen: {0}`: others reach this address, so that `tokens` are needed for both scopes \
         (`sre config token` makes them); expected them, or an address of this machine's own such as 127.0.0.1"
    )]
    Open(SocketAddr),
    /// A certificate or its key.
    #[error("{0}")]
    Tls(String),
}

/// What agents are held to where nobody said anything else.
pub(crate) const DEFAULT_SLOS: &str = include_str!("default.yaml");

impl LoadedConfig {
    pub(crate) fn load(config: &Config) -> Result<Self, LoadError> {
        let registry = SliRegistry::default();
        let specs = match &config.slos[..] {
            [] => agent_sre::slo::parse(DEFAULT_SLOS, "default.yaml", &registry)?,
            paths => agent_sre::slo::load(paths, &registry)?,
        };
        if specs.is_empty() {
            return Err(LoadError::NoObjectives(config.slos[0].clone()));
        }
        let mut rules = Self {
            specs,
            notify: match &config.notify {
                Some(path) => NotifyConfig::load(path)?,
                None => NotifyConfig::default(),
            },
            limits: config.limits.as_deref().map(Limits::load).transpose()?.unwrap_or_default(),
            prices: config.prices.as_deref().map(PriceBook::load).transpose()?.unwrap_or_default(),
            breakers: config.breakers.as_deref().map(DetectorConfig::load).transpose()?,
        };
        if let Some(retention) = config.retention {
            rules.notify.options.retention.age = retention;
        }
        rules.engine(1)?;
        rules.limits.validate()?;
        Ok(rules)
    }

    /// The objectives, of at most so many agents.
    pub(crate) fn engine(&self, most_agents: usize) -> Result<SloEngine, EngineError> {
        Ok(SloEngine::new(self.specs.clone(), SliRegistry::default())?.with_max_agents(most_agents))
    }

    /// What each objective asks for when its budget is spent, by its name.
    pub(crate) fn exhaustion_actions(&self) -> BTreeMap<String, agent_sre::slo::ExhaustionAction> {
        let action = |spec: &SloSpec| {
            let policy = spec.error_budget_policy.as_ref();
            policy.and_then(|policy| policy.exhaustion_action).unwrap_or_default()
        };
        self.specs.iter().map(|spec| (spec.name.clone(), action(spec))).collect()
    }
}

impl Config {
    /// Reads every file that the settings name; how many objectives there are.
    pub fn check(&self) -> Result<usize, LoadError> {
        let (rules, _) = self.read()?;
        Ok(rules.specs.len())
    }

    /// Everything that the settings name: nothing is used unless all of it can be.
    pub(crate) fn read(&self) -> Result<(LoadedConfig, Option<TlsAcceptor>), LoadError> {
        self.check_access()?;
        Ok((LoadedConfig::load(self)?, self.acceptor()?))
    }

    /// What meets connections, where that is TLS.
    pub(crate) fn acceptor(&self) -> Result<Option<TlsAcceptor>, LoadError> {
        let acceptor = self.tls.as_ref().map(crate::listen::tls).transpose();
        acceptor.map_err(|error| LoadError::Tls(error.to_string()))
    }
}
