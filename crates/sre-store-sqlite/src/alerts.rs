use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use sre_core::{
    Acknowledgement, Alert, AlertId, AlertQuery, AlertRecord, AlertStore, DeliveryRecord, DeliveryState, NewAlert,
    Retention, StoreError, Timestamp,
};

use crate::error::io_error;
use crate::file::StoreFile;
use crate::file_lease::FileLease;
use crate::schema::{self, used_bytes, vacuum};

/// An [`AlertStore`] in a SQLite file.
///
/// Several processes on one machine may share the file. The lease of each is an OS lock on a small file beside it: it never
/// expires while the store is open, and ends at once when the process dies.
#[derive(Debug)]
pub struct SqliteAlertStore {
    file: StoreFile,
    lease: FileLease,
}

/// The columns of `alerts`, in the order in which [`record`] reads them.
const COLUMNS: &str = "a.id, a.at, a.body";

impl SqliteAlertStore {
    /// The default file name.
    pub const DEFAULT_FILE: &str = "agent_sre_alerts.db";

    /// Opens a file, creating it if missing, and migrates it to this version's schema. Fails if the file is damaged, of a
    /// newer version or not writable.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let file = StoreFile::open(path.into(), &schema::ALERTS)?;
        let lease = FileLease::acquire(&file.path).map_err(|error| io_error(&file.path, error))?;
        Ok(Self { file, lease })
    }

    /// Checks that [`open`](Self::open) can open a file, without a change to it; one that is missing can be created.
    ///
    /// # Errors
    ///
    /// Returns the error of `open`, also if another process writes to the file just now.
    pub fn check(path: impl AsRef<Path>) -> Result<(), StoreError> {
        schema::check_openable(path.as_ref(), &schema::ALERTS)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl AlertStore for SqliteAlertStore {
    fn append(&self, alerts: &[NewAlert]) -> Result<Vec<AlertId>, StoreError> {
        self.file.write(|connection| {
            let mut alert = connection.prepare_cached(
                "INSERT INTO alerts (at, severity, agent_id, slo_name, dedup_key, body, one_off)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?;
            let mut delivery = connection
                .prepare_cached("INSERT INTO deliveries (alert, channel, state, owner, at) VALUES (?, ?, ?, ?, ?)")?;
            let mut ids = Vec::with_capacity(alerts.len());
            for new in alerts {
                let body = serde_json::to_string(&*new.alert).unwrap_or_default();
                let Alert { agent_id, slo_name, one_off, .. } = &*new.alert;
                let (at, severity) = (new.at.as_nanos(), new.alert.severity as u8);
                let id = alert.insert(params![at, severity, agent_id, slo_name, new.alert.key(), body, one_off])?;
                for (channel, state) in &new.deliveries {
                    delivery.execute(params![id, channel, code(*state), self.lease.owner, at])?;
                }
                ids.push(AlertId(id.cast_unsigned()));
            }
            Ok(ids)
        })
    }

    fn record(&self, results: &[DeliveryRecord]) -> Result<(), StoreError> {
        self.file.write(|connection| {
            let mut known = connection.prepare_cached(
                "UPDATE deliveries SET state = ?3, owner = ?4, attempts = ?5, status = ?6, error = ?7, at = ?8
                 WHERE alert = ?1 AND channel = ?2",
            )?;
            // The result of an alert that has been pruned is dropped.
            let mut new = connection.prepare_cached(
                "INSERT INTO deliveries (alert, channel, state, owner, attempts, status, error, at)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM alerts WHERE id = ?1)",
            )?;
            for result in results {
                let DeliveryRecord { alert, channel, state, attempts, status, error, at, .. } = result;
                let (id, owner, at) = (alert.0.cast_signed(), self.lease.owner, at.as_nanos());
                let values = params![id, channel, code(*state), owner, attempts, status, error, at];
                if known.execute(values)? == 0 {
                    new.execute(values)?;
                }
            }
            Ok(())
        })
    }

    fn adopt(&self, channel: &str, limit: usize, _now: Timestamp) -> Result<Vec<AlertRecord>, StoreError> {
        self.file.write(|connection| {
            // `state IN (0, 1)` is the condition of the partial index `unfinished`, without which SQLite would not use it.
            let mut owners = connection.prepare_cached(
                "SELECT DISTINCT owner FROM deliveries
                 WHERE channel = ? AND state IN (0, 1) AND state = 0 AND owner != ?",
            )?;
            let owners: Vec<i64> =
                owners.query_map(params![channel, self.lease.owner], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let released: Vec<i64> =
                owners.into_iter().filter(|owner| !FileLease::is_held(&self.file.path, *owner)).collect();
            let placeholders = vec!["?"; released.len()].join(", ");
            let found = format!(
                "SELECT {COLUMNS} FROM deliveries d JOIN alerts a ON a.id = d.alert
                 WHERE d.channel = ? AND d.state IN (0, 1) AND (d.state = 1 OR d.owner IN ({placeholders})) ORDER BY a.id LIMIT ?"
            );
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let values = std::iter::once(Value::from(channel.to_owned()))
                .chain(released.into_iter().map(Value::from))
                .chain([Value::from(limit)]);
            let records: Vec<AlertRecord> =
                connection.prepare(&found)?.query_map(params_from_iter(values), record)?.collect::<Result<_, _>>()?;
            let mut take =
                connection.prepare_cached("UPDATE deliveries SET state = 0, owner = ? WHERE alert = ? AND channel = ?")?;
            for record in &records {
                take.execute(params![self.lease.owner, record.id.0.cast_signed(), channel])?;
            }
            Ok(records)
        })
    }

    fn open_incidents(&self) -> Result<Vec<AlertRecord>, StoreError> {
        self.file.read(|connection| {
            let mut last = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM alerts a WHERE severity > 0 AND NOT one_off AND NOT EXISTS
                 (SELECT 1 FROM alerts later WHERE later.dedup_key = a.dedup_key AND later.id > a.id) ORDER BY a.id"
            ))?;
            let mut records: Vec<AlertRecord> = last.query_map([], record)?.collect::<Result<_, _>>()?;
            // The deliveries of all alerts of the incident, not only of the last one.
            let mut of_incident = connection.prepare_cached(
                "SELECT d.alert, d.channel, d.state, d.attempts, d.status, d.error, d.at
                 FROM deliveries d JOIN alerts a ON a.id = d.alert WHERE a.dedup_key = ?1 AND a.id >
                 coalesce((SELECT max(id) FROM alerts WHERE dedup_key = ?1 AND severity = 0), 0) ORDER BY d.alert",
            )?;
            for record in &mut records {
                let key = record.alert.key();
                let deliveries = of_incident.query_map([&*key], delivery)?;
                let mut by_channel: BTreeMap<Arc<str>, DeliveryRecord> = BTreeMap::new();
                for delivery in deliveries {
                    let delivery = delivery?;
                    let known = by_channel.get(&delivery.channel);
                    if known.is_none_or(|known| known.state != DeliveryState::Delivered) {
                        by_channel.insert(delivery.channel.clone(), delivery);
                    }
                }
                record.acknowledged = acknowledgement(connection, &key)?;
                record.deliveries = by_channel.into_values().collect();
            }
            Ok(records)
        })
    }

    fn query(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        let AlertQuery { agent_id, severity, slo_name, dedup_key, since, until, limit } = query;
        let conditions = [
            agent_id.as_ref().map(|agent| ("a.agent_id = ?", Value::from(agent.clone()))),
            severity.map(|severity| ("a.severity = ?", Value::from(i64::from(severity as u8)))),
            slo_name.as_ref().map(|slo| ("a.slo_name = ?", Value::from(slo.clone()))),
            dedup_key.as_ref().map(|key| ("a.dedup_key = ?", Value::from(key.clone()))),
            since.map(|since| ("a.at >= ?", Value::from(since.as_nanos()))),
            until.map(|until| ("a.at < ?", Value::from(until.as_nanos()))),
        ];
        let (mut clauses, mut values): (Vec<&str>, Vec<Value>) = conditions.into_iter().flatten().unzip();
        clauses.push("true");
        values.push(limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1)).into());
        let found = format!(
            "SELECT {COLUMNS}, k.by, k.at FROM alerts a LEFT JOIN acknowledgements k ON k.alert = a.id
             WHERE {} ORDER BY a.id DESC LIMIT ?",
            clauses.join(" AND ")
        );
        self.file.read(|connection| {
            let with_acknowledgement = |row: &Row<'_>| {
                let by: Option<String> = row.get(3)?;
                let acknowledged = match by {
                    Some(by) => Some(Acknowledgement::new(by, Timestamp::from_nanos(row.get(4)?))),
                    None => None,
                };
                let mut record = record(row)?;
                record.acknowledged = acknowledged;
                Ok(record)
            };
            let mut statement = connection.prepare_cached(&found)?;
            let records = statement.query_map(params_from_iter(values), with_acknowledgement)?;
            let mut records: Vec<AlertRecord> = records.collect::<Result<_, _>>()?;
            let mut of_alert = connection.prepare_cached(
                "SELECT alert, channel, state, attempts, status, error, at FROM deliveries WHERE alert = ? ORDER BY channel",
            )?;
            for record in &mut records {
                let deliveries = of_alert.query_map([record.id.0.cast_signed()], delivery)?;
                record.deliveries = deliveries.collect::<Result<_, _>>()?;
            }
            Ok(records)
        })
    }

    fn count(&self) -> Result<u64, StoreError> {
        let count =
            self.file.read(|connection| connection.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0)));
        count.map(i64::cast_unsigned)
    }

    fn acknowledge(&self, dedup_key: &str, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.file.write(|connection| {
            let last: Option<(i64, u8)> = connection
                .prepare_cached(
                    "SELECT id, severity FROM alerts WHERE dedup_key = ? AND NOT one_off ORDER BY id DESC LIMIT 1",
                )?
                .query_row([dedup_key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, _)) = last.filter(|(_, severity)| *severity > 0) else { return Ok(false) };
            connection
                .prepare_cached("INSERT OR REPLACE INTO acknowledgements (alert, by, at) VALUES (?, ?, ?)")?
                .execute(params![id, by, at.as_nanos()])?;
            Ok(true)
        })
    }

    fn acknowledgement(&self, dedup_key: &str) -> Result<Option<Acknowledgement>, StoreError> {
        self.file.read(|connection| acknowledgement(connection, dedup_key))
    }

    fn save_silence(&self, id: u64, text: Option<&str>) -> Result<(), StoreError> {
        let id = id.cast_signed();
        self.file.write(|connection| {
            match text {
                Some(text) => connection.execute("INSERT OR REPLACE INTO silences VALUES (?, ?)", params![id, text])?,
                None => connection.execute("DELETE FROM silences WHERE id = ?", [id])?,
            };
            Ok(())
        })
    }

    fn silences(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.file.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, text FROM silences ORDER BY id")?;
            let silences = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))?;
            silences.collect()
        })
    }

    fn prune(&self, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
        let oldest = now.saturating_sub(retention.age).as_nanos();
        let by_age = self.file.write(|connection| {
            let deleted =
                connection.execute(&format!("DELETE FROM alerts AS a WHERE a.at < ? AND {DELETABLE}"), [oldest])?;
            // Fails the deliveries that did not succeed in that time; their alerts are deleted by the next call.
            connection.execute(
                "UPDATE deliveries SET state = 3, error = 'not delivered within the retention time'
                 WHERE state IN (0, 1) AND at < ?",
                [oldest],
            )?;
            Ok(deleted)
        })?;
        let mut deleted = by_age as u64;
        while self.file.read(used_bytes)? > retention.size {
            let by_size = self.file.write(|connection| {
                connection.execute(
                    &format!(
                        "DELETE FROM alerts WHERE id IN
                         (SELECT a.id FROM alerts a WHERE {DELETABLE} ORDER BY a.id LIMIT
                          (SELECT max(100, count(*) / 10) FROM alerts))"
                    ),
                    [],
                )
            })?;
            if by_size == 0 {
                break;
            }
            deleted += by_size as u64;
        }
        if deleted > 0 {
            self.file.read(vacuum)?;
        }
        Ok(deleted)
    }
}

