use std::collections::BTreeMap;
use std::net::SocketAddr;

use agent_sre::alerts::{NotifyConfig, NotifyError};
use agent_sre::cascade::DetectorConfig;
use agent_sre::cost::{FileError, InvalidLimits, Limits, PriceBook};
use agent_sre::slo::{EngineError, SliRegistry, SloEngine, SloSpec, SpecErrors};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::token::Scope;

/// The content of the files that the settings name. All are loaded before any takes effect.
pub(crate) struct LoadedConfig {
    pub(crate) specs: Vec<SloSpec>,
    pub(crate) notify: NotifyConfig,
    pub(crate) limits: Limits,
    pub(crate) prices: PriceBook,
    /// `None` if breakers are not configured.
    pub(crate) breakers: Option<DetectorConfig>,
}

/// The configuration is invalid; the message says where, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of objectives.
    #[error(transparent)]
    Slos(#[from] SpecErrors),
    /// The objectives contradict each other.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The file of channels.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The file of limits or prices.
    #[error(transparent)]
    Costs(#[from] FileError),
    /// The file of breakers.
    #[error(transparent)]
    Breakers(#[from] agent_sre::cascade::SpecError),
    /// The limits contradict each other.
    #[error(transparent)]
    Limits(#[from] InvalidLimits),
    /// The address is reachable from other machines, and tokens are missing.
    #[error(
        "`listen: {0}`: other machines can reach this address, so `tokens` are needed for both scopes \
         (`sre config token` generates them); add tokens, or use a loopback address such as 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The certificate or its key.
    #[error("{0}")]
    Tls(String),
}

/// The objective of every agent if no others are configured.
pub(crate) const DEFAULT_SLOS: &str = include_str!("default.yaml");

impl LoadedConfig {
    pub(crate) fn load(config: &Config) -> Result<Self, LoadError> {
        let registry = SliRegistry::default();
        let specs = match &config.slos[..] {
            [] => agent_sre::slo::parse(DEFAULT_SLOS, "default.yaml", &registry)?,
            paths => agent_sre::slo::load(paths, &registry)?,
        };
        let mut loaded = Self {
            specs,
            notify: match &config.notify {
                Some(path) => NotifyConfig::load(path)?,
                None => NotifyConfig::default(),
            },
            limits: config.limits.as_deref().map(Limits::load).transpose()?.unwrap_or_default(),
            prices: config.prices.as_deref().map(PriceBook::load).transpose()?.unwrap_or_else(PriceBook::public),
            breakers: config.breakers.as_deref().map(DetectorConfig::load).transpose()?,
        };
        if let Some(retention) = config.retention {
            loaded.notify.options.retention.age = retention;
        }
        loaded.engine(1)?;
        loaded.limits.validate()?;
        Ok(loaded)
    }

    /// Returns an engine for the objectives.
    fn engine(&self, max_agents: usize) -> Result<SloEngine, EngineError> {
        Ok(SloEngine::new(self.specs.clone(), SliRegistry::default())?.with_max_agents(max_agents))
    }

    /// Returns the action of each objective once its budget is exhausted, by name.
    pub(crate) fn exhaustion_actions(&self) -> BTreeMap<String, agent_sre::slo::ExhaustionAction> {
        let action = |spec: &SloSpec| {
            let policy = spec.error_budget_policy.as_ref();
            policy.and_then(|policy| policy.exhaustion_action).unwrap_or_default()
        };
        self.specs.iter().map(|spec| (spec.name.clone(), action(spec))).collect()
    }
}

impl Config {
    /// Loads and checks every file that the settings name, and returns the number of objectives.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is invalid, or if the address is public and tokens are missing.
    pub fn check(&self) -> Result<usize, LoadError> {
        let (loaded, _) = self.read()?;
        Ok(loaded.specs.len())
    }

    /// Loads everything that the settings name.
    pub(crate) fn read(&self) -> Result<(LoadedConfig, Option<TlsAcceptor>), LoadError> {
        self.check_access()?;
        Ok((LoadedConfig::load(self)?, self.acceptor()?))
    }

    /// Checks that unknown clients cannot reach the service: it listens on a loopback address or has tokens for both scopes.
    pub(crate) fn check_access(&self) -> Result<(), LoadError> {
        let has = |scope| self.tokens.iter().any(|token| token.scope == scope);
        if self.listen.ip().is_loopback() || (has(Scope::Ingest) && has(Scope::Read)) {
            return Ok(());
        }
        Err(LoadError::Open(self.listen))
    }

    /// Loads the certificate chain and its key; `None` without TLS.
    pub(crate) fn acceptor(&self) -> Result<Option<TlsAcceptor>, LoadError> {
        let acceptor = self.tls.as_ref().map(crate::listen::tls).transpose();
        acceptor.map_err(|error| LoadError::Tls(error.to_string()))
    }
}
