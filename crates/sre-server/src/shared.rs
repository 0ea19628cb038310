use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use agent_sre::adapter::{AdapterError, Body};
use agent_sre::private::lock;
use agent_sre::{Clock, Format, StoreError, Timestamp};
use tokio::sync::Notify;

use crate::counters::IngestCounters;
use crate::engine_set::EngineSet;
use crate::event_checks::EventChecks;
use crate::history::History;
use crate::removed_exporters::RemovedExporters;
use crate::service_time::Clocks;

/// State shared by the processing threads and the API.
pub(crate) struct Shared {
    /// Replaced as a whole when the configuration changes.
    engines: RwLock<Arc<EngineSet>>,
    pub(crate) counters: IngestCounters,
    pub(crate) checks: Arc<EventChecks>,
    pub(crate) history: Mutex<History>,
    pub(crate) journal: JournalHealth,
    pub(crate) removed_exporters: RemovedExporters,
    /// Data points and log records that are not used.
    pub(crate) unused: AtomicU64,
    /// Requests refused because of load.
    pub(crate) refused: AtomicU64,
    /// The error of the last reload of the configuration, if it failed.
    pub(crate) config_error: Mutex<Option<String>>,
    /// Asks for a reload of the configuration, which also opens the stores of alerts and signals again.
    pub(crate) reload_wanted: Notify,
    /// When the current configuration was loaded.
    pub(crate) config_loaded: Mutex<Timestamp>,
    pub(crate) clocks: Clocks,
    pub(crate) started: Timestamp,
    pub(crate) is_stopping: AtomicBool,
    /// Batches are journaled, and processed after a restart only.
    pub(crate) has_processor_panicked: AtomicBool,
}

/// The health of the journal.
#[derive(Debug, Default)]
pub(crate) struct JournalHealth {
    /// Why the last write failed; `None` if it succeeded.
    pub(crate) failure: Mutex<Option<String>>,
    pub(crate) failures: AtomicU64,
    /// Entries did not fit since the last snapshot, even if smaller ones did.
    pub(crate) is_full: AtomicBool,
    /// Why the last snapshot failed; `None` if it succeeded.
    pub(crate) snapshot_failure: Mutex<Option<String>>,
    pub(crate) snapshot_failures: AtomicU64,
    /// The journal was deleted while in use, and is not recreated yet.
    pub(crate) is_missing: AtomicBool,
    /// Entries and snapshots that could not be read at the start.
    pub(crate) damaged: AtomicU64,
    /// The number of the last entry.
    pub(crate) last: AtomicU64,
    /// The number of the last entry that the snapshot covers.
    pub(crate) covered: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl JournalHealth {
    /// Notes how the last write went.
    pub(crate) fn note(&self, error: Option<&StoreError>) {
        *lock(&self.failure) = error.map(StoreError::reason);
        self.is_missing.store(error.is_some_and(StoreError::is_missing), Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(engines: EngineSet, clocks: Clocks, checks: Arc<EventChecks>) -> Self {
        let started = clocks.wall.now();
        Self {
            engines: RwLock::new(Arc::new(engines)),
            counters: IngestCounters::default(),
            checks,
            history: Mutex::default(),
            journal: JournalHealth::default(),
            removed_exporters: RemovedExporters::default(),
            unused: AtomicU64::default(),
            refused: AtomicU64::default(),
            config_error: Mutex::default(),
            reload_wanted: Notify::new(),
            config_loaded: Mutex::new(started),
            started,
            clocks,
            is_stopping: AtomicBool::default(),
            has_processor_panicked: AtomicBool::default(),
        }
    }

    /// Returns the current time of the service.
    pub(crate) fn now(&self) -> Timestamp {
        self.clocks.now()
    }

    /// Decodes a body as far as that does not depend on the state of an adapter.
    pub(crate) fn decode(&self, format: Format, body: Body) -> Result<Body, AdapterError> {
        let decoder = self.engines().runtime.decoder(format.as_str());
        match decoder {
            Some(decode) => decode(body),
            None => Ok(body),
        }
    }

    pub(crate) fn engines(&self) -> Arc<EngineSet> {
        self.engines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the engines, and returns the previous ones.
    pub(crate) fn replace(&self, engines: EngineSet) -> Arc<EngineSet> {
        std::mem::replace(&mut *self.engines.write().unwrap_or_else(PoisonError::into_inner), Arc::new(engines))
    }
}
