use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use sre_core::StoreError;
use sre_core::private::lock;

use crate::error::store_error;
use crate::schema::{self, Schema};

/// How long to wait for a lock that another process has just held for longer than [`schema::BUSY_TIMEOUT`].
const BUSY_TIMEOUT_WHILE_LOCKED: Duration = Duration::from_millis(100);

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

    /// Runs `work` in a write transaction.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let transact = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let result: rusqlite::Result<T> = transact();
        // A process that holds the lock for long is waited for once, not by every write.
        let is_file_locked = result.as_ref().is_err_and(is_locked);
        connection
            .busy_timeout(if is_file_locked { BUSY_TIMEOUT_WHILE_LOCKED } else { schema::BUSY_TIMEOUT })
            .and(result)
            .map_err(|error| store_error(&self.path, error))
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection()).map_err(|error| store_error(&self.path, error))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(&self.connection)
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_that_holds_the_lock_is_waited_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.db");
        let file = StoreFile::open(path.clone(), &schema::ALERTS).unwrap();
        let add = |id| file.write(|connection| connection.execute("INSERT INTO silences VALUES (?, '')", [id]));
        let other = Connection::open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let begun = Instant::now();
        assert!((0..20).all(|id| add(id).unwrap_err().is_locked()));
        assert!(begun.elapsed() < Duration::from_secs(60), "not five seconds each");
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(add(7).unwrap(), 1);
    }
}
