use std::path::{Path, PathBuf};

use rusqlite::params;
use sre_core::{Spool, SpoolSize, SpooledRecord, StoreError};

use crate::file::StoreFile;
use crate::schema::{self, Schema};

/// A [`Spool`] in a SQLite file. Records of a queue stay in order until they are removed.
///
/// Appended records survive the death of the process at any moment. A power cut may lose the most recent ones, but does
/// not damage the file.
///
/// ```
/// use sre_core::Spool;
/// use sre_store_sqlite::SqliteSpool;
/// # let folder = tempfile::tempdir().unwrap();
/// let spool = SqliteSpool::open(folder.path().join(SqliteSpool::DEFAULT_FILE))?;
/// spool.append("otlp", &[b"first", b"second"])?;
/// let found = spool.peek("otlp", 1, 1_000)?;
/// assert_eq!(found[0].bytes, b"first");
/// spool.remove("otlp", found[0].id)?;
/// assert_eq!(spool.size("otlp")?.records, 1);
/// # Ok::<(), sre_core::StoreError>(())
/// ```
#[derive(Debug)]
pub struct SqliteSpool(StoreFile);

const SPOOL: Schema = Schema {
    // "SREQ"
    id: 0x5352_4551,
    synchronous: "NORMAL",
    migrations: &["
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        bytes BLOB NOT NULL
    );
    CREATE INDEX records_by_queue ON records (queue, id);
"],
};

impl SqliteSpool {
    /// The default file name.
    pub const DEFAULT_FILE: &str = "agent_sre_spool.db";

    /// Opens the file, creating it if missing. Fails if the file is damaged, of a newer version, of another application
    /// or not writable.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        StoreFile::open(path.into(), &SPOOL).map(Self)
    }

    /// Checks that [`open`](Self::open) can open a file, without a change to it; one that is missing can be created.
    ///
    /// # Errors
    ///
    /// Returns the error of `open`, also if another process writes to the file just now.
    pub fn check(path: impl AsRef<Path>) -> Result<(), StoreError> {
        schema::check_openable(path.as_ref(), &SPOOL)
    }
}

impl Spool for SqliteSpool {
    fn append(&self, queue: &str, records: &[&[u8]]) -> Result<u64, StoreError> {
        self.0.write(|connection| {
            let mut insert = connection.prepare_cached("INSERT INTO records (queue, bytes) VALUES (?, ?)")?;
            let mut last = 0;
            for record in records {
                last = insert.insert(params![queue, record])?;
            }
            Ok(last.cast_unsigned())
        })
    }

