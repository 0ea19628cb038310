use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use sre_core::{
    KeptTrace, Span, StoreError, Timestamp, TraceId, TraceLimits, TraceQuery, TraceStore, TraceUpdate, Verdict,
};

use crate::file::StoreFile;
use crate::schema::{self, Schema, used_bytes, vacuum};

/// A [`TraceStore`] in a SQLite file.
///
/// Kept traces survive the death of the process at any moment. A power cut may lose the most recent ones, but does not damage
/// the file.
///
/// ```
/// use sre_core::{TraceLimits, TraceQuery, TraceStore};
/// use sre_store_sqlite::SqliteTraceStore;
/// # let folder = tempfile::tempdir().unwrap();
/// let store = SqliteTraceStore::open(folder.path().join("traces.db"), TraceLimits::default())?;
/// assert!(store.query(&TraceQuery::default())?.is_empty());
/// # Ok::<(), sre_core::StoreError>(())
/// ```
#[derive(Debug)]
pub struct SqliteTraceStore {
    file: StoreFile,
    limits: TraceLimits,
}

const TRACES: Schema = Schema {
    // "SRET"
    id: 0x5352_4554,
    synchronous: "NORMAL",
    migrations: &["
    CREATE TABLE kept (
        trace BLOB NOT NULL,
        slo TEXT NOT NULL,
        agent TEXT NOT NULL,
        at INTEGER NOT NULL,
        bad INTEGER NOT NULL,
        slow INTEGER NOT NULL,
        PRIMARY KEY (trace, slo, agent)
    ) WITHOUT ROWID;
    CREATE INDEX kept_by_objective ON kept (slo, agent, at);
    CREATE INDEX kept_by_time ON kept (at);
    CREATE TABLE spans (
        trace BLOB NOT NULL,
        id BLOB NOT NULL,
        duration INTEGER NOT NULL,
        task TEXT,
        body TEXT NOT NULL,
        PRIMARY KEY (trace, id)
    ) WITHOUT ROWID;
    CREATE INDEX spans_by_task ON spans (task, trace) WHERE task IS NOT NULL;
    CREATE INDEX spans_of_others ON spans (substr(id, 1, 16)) WHERE substr(id, 1, 16) <> trace;
"],
};

impl SqliteTraceStore {
    /// Opens the file, creating it if missing. Fails if the file is damaged, of a newer version, of another application or not
    /// writable.
    pub fn open(path: impl Into<PathBuf>, limits: TraceLimits) -> Result<Self, StoreError> {
        Ok(Self { file: StoreFile::open(path.into(), &TRACES)?, limits })
    }

    /// Checks that [`open`](Self::open) can open a file, without a change to it; one that is missing can be created.
    ///
    /// # Errors
    ///
    /// Returns the error of `open`, also if another process writes to the file just now.
    pub fn check(path: impl AsRef<Path>) -> Result<(), StoreError> {
        schema::check_openable(path.as_ref(), &TRACES)
    }

    /// Deletes the traces beyond the limits of the objectives of `updates`, and then the oldest until the size is below its limit.
    fn delete_beyond_limits(&self, connection: &Connection, updates: &[TraceUpdate]) -> rusqlite::Result<bool> {
        let mut objectives: Vec<_> =
            updates.iter().flat_map(|update| &update.kept).map(|kept| (&kept.slo, &kept.agent)).collect();
        objectives.sort_unstable();
        objectives.dedup();
        let mut has_deleted = false;
        for (slo, agent) in objectives {
            for verdict in [Verdict::Bad, Verdict::Slow] {
                let limit = i64::try_from(self.limits.per_objective(verdict)).unwrap_or(i64::MAX);
                let beyond: Vec<Vec<u8>> = connection
                    .prepare_cached(
                        "SELECT trace FROM kept WHERE slo = ? AND agent = ? AND (bad > 0) = ?
                         ORDER BY at DESC, trace DESC LIMIT -1 OFFSET ?",
                    )?
                    .query_map(params![slo, agent, verdict == Verdict::Bad, limit], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                for trace in &beyond {
                    connection
                        .prepare_cached("DELETE FROM kept WHERE trace = ? AND slo = ? AND agent = ?")?
                        .execute(params![trace, slo, agent])?;
                    connection
                        .prepare_cached(
                            "DELETE FROM spans WHERE trace = ?1 AND NOT EXISTS (SELECT 1 FROM kept WHERE trace = ?1)",
                        )?
                        .execute([trace])?;
                }
                has_deleted |= !beyond.is_empty();
            }
        }
        while used_bytes(connection)? > self.limits.max_bytes {
            let mut select = connection.prepare_cached("SELECT trace FROM kept ORDER BY at, trace LIMIT 1")?;
            let Some(oldest) = select.query_map([], |row| row.get::<_, Vec<u8>>(0))?.next().transpose()? else { break };
            for table in ["kept", "spans"] {
                connection.prepare_cached(&format!("DELETE FROM {table} WHERE trace = ?"))?.execute([&oldest])?;
            }
            has_deleted = true;
        }
        Ok(has_deleted)
    }
}

impl TraceStore for SqliteTraceStore {
    fn keep(&self, updates: &[TraceUpdate]) -> Result<(), StoreError> {
        let has_deleted = self.file.write(|connection| {
            let mut add_span = connection.prepare_cached(
                "INSERT INTO spans VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
                 SET duration = excluded.duration, task = excluded.task, body = excluded.body
                 WHERE excluded.duration > duration",
            )?;
            let mut add_kept = connection.prepare_cached("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)")?;
            for TraceUpdate { spans, kept } in updates {
                let Some(trace) = kept.first().map(|kept| kept.trace_id.to_bytes()) else { continue };
                for span in spans {
                    let body = serde_json::to_string(span)
                        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                    let duration = i64::try_from(span.duration().as_nanos()).unwrap_or(i64::MAX);
                    // Spans of another trace may be kept with this one.
                    let id = [&span.trace_id.to_bytes()[..], &span.span_id.to_bytes()].concat();
                    add_span.execute(params![trace, id, duration, span.task.as_deref(), body])?;
                }
                for KeptTrace { trace_id, slo, agent, at, bad, slow, .. } in kept {
                    let counts = [bad, slow].map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
                    add_kept.execute(params![trace_id.to_bytes(), slo, agent, at.as_nanos(), counts[0], counts[1]])?;
                }
            }
            self.delete_beyond_limits(connection, updates)
        })?;
        if has_deleted { self.file.read(vacuum) } else { Ok(()) }
    }

    fn spans(&self, trace: TraceId) -> Result<Vec<Span>, StoreError> {
        self.file.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT body FROM spans WHERE trace = ?1 OR trace = (
                     SELECT trace FROM spans WHERE substr(id, 1, 16) = ?1 AND substr(id, 1, 16) <> trace
                     AND NOT EXISTS (SELECT 1 FROM kept WHERE trace = ?1) LIMIT 1)",
            )?;
            let rows = select.query_map([trace.to_bytes()], |row| {
                let body = row.get_ref(0)?.as_str()?;
                serde_json::from_str(body).map_err(|error| unreadable(0, error))
            })?;
            rows.collect()
        })
    }

    fn query(&self, query: &TraceQuery) -> Result<Vec<KeptTrace>, StoreError> {
        let TraceQuery { slo, agent, task, verdict, limit } = query;
        let is_bad = verdict.map(|verdict| verdict == Verdict::Bad);
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.file.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT trace, slo, agent, at, bad, slow FROM kept
                 WHERE (?1 IS NULL OR slo = ?1) AND (?2 IS NULL OR agent = ?2) AND (?3 IS NULL OR (bad > 0) = ?3)
                   AND (?4 IS NULL OR trace IN (SELECT trace FROM spans WHERE task = ?4))
                 ORDER BY at DESC, trace DESC, slo, agent LIMIT ?5",
            )?;
            select.query_map(params![slo, agent, is_bad, task, limit], kept)?.collect()
        })
    }
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptTrace> {
    let trace = TraceId::from_bytes(row.get(0)?).ok_or_else(|| unreadable(0, "a trace id of zeros"))?;
    let mut kept =
        KeptTrace::new(trace, row.get::<_, String>(1)?, row.get::<_, String>(2)?, Timestamp::from_nanos(row.get(3)?));
    kept.bad = row.get::<_, i64>(4)?.unsigned_abs();
    kept.slow = row.get::<_, i64>(5)?.unsigned_abs();
    Ok(kept)
}

