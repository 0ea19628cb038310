use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use agent_sre::SystemClock;
use agent_sre::sqlite::SqliteJournal;

use crate::StartError;
use crate::config::Config;
use crate::engine_set::{self, EngineSetError, PreparedEngines};
use crate::loaded_config::LoadedConfig;
use crate::service_time::Clocks;

impl Config {
    /// Checks everything that can stop a start, and leaves nothing behind: what [`check_reload`](Self::check_reload) does, the address,
    /// and the data folder with its files. Returns the number of objectives.
    ///
    /// # Errors
    ///
    /// Returns the error with which [`Server::start`](crate::Server::start) would fail, or for which it would wait: that another process
    /// holds the data folder.
    pub fn check(&self) -> Result<usize, StartError> {
        let objectives = self.check_reload()?;
        TcpListener::bind(self.listen).map_err(|source| StartError::Listen { address: self.listen, source })?;
        self.check_data()?;
        Ok(objectives)
    }

    /// Checks what a reload reads: the files that the settings name, certificates included. Returns the number of objectives.
    ///
    /// # Errors
    ///
    /// Returns the error with which [`Server::reload`](crate::Server::reload) would fail.
    pub fn check_reload(&self) -> Result<usize, StartError> {
        self.check_access()?;
        self.acceptor()?;
        Ok(self.prepare(&Clocks::new(Arc::new(SystemClock)))?.objectives())
    }

    /// Loads every file of the engines that the settings name, and prepares the engines.
    pub(crate) fn prepare(&self, clocks: &Clocks) -> Result<PreparedEngines, StartError> {
        Ok(PreparedEngines::new(LoadedConfig::load(self)?, self.server_limits.max_agents, clocks)?)
    }

    /// Creates the data folder, unless it exists.
    pub(crate) fn create_data_folder(&self) -> Result<(), StartError> {
        fs::create_dir_all(&self.data).map_err(|source| self.data_error(source))
    }

    fn check_data(&self) -> Result<(), StartError> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing: Vec<&Path> = self.data.ancestors().take_while(is_missing).collect();
        let checked = self.create_data_folder().and_then(|()| self.check_data_files());
        // Another process may have begun to use them.
        missing.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        checked
    }

    fn check_data_files(&self) -> Result<(), StartError> {
        let probe = self.data.join(format!(".check-{}", std::process::id()));
        let is_writable = fs::write(&probe, "").and_then(|()| fs::remove_file(&probe));
        is_writable.map_err(|source| self.data_error(source))?;
        SqliteJournal::check(self.data.join(SqliteJournal::DEFAULT_FILE))?;
        Ok(engine_set::check_files(&self.data).map_err(EngineSetError::History)?)
    }

    fn data_error(&self, source: io::Error) -> StartError {
        StartError::Data { path: self.data.clone(), source }
    }
}
