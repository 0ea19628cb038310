use std::collections::BTreeMap;
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
    /// Overrides the files in [`Config::engine_files`] that have the same names.
    pub engine_files: BTreeMap<&'static str, PathBuf>,
}

impl Config {
    /// Applies settings that take precedence, now and at every reload.
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        let Overrides { listen, data, slos, notify, engine_files } = overrides.clone();
        Self {
            listen: listen.unwrap_or(self.listen),
            data: data.unwrap_or(self.data),
            slos: if slos.is_empty() { self.slos } else { slos },
            notify: notify.or(self.notify),
            engine_files: self.engine_files.into_iter().chain(engine_files).collect(),
            overrides,
            ..self
        }
    }
}