fn unreadable(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sre_core::SpanId;

    use super::*;

    fn trace(number: u64) -> TraceId {
        TraceId::derived(&[&number.to_string()])
    }

    fn span(trace: TraceId, name: &str, ms: i64) -> Span {
        let mut span = Span::new(trace, SpanId::derived(&[name]), name, Timestamp::from_secs(100));
        span.end = Timestamp::from_nanos(span.start.as_nanos() + ms * 1_000_000);
        span.task = Some(format!("task of {trace}").into());
        span
    }

    fn update(number: u64, slo: &str, at: i64, bad: u64) -> TraceUpdate {
        let mut kept = KeptTrace::new(trace(number), slo, "a", Timestamp::from_secs(at));
        (kept.bad, kept.slow) = (bad, 1);
        TraceUpdate { spans: vec![span(trace(number), "root", 5)], kept: vec![kept] }
    }

    fn limits(bad: usize, slow: usize) -> TraceLimits {
        TraceLimits { bad_per_objective: bad, slow_per_objective: slow, ..Default::default() }
    }

    /// Returns the traces and objectives of a store, newest first.
    fn contents(store: &SqliteTraceStore, query: &TraceQuery) -> Vec<(TraceId, String)> {
        store.query(query).unwrap().into_iter().map(|kept| (kept.trace_id, kept.slo)).collect()
    }

    #[test]
    fn the_newest_bad_and_slow_traces_of_each_objective_are_kept_whatever_the_order_of_updates() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..8 {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteTraceStore::open(folder.path().join("traces.db"), limits(4, 2)).unwrap();
            let mut updates: Vec<_> = (0..40)
                .map(|number| update(number, ["one", "two"][random.usize(0..2)], random.i64(0..20), random.u64(0..2)))
                .collect();
            // Each comes twice, as after a restart.
            updates.extend(updates.clone());
            random.shuffle(&mut updates);
            updates.chunks(random.usize(1..9)).for_each(|updates| store.keep(updates).unwrap());
            let mut all: Vec<_> = updates.iter().map(|update| update.kept[0].clone()).collect();
            all.sort_by_key(|kept| std::cmp::Reverse((kept.at, kept.trace_id)));
            all.dedup();
            let mut counts = BTreeMap::new();
            all.retain(|kept| {
                let count = counts.entry((kept.slo.clone(), kept.verdict())).or_insert(0);
                *count += 1;
                *count <= if kept.verdict() == Verdict::Bad { 4 } else { 2 }
            });
            assert_eq!(store.query(&TraceQuery::default()).unwrap(), all, "round {round}");
            for number in 0..40 {
                let is_kept = all.iter().any(|kept| kept.trace_id == trace(number));
                assert_eq!(store.spans(trace(number)).unwrap().len(), usize::from(is_kept), "round {round}");
            }
        }
    }

    #[test]
    fn spans_are_added_and_the_longest_of_an_id_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.db");
        let store = SqliteTraceStore::open(&path, TraceLimits::default()).unwrap();
        let kept = update(1, "one", 5, 1).kept;
        let keep = |spans| store.keep(&[TraceUpdate { spans, kept: kept.clone() }]).unwrap();
        keep(vec![span(trace(1), "root", 5), span(trace(1), "child", 2)]);
        keep(vec![span(trace(1), "root", 9), span(trace(1), "child", 1)]);
        drop(store);
        let store = SqliteTraceStore::open(&path, TraceLimits::default()).unwrap();
        let mut spans = store.spans(trace(1)).unwrap();
        spans.sort_by_key(Span::duration);
        assert_eq!(spans, [span(trace(1), "child", 2), span(trace(1), "root", 9)]);
        assert_eq!(store.query(&TraceQuery::default()).unwrap(), kept);
    }

    #[test]
    fn spans_of_another_trace_are_kept_and_deleted_with_the_one_that_they_came_with() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteTraceStore::open(folder.path().join("traces.db"), limits(1, 1)).unwrap();
        let mut first = update(1, "one", 1, 1);
        first.spans.push(span(trace(9), "root", 7));
        store.keep(&[first.clone()]).unwrap();
        let mut spans = store.spans(trace(1)).unwrap();
        spans.sort_by_key(Span::duration);
        assert_eq!(spans, first.spans);
        let mut spans = store.spans(trace(9)).unwrap();
        spans.sort_by_key(Span::duration);
        assert_eq!(spans, first.spans, "the same, for the other side of the call");
        store.keep(&[update(2, "one", 2, 1)]).unwrap();
        assert_eq!((store.spans(trace(1)).unwrap().len(), store.spans(trace(9)).unwrap().len()), (0, 0));
    }

    #[test]
    fn queries_filter_by_objective_verdict_and_task() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteTraceStore::open(folder.path().join("traces.db"), TraceLimits::default()).unwrap();
        store.keep(&[update(1, "one", 1, 1), update(2, "one", 2, 0), update(3, "two", 3, 1)]).unwrap();
        let numbers = |query: TraceQuery| -> Vec<u64> {
            let found = contents(&store, &query);
            found.iter().map(|(found, _)| (1..4).find(|number| trace(*number) == *found).unwrap()).collect()
        };
        let one = || TraceQuery { slo: Some("one".into()), ..Default::default() };
        assert_eq!(numbers(one()), [2, 1]);
        assert_eq!(numbers(TraceQuery { verdict: Some(Verdict::Bad), ..one() }), [1]);
        assert_eq!(numbers(TraceQuery { verdict: Some(Verdict::Slow), ..one() }), [2]);
        assert!(numbers(TraceQuery { agent: Some("b".into()), ..one() }).is_empty());
        assert_eq!(numbers(TraceQuery { limit: Some(1), ..Default::default() }), [3]);
        let task = Some(format!("task of {}", trace(2)));
        assert_eq!(numbers(TraceQuery { task, ..Default::default() }), [2]);
    }

    #[test]
    fn a_flood_of_large_traces_stays_within_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.db");
        let max_bytes = 2 << 20;
        let limits = TraceLimits { bad_per_objective: 1_000, max_bytes, ..Default::default() };
        let store = SqliteTraceStore::open(&path, limits).unwrap();
        for number in 0..100 {
            let mut update = update(number, "one", number as i64, 1);
            update.spans[0].error = Some("x".repeat(100_000));
            store.keep(&[update]).unwrap();
            assert!(store.file.read(used_bytes).unwrap() <= max_bytes);
        }
        let kept = contents(&store, &TraceQuery::default());
        assert!((10..=20).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[0].0, trace(99));
        drop(store);
        assert!(std::fs::metadata(path).unwrap().len() < 2 * max_bytes, "the file gives its room back");
    }
}
