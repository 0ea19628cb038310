use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, TransactionBehavior};
use sre_core::{StoreError, lock};

use crate::schema::{self, Schema, is_locked};

/// A SQLite file, used by one thread at a time.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pub(crate) path: PathBuf,
    connection: Mutex<Connection>,
}

impl StoreFile {
    pub(crate) fn open(path: PathBuf, schema: &Schema) -> Result<Self, StoreError> {
        let connection = Mutex::new(schema::open(&path, schema)?);
        Ok(Self { path, connection })
    }

    /// Does something within a transaction that writes.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let transact = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        transact().map_err(|error: rusqlite::Error| self.failed(error.to_string(), is_locked(&error)))
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection()).map_err(|error| self.failed(error.to_string(), is_locked(&error)))
    }

    pub(crate) fn failed(&self, reason: String, is_locked: bool) -> StoreError {
        StoreError { store: self.path.display().to_string(), reason, is_locked }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(&self.connection)
    }
}
