use std::path::PathBuf;

use rusqlite::{Connection, Row, params};
use sre_core::{LedgerBooks, LedgerEntry, LedgerHold, LedgerStore, StoreError, Timestamp, Usd};

use crate::file::StoreFile;
use crate::schema::Schema;

/// A [`LedgerStore`] in a SQLite file: sums by day and month, reservations, and each amount for as long as details are kept.
///
/// What was written outlives the death of the process at any moment. A power cut may take the last amounts, and damages
/// nothing.
#[derive(Debug)]
pub struct SqliteLedger(StoreFile);

const LEDGER: Schema = Schema {
    // "SREL"
    id: 0x5352_454c,
    synchronous: "NORMAL",
    migrations: &[
        "
    CREATE TABLE agent_days (
        agent TEXT NOT NULL,
        day INTEGER NOT NULL,
        spent INTEGER NOT NULL,
        tasks INTEGER NOT NULL,
        PRIMARY KEY (agent, day)
    ) WITHOUT ROWID;
    CREATE TABLE shared_days (
        name TEXT NOT NULL,
        day INTEGER NOT NULL,
        spent INTEGER NOT NULL,
        PRIMARY KEY (name, day)
    ) WITHOUT ROWID;
    CREATE TABLE months (month INTEGER PRIMARY KEY, spent INTEGER NOT NULL);
    CREATE TABLE amounts (at INTEGER NOT NULL, agent TEXT NOT NULL, task TEXT NOT NULL, amount INTEGER NOT NULL);
    CREATE INDEX amounts_by_time ON amounts (at);
    CREATE TABLE holds (
        number INTEGER PRIMARY KEY,
        agent TEXT NOT NULL,
        shared TEXT NOT NULL,
        amount INTEGER NOT NULL,
        expires INTEGER NOT NULL
    );
",
        "
    CREATE TABLE agent_model_days (
        agent TEXT NOT NULL,
        model TEXT NOT NULL,
        day INTEGER NOT NULL,
        spent INTEGER NOT NULL,
        PRIMARY KEY (agent, model, day)
    ) WITHOUT ROWID;
    ALTER TABLE holds ADD COLUMN model TEXT;
",
    ],
};

impl SqliteLedger {
    /// The file's name where nobody names another.
    pub const DEFAULT_FILE: &str = "agent_sre_ledger.db";

    /// Opens a file, which is made where there is none. A file that is damaged, of a newer version, of something else or not
    /// writable is an error that says so.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        StoreFile::open(path.into(), &LEDGER).map(Self)
    }
}

impl LedgerStore for SqliteLedger {
    fn enter(&self, entry: &LedgerEntry, settles: Option<u64>) -> Result<(), StoreError> {
        self.0.write(|connection| {
            let (amount, day) = (entry.amount.nanos(), entry.day.as_nanos());
            run(
                connection,
                "INSERT INTO agent_days VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET spent = spent + ?3, tasks = tasks + ?4",
                params![entry.agent, day, amount, entry.is_new_task],
            )?;
            if let Some(model) = &entry.model {
                run(
                    connection,
                    "INSERT INTO agent_model_days VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET spent = spent + ?4",
                    params![entry.agent, model, day, amount],
                )?;
            }
            for name in &entry.shared {
                run(
                    connection,
                    "INSERT INTO shared_days VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET spent = spent + ?3",
                    params![name, day, amount],
                )?;
            }
            run(
                connection,
                "INSERT INTO months VALUES (?1, ?2) ON CONFLICT DO UPDATE SET spent = spent + ?2",
                params![entry.month.as_nanos(), amount],
            )?;
            let at = entry.time.as_nanos();
            run(connection, "INSERT INTO amounts VALUES (?, ?, ?, ?)", params![at, entry.agent, entry.task, amount])?;
            settles.map_or(Ok(()), |number| release(connection, number))
        })
    }

    fn hold(&self, hold: &LedgerHold) -> Result<(), StoreError> {
        let shared = serde_json::to_string(&hold.shared).unwrap_or_default();
        let (number, amount, expires) = (hold.number.cast_signed(), hold.amount.nanos(), hold.expires.as_nanos());
        self.0.write(|connection| {
            let values = params![number, hold.agent, shared, amount, expires, hold.model];
            run(connection, "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?)", values)
        })
    }

    fn release(&self, number: u64) -> Result<(), StoreError> {
        self.0.write(|connection| release(connection, number))
    }

