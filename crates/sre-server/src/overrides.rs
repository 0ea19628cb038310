use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Config;

/// Settings that take precedence over the file, also when it is reloaded: those of the command line.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Overrides [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// Overrides [`Config::data`].
    pub data: Option<PathBuf>,
    /// Overrides [`Config::slos`], unless it is empty.
    pub slos: Vec<PathBuf>,
    /// Overrides [`Config::notify`].
    pub notify: Option<PathBuf>,
    /// Overrides [`Config::limits`].
    pub limits: Option<PathBuf>,
    /// Overrides [`Config::prices`].
    pub prices: Option<PathBuf>,
    /// Overrides [`Config::breakers`].
    pub breakers: Option<PathBuf>,
}

impl Config {
    /// Applies settings that take precedence, now and at every reload.
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        let Overrides { listen, data, slos, notify, limits, prices, breakers } = overrides.clone();
        Self {
            listen: listen.unwrap_or(self.listen),
            data: data.unwrap_or(self.data),
            slos: if slos.is_empty() { self.slos } else { slos },
            notify: notify.or(self.notify),
            limits: limits.or(self.limits),
            prices: prices.or(self.prices),
            breakers: breakers.or(self.breakers),
            overrides,
            ..self
        }
    }
}
