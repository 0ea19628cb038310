use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, TransactionBehavior};
use sre_core::{StoreError, lock};

use crate::schema::{self, Schema};

/// A SQLite file, used by one thread at a time.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pub(crate) path: PathBuf,
    connection: Mutex<Connection>,
}

impl StoreFile {
    pub(crate) fn open(path: PathBuf, schema: &Schema) -> Result<Self, StoreError> {
        match schema::open(&path, schema) {
            Ok(connection) => Ok(Self { path, connection: Mutex::new(connection) }),
            Err(reason) => Err(StoreError { store: path.display().to_string(), reason }),
        }
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
        transact().map_err(|error: rusqlite::Error| self.failed(error.to_string()))
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection()).map_err(|error| self.failed(error.to_string()))
    }

    pub(crate) fn failed(&self, reason: String) -> StoreError {
        StoreError { store: self.path.display().to_string(), reason }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(&self.connection)
    }
}
