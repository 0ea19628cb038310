use std::path::PathBuf;

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use sre_core::{
    BudgetLimit, CostScope, LedgerEntry, LedgerReservation, LedgerStore, LedgerTotals, ReserveOutcome, StoreError,
    Timestamp, Usd,
};

use crate::file::StoreFile;
use crate::schema::Schema;

/// A [`LedgerStore`] in a SQLite file: totals by day and month, reservations, and single amounts until they are pruned.
///
/// Writes survive the death of the process at any moment. A power cut may lose the most recent ones, but does not damage the
/// file. Several processes may share the file. Futures are ready when first polled; a write blocks for at most a few seconds
/// if another process holds the file.
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
        "ALTER TABLE holds RENAME TO reservations",
    ],
};

impl SqliteLedger {
    /// The default file name.
    pub const DEFAULT_FILE: &str = "agent_sre_ledger.db";

    /// Opens a file, creating it if missing.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, of a newer version, of another application, or not writable.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        StoreFile::open(path.into(), &LEDGER).map(Self)
    }
}

#[async_trait]
impl LedgerStore for SqliteLedger {
    async fn record(&self, entry: &LedgerEntry, settles: Option<u64>) -> Result<(), StoreError> {
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
            settles.map_or(Ok(()), |id| delete_reservation(connection, id))
        })
    }

    async fn reserve(
        &self,
        reservation: &LedgerReservation,
        limits: &[BudgetLimit],
        now: Timestamp,
    ) -> Result<ReserveOutcome, StoreError> {
        let LedgerReservation { id, agent, shared, model, amount, expires, .. } = reservation;
        let shared = serde_json::to_string(shared).unwrap_or_default();
        self.0.write(|connection| {
            for limit in limits {
                let used = spent(connection, limit)? + reserved(connection, &limit.scope, now)?;
                let outcome = limit.check(used, *amount);
                if outcome != ReserveOutcome::Reserved {
                    return Ok(outcome);
                }
            }
            let values = params![id.cast_signed(), agent, shared, amount.nanos(), expires.as_nanos(), model];
            run(
                connection,
                "INSERT INTO reservations (number, agent, shared, amount, expires, model) VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )?;
            Ok(ReserveOutcome::Reserved)
        })
    }

    async fn release(&self, id: u64) -> Result<(), StoreError> {
        self.0.write(|connection| delete_reservation(connection, id))
    }

    async fn reset_day(&self, agent: Option<&str>, day: Timestamp) -> Result<(), StoreError> {
        self.0.write(|connection| {
            let of = params![day.as_nanos(), agent];
            run(connection, "DELETE FROM agent_days WHERE day = ?1 AND (?2 IS NULL OR agent = ?2)", of)?;
            run(connection, "DELETE FROM agent_model_days WHERE day = ?1 AND (?2 IS NULL OR agent = ?2)", of)
        })
    }

    async fn totals(&self, day: Timestamp, month: Timestamp) -> Result<LedgerTotals, StoreError> {
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
            let mut open = connection
                .prepare("SELECT number, agent, shared, amount, expires, model FROM reservations ORDER BY number")?;
            let open = open.query_map([], read_reservation)?;
            let sql = "SELECT coalesce(sum(spent), 0) FROM months WHERE month = ?";
            let org = connection.query_row(sql, [month.as_nanos()], |row| row.get(0))?;
            let mut totals = LedgerTotals::default();
            totals.agents = agents.collect::<Result<_, _>>()?;
            totals.models = models.collect::<Result<_, _>>()?;
            totals.shared = shared.collect::<Result<_, _>>()?;
            totals.org = Usd::from_nanos(org);
            totals.reservations = open.collect::<Result<_, _>>()?;
            Ok(totals)
        })
    }

    async fn prune(&self, entries_before: Timestamp, totals_before: Timestamp) -> Result<(), StoreError> {
        self.0.write(|connection| {
            run(connection, "DELETE FROM amounts WHERE at < ?", [entries_before.as_nanos()])?;
            run(connection, "DELETE FROM reservations WHERE expires < ?", [entries_before.as_nanos()])?;
            run(connection, "DELETE FROM agent_days WHERE day < ?", [totals_before.as_nanos()])?;
            run(connection, "DELETE FROM agent_model_days WHERE day < ?", [totals_before.as_nanos()])?;
            run(connection, "DELETE FROM shared_days WHERE day < ?", [totals_before.as_nanos()])?;
            run(connection, "DELETE FROM months WHERE month < ?", [totals_before.as_nanos()])
        })?;
        self.0.read(|connection| connection.execute_batch("PRAGMA incremental_vacuum"))
    }
}