/// The condition of alerts that may be deleted: not the last one of an open incident, and without unfinished deliveries. A resolution
/// stays as long as another alert of its incident has some, since the incident would be open again without it.
const DELETABLE: &str = "(a.severity = 0 OR a.one_off OR EXISTS
      (SELECT 1 FROM alerts later WHERE later.dedup_key = a.dedup_key AND later.id > a.id))
    AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.alert = a.id AND d.state IN (0, 1))
    AND (a.severity > 0 OR NOT EXISTS (SELECT 1 FROM deliveries d CROSS JOIN alerts other ON other.id = d.alert
      WHERE d.state IN (0, 1) AND other.dedup_key = a.dedup_key))";

/// Returns the acknowledgement of the open incident, unless its severity has risen since.
fn acknowledgement(connection: &Connection, dedup_key: &str) -> rusqlite::Result<Option<Acknowledgement>> {
    connection
        .prepare_cached(
            "SELECT k.by, k.at FROM acknowledgements k JOIN alerts a ON a.id = k.alert
             WHERE a.dedup_key = ?1 AND NOT EXISTS
               (SELECT 1 FROM alerts later WHERE later.dedup_key = ?1 AND later.id > a.id
                AND (later.severity = 0 OR later.severity > a.severity))
             ORDER BY a.id DESC LIMIT 1",
        )?
        .query_row([dedup_key], |row| {
            Ok(Acknowledgement::new(row.get::<_, String>(0)?, Timestamp::from_nanos(row.get(1)?)))
        })
        .optional()
}

fn record(row: &Row<'_>) -> rusqlite::Result<AlertRecord> {
    let body: String = row.get(2)?;
    let alert = serde_json::from_str(&body)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error)))?;
    let id: i64 = row.get(0)?;
    Ok(AlertRecord::new(AlertId(id.cast_unsigned()), alert, Timestamp::from_nanos(row.get(1)?)))
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    let (alert, state): (i64, u8) = (row.get(0)?, row.get(2)?);
    let state = DeliveryState::ALL.get(usize::from(state)).copied().unwrap_or(DeliveryState::Failed);
    let (id, channel) = (AlertId(alert.cast_unsigned()), row.get::<_, Arc<str>>(1)?);
    let mut record = DeliveryRecord::new(id, channel, state, Timestamp::from_nanos(row.get(6)?));
    record.attempts = row.get(3)?;
    record.status = row.get(4)?;
    record.error = row.get(5)?;
    Ok(record)
}

/// Returns the stored form of a state: its position in [`DeliveryState::ALL`].
const fn code(state: DeliveryState) -> u8 {
    state as u8
}
