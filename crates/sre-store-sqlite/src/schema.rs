use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use sre_core::StoreError;

/// What a kind of file holds.
pub(crate) struct Schema {
    /// SQLite's `application_id`, by which a file of another kind is told.
    pub(crate) id: i32,
    /// Each brings a file from one version to the next; the version is SQLite's `user_version`.
    pub(crate) migrations: &'static [&'static str],
    /// SQLite's `synchronous`: whether a commit outlives a power cut, or the death of the process only.
    pub(crate) synchronous: &'static str,
}

/// Alerts and their deliveries.
pub(crate) const ALERTS: Schema = Schema { id: 0, migrations: &ALERT_MIGRATIONS, synchronous: "FULL" };

const ALERT_MIGRATIONS: [&str; 2] = [
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
];

/// How long to wait for another process that holds the file.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Files up to this size are checked as a whole when they are opened.
const CHECKED_BYTES: u64 = 64 << 20;

/// Opens a file and brings it up to date; the error says what to mend.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    let size = fs::metadata(path).map_or(0, |file| file.len());
    let failed = |reason, is_locked| StoreError { store: path.display().to_string(), reason, is_locked };
    let connection = Connection::open(path).map_err(|error| failed(format!("cannot be opened: {error}"), false))?;
    prepare(connection, size, schema).map_err(|failure| {
        let is_locked = matches!(&failure, Failure::Sqlite(error) if is_locked(error));
        let reason = match failure {
            Failure::Sqlite(error) if is_corrupt(&error) => {
                format!("is no usable SQLite file ({error}): move it away, and a new one is begun")
            }
            Failure::Sqlite(error) => format!("cannot be used: {error}"),
            Failure::Corrupt(what) => format!("is damaged ({what}): move it away, and a new one is begun"),
            Failure::Other => "is a SQLite file for something else: name another file".to_owned(),
            Failure::Newer(version) => {
                format!(
                    "has schema version {version}, expected at most {}: it was made by a newer version",
                    schema.migrations.len()
                )
            }
        };
        failed(reason, is_locked)
    })
}

enum Failure {
    Sqlite(rusqlite::Error),
    Corrupt(String),
    Other,
    Newer(u32),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn prepare(mut connection: Connection, size: u64, schema: &Schema) -> Result<Connection, Failure> {
    connection.busy_timeout(PATIENCE)?;
    // Before the first table is made, so that deleted history gives its room back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", schema.synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    if (1..=CHECKED_BYTES).contains(&size) {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Failure::Corrupt(found));
        }
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let id: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if version > 0 && id != schema.id {
        return Err(Failure::Other);
    }
    if version as usize > schema.migrations.len() {
        return Err(Failure::Newer(version));
    }
    transaction.pragma_update(None, "application_id", schema.id)?;
    for (version, migration) in (1u32..).zip(schema.migrations).skip(version as usize) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    transaction.commit()?;
    Ok(connection)
}

/// Whether another process holds the file.
pub(crate) fn is_locked(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

#[cfg(test)]
mod tests {
    use super::*;

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