fn run(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Returns what was spent of a budget in its period.
fn spent(connection: &Connection, budget: &BudgetLimit) -> rusqlite::Result<Usd> {
    let period = budget.period.as_nanos();
    match &budget.scope {
        CostScope::Agent(agent) => {
            let sql = "SELECT coalesce(sum(spent), 0) FROM agent_days WHERE agent = ? AND day = ?";
            sum(connection, sql, params![agent, period])
        }
        CostScope::AgentOnModel { agent, model } => {
            let sql = "SELECT coalesce(sum(spent), 0) FROM agent_model_days WHERE agent = ? AND model = ? AND day = ?";
            sum(connection, sql, params![agent, model, period])
        }
        CostScope::Org => sum(connection, "SELECT coalesce(sum(spent), 0) FROM months WHERE month = ?", [period]),
        shared => {
            let sql = "SELECT coalesce(sum(spent), 0) FROM shared_days WHERE name = ? AND day = ?";
            sum(connection, sql, params![shared.to_string(), period])
        }
    }
}

/// Returns what is reserved from a budget and has not expired.
fn reserved(connection: &Connection, scope: &CostScope, now: Timestamp) -> rusqlite::Result<Usd> {
    let now = now.as_nanos();
    match scope {
        CostScope::Agent(agent) => {
            let sql = "SELECT coalesce(sum(amount), 0) FROM reservations WHERE expires > ? AND agent = ?";
            sum(connection, sql, params![now, agent])
        }
        CostScope::AgentOnModel { agent, model } => {
            let sql = "SELECT coalesce(sum(amount), 0) FROM reservations WHERE expires > ? AND agent = ? AND model = ?";
            sum(connection, sql, params![now, agent, model])
        }
        CostScope::Org => sum(connection, "SELECT coalesce(sum(amount), 0) FROM reservations WHERE expires > ?", [now]),
        shared => {
            let sql = "SELECT coalesce(sum(amount), 0) FROM reservations
                       WHERE expires > ? AND EXISTS (SELECT 1 FROM json_each(reservations.shared) WHERE value = ?)";
            sum(connection, sql, params![now, shared.to_string()])
        }
    }
}

fn sum(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Usd> {
    connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).map(Usd::from_nanos)
}

fn delete_reservation(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    run(connection, "DELETE FROM reservations WHERE number = ?", [id.cast_signed()])
}

fn read_reservation(row: &Row<'_>) -> rusqlite::Result<LedgerReservation> {
    let shared: String = row.get(2)?;
    let (id, amount, expires): (i64, _, _) = (row.get(0)?, row.get(3)?, row.get(4)?);
    let (amount, expires) = (Usd::from_nanos(amount), Timestamp::from_nanos(expires));
    let mut reservation = LedgerReservation::new(id.cast_unsigned(), row.get::<_, String>(1)?, amount, expires);
    reservation.shared = serde_json::from_str(&shared).unwrap_or_default();
    reservation.model = row.get(5)?;
    Ok(reservation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_version_keeps_its_totals_and_reservations() {
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
        let totals = pollster::block_on(SqliteLedger::open(&path).unwrap().totals(at, at)).unwrap();
        assert_eq!(totals.agents, [("a".to_owned(), Usd::from_nanos(5), 2)]);
        assert_eq!((totals.reservations[0].id, &totals.reservations[0].model), (7, &None));
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name IN ('reservations', 'holds')";
        let tables: i64 = Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 1, "it is renamed, not copied");
    }
}
