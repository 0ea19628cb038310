use std::sync::Arc;

use agent_sre::SystemClock;

use crate::StartError;
use crate::config::Config;
use crate::engine_set::PreparedEngines;
use crate::loaded_config::LoadedConfig;
use crate::service_time::Clocks;

impl Config {
    /// Checks everything that can stop a start, without opening the data folder or the port. Returns the number of objectives.
    ///
    /// # Errors
    ///
    /// Returns the error with which [`Server::start`](crate::Server::start) would fail.
    pub fn check(&self) -> Result<usize, StartError> {
        self.check_access()?;
        self.acceptor()?;
        if self.data.exists() && !self.data.is_dir() {
            let source = std::io::ErrorKind::NotADirectory.into();
            return Err(StartError::Data { path: self.data.clone(), source });
        }
        Ok(self.prepare(&Clocks::new(Arc::new(SystemClock)))?.objectives())
    }

    /// Loads every file of the engines that the settings name, and prepares the engines.
    pub(crate) fn prepare(&self, clocks: &Clocks) -> Result<PreparedEngines, StartError> {
        Ok(PreparedEngines::new(LoadedConfig::load(self)?, self.server_limits.max_agents, clocks)?)
    }
}
