use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use sre_core::StoreError;

use crate::error::store_error;
use crate::wal::log_of;

/// The schema of one kind of file.
#[derive(Debug)]
pub(crate) struct Schema {
    /// SQLite's `application_id`, which identifies the kind of file.
    pub(crate) id: i32,
    /// The migrations from each version to the next; the version is SQLite's `user_version`.
    pub(crate) migrations: &'static [&'static str],
    /// SQLite's `synchronous`: whether a commit survives a power failure, or only the death of the process.
    pub(crate) synchronous: &'static str,
}

/// Alerts and their deliveries.
pub(crate) const ALERTS: Schema = Schema { id: 0, migrations: &ALERT_MIGRATIONS, synchronous: "FULL" };

const ALERT_MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        severity INTEGER NOT NULL,
        agent_id TEXT NOT NULL,
        slo_name TEXT NOT NULL,
        dedup_key TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX alerts_by_time ON alerts (at);
    CREATE INDEX alerts_by_key ON alerts (dedup_key);
    CREATE TABLE deliveries (
        alert INTEGER NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
        channel TEXT NOT NULL,
        state INTEGER NOT NULL,
        owner INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        status INTEGER,
        error TEXT,
        at INTEGER NOT NULL,
        PRIMARY KEY (alert, channel)
    ) WITHOUT ROWID;
    CREATE INDEX unfinished ON deliveries (channel, alert) WHERE state IN (0, 1);
    CREATE TABLE acknowledgements (
        alert INTEGER PRIMARY KEY REFERENCES alerts (id) ON DELETE CASCADE,
        by TEXT NOT NULL,
        at INTEGER NOT NULL
    );
",
    "CREATE TABLE silences (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    "ALTER TABLE alerts ADD COLUMN one_off INTEGER NOT NULL DEFAULT 0",
];

/// How long to wait for another process that holds the lock.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a check, which people wait for.
const BUSY_TIMEOUT_OF_CHECK: Duration = Duration::from_millis(200);

/// Files up to this size are checked for damage when they are opened.
const CHECKED_BYTES: u64 = 64 << 20;

/// Opens a file and migrates it to this version's schema.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    let size = fs::metadata(path).map_or(0, |file| file.len());
    let mut connection = Connection::open(path).map_err(|error| store_error(path, error))?;
    configure(&connection, schema).map_err(|error| store_error(path, error))?;
    if (1..=CHECKED_BYTES).contains(&size) {
        check(&connection, path)?;
    }
    migrate(&mut connection, path, schema)?;
    Ok(connection)
}

/// Checks that a file can be opened, without a change to it; one that is missing can be created.
pub(crate) fn check_openable(path: &Path, schema: &Schema) -> Result<(), StoreError> {
    check_and_read(path, schema, |_| Ok(())).map(drop)
}

/// Checks that a file can be opened, and reads from it, without a change to it. Returns `None` if the file is missing.
pub(crate) fn check_and_read<T>(
    path: &Path,
    schema: &Schema,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let failed = |error| store_error(path, error);
    let size = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_or(0, |file| file.len()),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    if log_of(path).exists() {
        // The log of a process that was killed stays as it is.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    }
    connection.busy_timeout(BUSY_TIMEOUT_OF_CHECK).map_err(failed)?;
    if (1..=CHECKED_BYTES).contains(&size) {
        check(&connection, path)?;
    }
    // Rolled back when it is dropped.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    migrate_in(&transaction, path, schema)?;
    read(&transaction).map(Some).map_err(failed)
}

fn configure(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Must be set before the first table is created; lets deletions shrink the file.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", schema.synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Returns the size of what a file holds, in bytes.
pub(crate) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?).cast_unsigned())
}

/// Gives the room of what was deleted back to the file system.
pub(crate) fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("PRAGMA incremental_vacuum")?;
    let mut pages = statement.query([])?;
    // Every step frees one page.
    while pages.next()?.is_some() {}
    Ok(())
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| store_error(path, error))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::corrupt(path.display().to_string(), found)) }
}

fn migrate(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let failed = |error| store_error(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    migrate_in(&transaction, path, schema)?;
    transaction.commit().map_err(failed)
}

fn migrate_in(transaction: &Transaction<'_>, path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let version = compatible_version(transaction, path, schema)?;
    let migrate = || {
        transaction.pragma_update(None, "application_id", schema.id)?;
        for (version, migration) in (1u32..).zip(schema.migrations).skip(version as usize) {
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", version)?;
        }
        Ok(())
    };
    migrate().map_err(|error| store_error(path, error))
}

/// Returns the version of a file's schema, if it is of this application and not newer.
fn compatible_version(connection: &Connection, path: &Path, schema: &Schema) -> Result<u32, StoreError> {
    let failed = |error| store_error(path, error);
    let incompatible = |reason| StoreError::Incompatible { store: path.display().to_string(), reason };
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    if version > 0 && id != schema.id {
        return Err(incompatible("is a SQLite file of another application: name another file".to_owned()));
    }
    let latest = schema.migrations.len();
    if version as usize > latest {
        let reason =
            format!("has schema version {version}, expected at most {latest}: it was written by a newer version");
        return Err(incompatible(reason));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_finds_what_stops_an_open_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.db");
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort_unstable();
            names
        };
        check_openable(&path, &ALERTS).unwrap();
        assert_eq!(names(), [""; 0]);
        let old = Connection::open(&path).unwrap();
        old.execute_batch(ALERT_MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let before = fs::read(&path).unwrap();
        check_openable(&path, &ALERTS).unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (before, vec!["alerts.db".into()]), "it is not migrated");
        let other = open(&path, &ALERTS).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(check_openable(&path, &ALERTS).unwrap_err().is_locked());
        other.execute_batch("COMMIT; PRAGMA user_version = 99").unwrap();
        assert!(matches!(check_openable(&path, &ALERTS), Err(StoreError::Incompatible { .. })));
        drop(other);
        fs::write(&path, "no database, but longer than a header of one hundred bytes".repeat(20)).unwrap();
        assert!(matches!(check_openable(&path, &ALERTS), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_file_of_the_first_version_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(ALERT_MIGRATIONS[0]).unwrap();
        old.execute("INSERT INTO alerts VALUES (7, 1, 3, 'a', 's', 'k', '{}')", []).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let new = open(&path, &ALERTS).unwrap();
        let version: usize = new.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap() as usize;
        assert_eq!(version, ALERT_MIGRATIONS.len());
        let count = |table: &str| {
            new.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!((count("alerts"), count("silences")), (1, 0));
    }
}
