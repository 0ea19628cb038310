use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use sre_core::StoreError;
use sre_core::private::lock;

use crate::error::{io_error, store_error};
use crate::identity::Identity;
use crate::schema::{self, Schema};

/// How long to wait for a lock that another process has just held for longer than [`schema::BUSY_TIMEOUT`].
const BUSY_TIMEOUT_WHILE_LOCKED: Duration = Duration::from_millis(100);

/// A SQLite file, used by one thread at a time.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pub(crate) path: PathBuf,
    schema: &'static Schema,
    open: Mutex<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    /// `None` if the file could not be opened again.
    connection: Option<Connection>,
    identity: Identity,
}

impl StoreFile {
    pub(crate) fn open(path: PathBuf, schema: &'static Schema) -> Result<Self, StoreError> {
        let open = Mutex::new(OpenFile::at(&path, schema)?);
        Ok(Self { path, schema, open })
    }

    /// Runs `work` in a write transaction. Fails if the file has been deleted or replaced by then.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut open = self.lock();
        // Before, so that what is refused is not written either, and after, for a file that was deleted meanwhile.
        open.check(&self.path)?;
        let connection = open.connection(&self.path)?;
        let transact = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let result: rusqlite::Result<T> = transact();
        // A process that holds the lock for long is waited for once, not by every write.
        let is_file_locked = result.as_ref().is_err_and(is_locked);
        let result = connection
            .busy_timeout(if is_file_locked { BUSY_TIMEOUT_WHILE_LOCKED } else { schema::BUSY_TIMEOUT })
            .and(result)
            .map_err(|error| store_error(&self.path, error))?;
        open.check(&self.path)?;
        Ok(result)
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(self.lock().connection(&self.path)?).map_err(|error| store_error(&self.path, error))
    }

    /// Fails if the file has been deleted or replaced since it was opened.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.lock().check(&self.path)
    }

    /// Opens the file again: a deleted one is recreated empty, together with its folder. Fails if another file is in its place,
    /// which may be a backup that someone has put there.
    pub(crate) fn reopen(&self, configure: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> {
        let mut open = self.lock();
        let now = Identity::at(&self.path);
        if now.file.is_some() && now.file != open.identity.file {
            return open.check(&self.path);
        }
        open.close(&self.path);
        if let Some(folder) = self.path.parent() {
            // Not the folders above: without them, the volume is not mounted.
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io_error(&self.path, error)),
                _ => {}
            }
        }
        let again = OpenFile::at(&self.path, self.schema)?;
        again.connection.as_ref().map_or(Ok(()), configure).map_err(|error| store_error(&self.path, error))?;
        *open = again;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, OpenFile> {
        lock(&self.open)
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        self.lock().close(&self.path);
    }
}

impl OpenFile {
    fn at(path: &Path, schema: &Schema) -> Result<Self, StoreError> {
        let connection = Some(schema::open(path, schema)?);
        Ok(Self { connection, identity: Identity::at(path) })
    }

    fn connection(&mut self, path: &Path) -> Result<&mut Connection, StoreError> {
        self.connection.as_mut().ok_or_else(|| missing(path, "deleted while in use"))
    }

    fn check(&mut self, path: &Path) -> Result<(), StoreError> {
        self.connection(path)?;
        let now = Identity::at(path);
        let known = &mut self.identity;
        known.log = known.log.or(now.log);
        if now == *known {
            return Ok(());
        }
        Err(missing(
            path,
            match now.file {
                None => "deleted while in use",
                file if file == known.file => "its write-ahead log was deleted while in use",
                Some(_) => "replaced by another file while in use; restart to use that one",
            },
        ))
    }

    fn close(&mut self, path: &Path) {
        let connection = self.connection.take();
        if Identity::at(path).file != self.identity.file {
            // SQLite would delete the write-ahead log at the path, which is that of another file.
            std::mem::forget(connection);
        }
    }
}

fn missing(path: &Path, reason: &str) -> StoreError {
    StoreError::Missing { store: path.display().to_string(), reason: reason.to_owned() }
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
