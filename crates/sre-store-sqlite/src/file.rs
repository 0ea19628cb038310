use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use sre_core::{StoreError, lock};

use crate::schema::{self, Schema, is_locked};

/// How long to wait for another process that was waited for in vain before.
const PATIENCE_WHILE_HELD: Duration = Duration::from_millis(100);

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
        let result: rusqlite::Result<T> = transact();
        // Who holds the file for long is waited for once, and not again by everything that comes meanwhile.
        let is_held = result.as_ref().is_err_and(is_locked);
        connection
            .busy_timeout(if is_held { PATIENCE_WHILE_HELD } else { schema::PATIENCE })
            .and(result)
            .map_err(|error| self.failed(error.to_string(), is_locked(&error)))
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_that_holds_the_file_is_waited_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.db");
        let file = StoreFile::open(path.clone(), &schema::ALERTS).unwrap();
        let add = |id| file.write(|connection| connection.execute("INSERT INTO silences VALUES (?, '')", [id]));
        let other = Connection::open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let begun = Instant::now();
        assert!((0..20).all(|id| add(id).unwrap_err().is_locked));
        assert!(begun.elapsed() < Duration::from_secs(60), "not five seconds each");
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(add(7), Ok(1));
    }
}
