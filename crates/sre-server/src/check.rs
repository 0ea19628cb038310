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
use crate::event_checks::EventChecks;
use crate::loaded_config::LoadedConfig;
use crate::processor::Processor;
use crate::service_time::Clocks;
use crate::shared::Shared;

impl Config {
    /// Checks everything that can stop a start, and leaves nothing behind: what [`check_reload`](Self::check_reload) does, the address,
    /// and the data folder with its files and the saved state. Returns the number of objectives.
    ///
    /// # Errors
    ///
    /// Returns the error with which [`Server::start`](crate::Server::start) would fail, or for which it would wait: that another process
    /// holds the data folder.
    pub fn check(&self) -> Result<usize, StartError> {
        self.check_access()?;
        self.acceptor()?;
        let clocks = Clocks::new(Arc::new(SystemClock));
        let prepared = self.prepare(&clocks)?;
        let objectives = prepared.objectives();
        TcpListener::bind(self.listen).map_err(|source| StartError::Listen { address: self.listen, source })?;
        self.check_data(prepared, clocks)?;
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
        Ok(PreparedEngines::new(LoadedConfig::load(self)?, &self.server_limits, clocks)?)
    }

    /// Creates the data folder, unless it exists.
    pub(crate) fn create_data_folder(&self) -> Result<(), StartError> {
        fs::create_dir_all(&self.data).map_err(|source| self.data_error(source))
    }

    fn check_data(&self, prepared: PreparedEngines, clocks: Clocks) -> Result<(), StartError> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing: Vec<&Path> = self.data.ancestors().take_while(is_missing).collect();
        let checked = self.create_data_folder().and_then(|()| self.check_data_files(prepared, clocks));
        // Another process may have begun to use them.
        missing.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        checked
    }

    fn check_data_files(&self, prepared: PreparedEngines, clocks: Clocks) -> Result<(), StartError> {
        let scratch = self.data.join(format!(".check-{}", std::process::id()));
        let is_writable = fs::create_dir_all(&scratch).and_then(|()| fs::write(scratch.join("probe"), ""));
        let checked = is_writable.map_err(|source| self.data_error(source)).and_then(|()| {
            let journal = self.data.join(SqliteJournal::DEFAULT_FILE);
            let snapshot = SqliteJournal::check(&journal)?;
            engine_set::check_files(&self.data).map_err(EngineSetError::History)?;
            let Some((_, state)) = snapshot else { return Ok(()) };
            // Its engines have empty stores, and deliver nothing.
            let checks = Arc::new(EventChecks::new(clocks.engines.clone(), self.server_limits.max_agents));
            let engines = prepared.start(&scratch, checks.clone())?;
            let restored = Processor::new(Arc::new(Shared::new(engines, clocks, checks))).restore(&state);
            restored.map_err(|source| StartError::State { path: journal, source })
        });
        let removed = fs::remove_dir_all(&scratch).map_err(|source| self.data_error(source));
        checked.and(removed)
    }

    fn data_error(&self, source: io::Error) -> StartError {
        StartError::Data { path: self.data.clone(), source }
    }
}
