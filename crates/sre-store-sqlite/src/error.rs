use std::io;
use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use sre_core::StoreError;

/// Returns the error of a store for one of SQLite.
pub(crate) fn store_error(path: &Path, error: rusqlite::Error) -> StoreError {
    let store = path.display().to_string();
    let code = error.sqlite_error_code();
    let source = Arc::new(error);
    if let rusqlite::Error::SqliteFailure(failure, _) = &*source
        && failure.extended_code == SQLITE_IOERR_SHMSIZE
    {
        // The disk is full: the index of the write-ahead log cannot grow.
        return StoreError::Full { store, source };
    }
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { store, source },
        Some(ErrorCode::DiskFull) => StoreError::Full { store, source },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt { store, source },
        _ => StoreError::Unavailable { store, source },
    }
}

/// Returns the error of a store for one of a file beside it.
pub(crate) fn io_error(path: &Path, error: io::Error) -> StoreError {
    let store = path.display().to_string();
    match error.kind() {
        io::ErrorKind::StorageFull => StoreError::Full { store, source: Arc::new(error) },
        _ => StoreError::unavailable(store, error),
    }
}
