use std::net::SocketAddr;
use std::path::PathBuf;

use agent_sre::alerts::ManagerError;
use agent_sre::http::OutboxError;
use agent_sre::{RuntimeError, StateError, StoreError};

use crate::api::StartPhase;
use crate::engine_set::EngineSetError;
use crate::loaded_config::LoadError;

/// The service cannot be started; the message names what to fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings or a file they name are invalid.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The engines cannot be started.
    #[error(transparent)]
    EngineSet(#[from] EngineSetError),
    /// The data folder cannot be created.
    #[error("{}: {source}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The journal cannot be opened or read.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// The saved state cannot be restored.
    #[error("{}: {source}; use another `data` folder, or the version that wrote it", path.display())]
    State {
        /// The journal.
        path: PathBuf,
        /// The cause.
        source: StateError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// Returns what to wait for before another attempt may succeed; `None` if an attempt cannot succeed.
    pub(crate) fn waits_for(&self) -> Option<StartPhase> {
        match self {
            Self::Journal(error)
            | Self::EngineSet(
                EngineSetError::History(error)
                | EngineSetError::Alerts(ManagerError::Store(error))
                | EngineSetError::Exporter(OutboxError::Spool(error))
                | EngineSetError::Runtime(RuntimeError::Export(OutboxError::Spool(error))),
            ) => {
                let full = error.is_full().then_some(StartPhase::DiskFull);
                if error.is_locked() { Some(StartPhase::Locked) } else { full }
            }
            Self::Data { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Some(StartPhase::DiskFull),
            _ => None,
        }
    }
}
