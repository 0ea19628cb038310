use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use sre_core::StoreError;

/// Returns the error of a store for one of SQLite.
pub(crate) fn store_error(path: &Path, error: rusqlite::Error) -> StoreError {
    let store = path.display().to_string();
    let code = error.sqlite_error_code();
    let source = Arc::new(error);
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { store, source },
        Some(ErrorCode::DiskFull) => StoreError::Full { store, source },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt { store, source },
        _ => StoreError::Unavailable { store, source },
    }
}
