use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use agent_sre::alerts::{NotifyConfig, NotifyError};
use agent_sre::slo::{SliRegistry, SpecErrors};
use agent_sre::{EngineSettings, ExporterConfig, SettingsError, settings_files};

use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::token::Scope;

/// The channel that is always present: the log. Through it, the history has alerts that no other channel receives.
pub(crate) const LOG: &str = "log";

/// The content of the files that the settings name. All are loaded before any takes effect.
pub(crate) struct LoadedConfig {
    pub(crate) engines: EngineSettings,
    pub(crate) notify: NotifyConfig,
    pub(crate) exporters: Vec<ExporterConfig>,
}

/// The configuration is invalid; the message names the place, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of objectives.
    #[error(transparent)]
    Slos(#[from] SpecErrors),
    /// The file of channels.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The settings file of an engine.
    #[error(transparent)]
    Engine(#[from] SettingsError),
    /// A channel has a name that the service uses.
    #[error("{}: `name: {LOG}`: the service has a channel of this name, which writes to its log; expected another", .0.display())]
    ReservedChannel(PathBuf),
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
        let mut engines = EngineSettings::every_engine();
        engines.slos = match &config.slos[..] {
            [] => agent_sre::slo::parse(DEFAULT_SLOS, "default.yaml", &registry)?,
            paths => agent_sre::slo::load(paths, &registry)?,
        };
        for file in settings_files() {
            if let Some(path) = config.engine_files.get(file.name) {
                file.load(path, &mut engines)?;
            }
        }
        engines.redaction = Some(config.redact.clone());
        engines.traces = Some(config.traces.clone());
        let mut loaded = Self {
            engines,
            notify: match &config.notify {
                Some(path) => NotifyConfig::load(path)?,
                None => NotifyConfig::default(),
            },
            exporters: config.exporters.clone(),
        };
        if let Some(retention) = config.retention {
            loaded.notify.options.retention.age = retention;
        }
        match &config.notify {
            Some(path) if loaded.notify.channels.iter().any(|(channel, _)| channel.name() == LOG) => {
                Err(LoadError::ReservedChannel(path.clone()))
            }
            _ => Ok(loaded),
        }
    }

    /// Returns the action of each objective once its budget is exhausted, by name.
    pub(crate) fn exhaustion_actions(&self) -> BTreeMap<String, agent_sre::slo::ExhaustionAction> {
        self.engines.slos.iter().map(|spec| (spec.name.clone(), spec.exhaustion_action())).collect()
    }
}

impl Config {
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
