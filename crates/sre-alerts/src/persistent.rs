use std::ops::Deref;
use std::sync::Arc;

use sre_core::{
    AgentEvent, AlertQuery, AlertRecord, AlertStore, Observer, Signal, SignalHandler, Snapshot, StoreError, Timestamp,
};

use crate::{AlertManager, AlertOptions, ManagerError};

/// An [`AlertManager`] over a store: what it accepts is written before it is tried, a restart takes up what was not
/// delivered, and the history can be read.
pub struct PersistentAlertManager {
    manager: AlertManager,
    store: Arc<dyn AlertStore>,
}

impl PersistentAlertManager {
    /// A manager over `store`, whatever [`AlertOptions::store`] says.
    pub fn new(store: Arc<dyn AlertStore>, options: AlertOptions) -> Result<Self, ManagerError> {
        let manager = AlertManager::new(AlertOptions { store: Some(store.clone()), ..options })?;
        Ok(Self { manager, store })
    }

    /// The alerts that match, newest first, with what became of them.
    pub fn query_alerts(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        self.store.query(query)
    }

    /// How many alerts the history holds.
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
