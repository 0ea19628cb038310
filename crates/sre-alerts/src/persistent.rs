use std::ops::Deref;
use std::sync::Arc;

use sre_core::{
    AgentEvent, AlertQuery, AlertRecord, AlertStore, Observer, Signal, SignalHandler, Snapshot, StoreError, Timestamp,
};

use crate::{AlertManager, AlertOptions, ManagerError};

/// An [`AlertManager`] with a store: alerts are stored before they are delivered, a restart resumes unfinished deliveries, and
/// the history can be queried.
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
    fn handle(&self, signal: &Signal) {
        self.manager.handle(signal);
    }
}

impl Observer for PersistentAlertManager {
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal)) {
        self.manager.observe(event, signals);
    }

    fn snapshot(&self, now: Timestamp) -> Vec<Snapshot> {
        self.manager.snapshot(now)
    }
}

impl std::fmt::Debug for PersistentAlertManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.manager.fmt(f)
    }
}
