use std::ops::Deref;
use std::sync::Arc;

use sre_core::{AlertQuery, AlertRecord, AlertStore, Collect, Signal, SignalHandler, Snapshot, StoreError, Timestamp};

use crate::{AlertManager, AlertOptions, ManagerError};

/// An [`AlertManager`] with a store: alerts are stored before they are delivered, a restart resumes unfinished deliveries, and
/// the history can be queried.
///
/// With the crate `agent-sre` and its features `alerts` and `sqlite`, `PersistentAlertManager::open(path)` creates one whose history is
/// a SQLite file (`use agent_sre::prelude::*`).
pub struct PersistentAlertManager {
    manager: AlertManager,
    store: Arc<dyn AlertStore>,
}

impl PersistentAlertManager {
    /// Creates a manager with `store`, which replaces [`AlertOptions::store`].
    pub fn new(store: Arc<dyn AlertStore>, options: AlertOptions) -> Result<Self, ManagerError> {
        let manager = AlertManager::new(AlertOptions { store: Some(store.clone()), ..options })?;
        Ok(Self { manager, store })
    }

    /// Returns the matching alerts with their deliveries, newest first.
    pub fn query_alerts(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        self.store.query(query)
    }

    /// Returns the number of alerts in the history.
    pub fn alert_count(&self) -> Result<u64, StoreError> {
        self.store.count()
    }
}

impl Deref for PersistentAlertManager {
    type Target = AlertManager;

    fn deref(&self) -> &AlertManager {
        &self.manager
    }
}

impl SignalHandler for PersistentAlertManager {
    fn handle(&self, signals: &[Signal], emit: &mut dyn FnMut(Signal)) {
        self.manager.handle(signals, emit);
    }
}

impl Collect for PersistentAlertManager {
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        self.manager.snapshots(now)
    }
}

impl std::fmt::Debug for PersistentAlertManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.manager.fmt(f)
    }
}