    fn reset_day(&self, agent: Option<&str>, day: Timestamp) -> Result<(), StoreError> {
        self.0.write(|connection| {
            let of = params![day.as_nanos(), agent];
            run(connection, "DELETE FROM agent_days WHERE day = ?1 AND (?2 IS NULL OR agent = ?2)", of)?;
            run(connection, "DELETE FROM agent_model_days WHERE day = ?1 AND (?2 IS NULL OR agent = ?2)", of)
        })
    }

    fn books(&self, day: Timestamp, month: Timestamp) -> Result<LedgerBooks, StoreError> {
        self.0.read(|connection| {
            let mut agents =
                connection.prepare("SELECT agent, spent, tasks FROM agent_days WHERE day = ? ORDER BY agent")?;
            let agents = agents.query_map([day.as_nanos()], |row| {
                Ok((row.get(0)?, Usd::from_nanos(row.get(1)?), row.get::<_, i64>(2)?.cast_unsigned()))
            })?;
            let mut models =
                connection.prepare("SELECT agent, model, spent FROM agent_model_days WHERE day = ? ORDER BY 1, 2")?;
            let models = models
                .query_map([day.as_nanos()], |row| Ok((row.get(0)?, row.get(1)?, Usd::from_nanos(row.get(2)?))))?;
            let mut shared = connection.prepare("SELECT name, spent FROM shared_days WHERE day = ? ORDER BY name")?;
            let shared = shared.query_map([day.as_nanos()], |row| Ok((row.get(0)?, Usd::from_nanos(row.get(1)?))))?;
            let mut holds = connection
                .prepare("SELECT number, agent, shared, amount, expires, model FROM holds ORDER BY number")?;
            let holds = holds.query_map([], read_hold)?;
            let sql = "SELECT coalesce(sum(spent), 0) FROM months WHERE month = ?";
            let org = connection.query_row(sql, [month.as_nanos()], |row| row.get(0))?;
            Ok(LedgerBooks {
                agents: agents.collect::<Result<_, _>>()?,
                models: models.collect::<Result<_, _>>()?,
                shared: shared.collect::<Result<_, _>>()?,
                org: Usd::from_nanos(org),
                holds: holds.collect::<Result<_, _>>()?,
            })
        })
    }

    fn prune(&self, details: Timestamp, sums: Timestamp) -> Result<(), StoreError> {
        self.0.write(|connection| {
            run(connection, "DELETE FROM amounts WHERE at < ?", [details.as_nanos()])?;
            run(connection, "DELETE FROM holds WHERE expires < ?", [details.as_nanos()])?;
            run(connection, "DELETE FROM agent_days WHERE day < ?", [sums.as_nanos()])?;
            run(connection, "DELETE FROM agent_model_days WHERE day < ?", [sums.as_nanos()])?;
            run(connection, "DELETE FROM shared_days WHERE day < ?", [sums.as_nanos()])?;
            run(connection, "DELETE FROM months WHERE month < ?", [sums.as_nanos()])
        })?;
        self.0.read(|connection| connection.execute_batch("PRAGMA incremental_vacuum"))
    }
}

fn run(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn release(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    run(connection, "DELETE FROM holds WHERE number = ?", [number.cast_signed()])
}

fn read_hold(row: &Row<'_>) -> rusqlite::Result<LedgerHold> {
    let shared: String = row.get(2)?;
    Ok(LedgerHold {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        agent: row.get(1)?,
        shared: serde_json::from_str(&shared).unwrap_or_default(),
        amount: Usd::from_nanos(row.get(3)?),
        expires: Timestamp::from_nanos(row.get(4)?),
        model: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_version_keeps_its_sums_and_reservations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(LEDGER.migrations[0]).unwrap();
        old.execute_batch(
            "INSERT INTO agent_days VALUES ('a', 1, 5, 2); INSERT INTO holds VALUES (7, 'a', '[]', 3, 9)",
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.pragma_update(None, "application_id", LEDGER.id).unwrap();
        drop(old);
        let at = Timestamp::from_nanos(1);
        let books = SqliteLedger::open(&path).unwrap().books(at, at).unwrap();
        assert_eq!(books.agents, [("a".to_owned(), Usd::from_nanos(5), 2)]);
        assert_eq!((books.holds[0].number, &books.holds[0].model), (7, &None));
    }
}