    fn peek(&self, queue: &str, limit: usize, bytes: usize) -> Result<Vec<SpooledRecord>, StoreError> {
        self.0.read(|connection| {
            let mut select =
                connection.prepare_cached("SELECT id, bytes FROM records WHERE queue = ? ORDER BY id LIMIT ?")?;
            let mut rows = select.query(params![queue, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let (mut found, mut left) = (Vec::new(), bytes);
            while let Some(row) = rows.next()? {
                let record = SpooledRecord::new(row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?);
                if !found.is_empty() && record.bytes.len() > left {
                    break;
                }
                left = left.saturating_sub(record.bytes.len());
                found.push(record);
            }
            Ok(found)
        })
    }

    fn remove(&self, queue: &str, up_to: u64) -> Result<(), StoreError> {
        let up_to = i64::try_from(up_to).unwrap_or(i64::MAX);
        self.0.write(|connection| {
            connection.prepare_cached("DELETE FROM records WHERE queue = ? AND id <= ?")?.execute(params![queue, up_to])
        })?;
        // Frees some pages at a time, so that a file that grew during an outage shrinks again.
        self.0.read(|connection| {
            let mut vacuum = connection.prepare_cached("PRAGMA incremental_vacuum(1000)")?;
            let mut pages = vacuum.query([])?;
            // Each step frees one page.
            while pages.next()?.is_some() {}
            Ok(())
        })
    }

    fn size(&self, queue: &str) -> Result<SpoolSize, StoreError> {
        self.0.read(|connection| {
            let sql = "SELECT count(*), coalesce(sum(length(bytes)), 0) FROM records WHERE queue = ?";
            connection.query_row(sql, [queue], |row| {
                let (records, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok(SpoolSize::new(records.cast_unsigned(), bytes.cast_unsigned()))
            })
        })
    }

    fn queues(&self) -> Result<Vec<String>, StoreError> {
        self.0.read(|connection| {
            let mut select = connection.prepare_cached("SELECT DISTINCT queue FROM records ORDER BY queue")?;
            select.query_map([], |row| row.get(0))?.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(spool: &dyn Spool, queue: &str, limit: usize, bytes: usize) -> Vec<String> {
        let found = spool.peek(queue, limit, bytes).unwrap();
        found.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
    }

    /// Tests the behaviour of every spool; the one in memory, which other tests use, must behave the same.
    fn queues_are_apart_in_order_and_bounded(spool: &dyn Spool) {
        let last = spool.append("a", &[b"1", b"22", b"333"]).unwrap();
        let other = spool.append("b", &[b"x"]).unwrap();
        let more = spool.append("a", &[b"4", b"5"]).unwrap();
        assert!(last < other && other < more);
        assert_eq!(texts(spool, "a", 10, 1_000), ["1", "22", "333", "4", "5"]);
        assert_eq!(texts(spool, "a", 2, 1_000), ["1", "22"]);
        assert_eq!(texts(spool, "a", 10, 3), ["1", "22"]);
        assert_eq!(texts(spool, "a", 10, 0), ["1"], "the first regardless of its size");
        let ids: Vec<u64> = spool.peek("a", 3, 1_000).unwrap().iter().map(|record| record.id).collect();
        assert_eq!(ids, [last - 2, last - 1, last], "the ids of one call have no gap");
        spool.remove("a", last - 1).unwrap();
        spool.remove("a", 0).unwrap();
        assert_eq!(texts(spool, "a", 10, 1_000), ["333", "4", "5"]);
        assert_eq!(spool.size("a").unwrap(), SpoolSize::new(3, 5));
        assert_eq!(spool.size("b").unwrap(), SpoolSize::new(1, 1));
        assert_eq!(spool.size("c").unwrap(), SpoolSize::default());
        assert_eq!(spool.append("c", &[]).unwrap(), 0);
        assert_eq!(spool.queues().unwrap(), ["a", "b"]);
        spool.remove("a", u64::MAX).unwrap();
        assert_eq!(spool.queues().unwrap(), ["b"]);
    }

    #[test]
    fn a_file_and_memory_hold_the_same_queues() {
        let folder = tempfile::tempdir().unwrap();
        queues_are_apart_in_order_and_bounded(&SqliteSpool::open(folder.path().join("spool.db")).unwrap());
        queues_are_apart_in_order_and_bounded(&sre_core::MemorySpool::default());
    }

    #[test]
    fn what_was_appended_is_there_after_the_file_is_opened_again_and_ids_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool.db");
        let spool = SqliteSpool::open(&path).unwrap();
        let last = spool.append("a", &[b"1", b"2"]).unwrap();
        spool.remove("a", last).unwrap();
        let last = spool.append("a", &[b"3"]).unwrap();
        drop(spool);
        let spool = SqliteSpool::open(&path).unwrap();
        assert_eq!(texts(&spool, "a", 10, 10), ["3"]);
        spool.remove("a", last).unwrap();
        drop(spool);
        let spool = SqliteSpool::open(&path).unwrap();
        assert!(spool.append("a", &[b"4"]).unwrap() > last, "an id is never used again");
    }

    #[test]
    fn a_file_gives_its_room_back() {
        let folder = tempfile::tempdir().unwrap();
        let spool = SqliteSpool::open(folder.path().join("spool.db")).unwrap();
        let record = vec![0; 100_000];
        let last = spool.append("a", &vec![&record[..]; 100]).unwrap();
        let pages =
            || spool.0.read(|file| file.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))).unwrap();
        let full = pages();
        (0..10).for_each(|_| spool.remove("a", last).unwrap());
        assert!(pages() < full / 10, "{} of {full} pages", pages());
    }
}
