use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Settings that take precedence over the file, also when it is reloaded: those of the command line.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Overrides [`Config::listen`](crate::Config::listen).
    pub listen: Option<SocketAddr>,
    /// Overrides [`Config::data`](crate::Config::data).
    pub data: Option<PathBuf>,
    /// Overrides [`Config::slos`](crate::Config::slos), unless it is empty.
    pub slos: Vec<PathBuf>,
    /// Overrides [`Config::notify`](crate::Config::notify).
    pub notify: Option<PathBuf>,
    /// Overrides the files in [`Config::engine_files`](crate::Config::engine_files) that have the same names.
    pub engine_files: BTreeMap<&'static str, PathBuf>,
}
