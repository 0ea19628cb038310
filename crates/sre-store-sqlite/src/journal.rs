use std::path::PathBuf;

use rusqlite::{OptionalExtension, params};
use sre_core::{JournalEntry, JournalStore, StoreError, Timestamp};

use crate::file::StoreFile;
use crate::schema::Schema;

/// A [`JournalStore`] in a SQLite file. The space of deleted entries is reused, so the file stays at the largest size it once
/// had.
#[derive(Debug)]
pub struct SqliteJournal(StoreFile);

const JOURNAL: Schema = Schema {
    // "SREJ"
    id: 0x5352_454a,
    synchronous: "FULL",
    migrations: &["
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        received INTEGER NOT NULL,
        format TEXT NOT NULL,
        key BLOB,
        body BLOB NOT NULL
    );
    CREATE TABLE snapshot (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        last INTEGER NOT NULL,
        state BLOB NOT NULL
    );
"],
};

impl SqliteJournal {
    /// The default file name.
    pub const DEFAULT_FILE: &str = "journal.db";

    /// Opens a file of at most `max_bytes`, creating it if missing. Fails if the file is damaged, of a newer version, of
    /// another application, in use by another process or not writable.
    pub fn open(path: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, StoreError> {
        let file = StoreFile::open(path.into(), &JOURNAL)?;
        file.read(|connection| {
            let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let max_pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page.max(1);
            connection.pragma_update_and_check(None, "max_page_count", max_pages.max(16), |_| Ok(()))?;
            // No other process may write to the file while this one has it open.
            connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
            connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")
        })?;
        Ok(Self(file))
    }
}

impl JournalStore for SqliteJournal {
    fn append(&self, entries: &[JournalEntry<'_>]) -> Result<u64, StoreError> {
        self.0.write(|connection| {
            let sql = "INSERT INTO entries (received, format, key, body) VALUES (?, ?, ?, ?)";
            let mut insert = connection.prepare_cached(sql)?;
            for entry in entries {
                insert.execute(params![entry.received.as_nanos(), entry.format, entry.key, entry.body])?;
            }
            Ok(connection.last_insert_rowid().cast_unsigned())
        })
    }

    fn put_snapshot(&self, last: u64, state: &[u8]) -> Result<(), StoreError> {
        self.0.write(|connection| {
            // Deletes first, which frees space for the snapshot if the file is full.
            connection.execute("DELETE FROM entries WHERE number <= ?", [last.cast_signed()])?;
            let sql = "INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)";
            connection.execute(sql, params![last.cast_signed(), state]).map(drop)
        })
    }

    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.0.read(|connection| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?));
            connection.query_row("SELECT last, state FROM snapshot", [], read).optional()
        })
    }

    fn replay(&self, after: u64, each: &mut dyn FnMut(u64, JournalEntry<'_>) -> bool) -> Result<(), StoreError> {
        self.0.read(|connection| {
            let sql = "SELECT number, received, format, key, body FROM entries WHERE number > ? ORDER BY number";
            let mut select = connection.prepare(sql)?;
            let mut rows = select.query([after.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let entry = JournalEntry::new(
                    Timestamp::from_nanos(row.get(1)?),
                    row.get_ref(2)?.as_str()?,
                    row.get(3)?,
                    row.get_ref(4)?.as_blob()?,
                );
                if !each(row.get::<_, i64>(0)?.cast_unsigned(), entry) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn size(&self) -> Result<u64, StoreError> {
        self.0.read(|connection| {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            Ok((pragma("page_size")? * (pragma("page_count")? - pragma("freelist_count")?)).max(0).unsigned_abs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &[u8]) -> JournalEntry<'_> {
        JournalEntry::new(Timestamp::from_secs(7), "sre", Some([3; 16]), body)
    }

    fn numbers(journal: &SqliteJournal, after: u64) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut each = |number, entry: JournalEntry<'_>| {
            assert_eq!((entry.format, entry.key), ("sre", Some([3; 16])));
            found.push((number, entry.body.to_vec()));
            true
        };
        journal.replay(after, &mut each).unwrap();
        found
    }

    #[test]
    fn a_restart_finds_the_snapshot_and_the_entries_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SqliteJournal::open(folder.path().join("journal.db"), 1 << 30).unwrap();
        let journal = open();
        assert_eq!(journal.snapshot().unwrap(), None);
        assert_eq!(journal.append(&[entry(b"1"), entry(b"2")]).unwrap(), 2);
        journal.put_snapshot(2, b"both").unwrap();
        assert_eq!(journal.append(&[entry(b"3")]).unwrap(), 3);
        drop(journal);
        let journal = open();
        assert_eq!(journal.snapshot().unwrap(), Some((2, b"both".to_vec())));
        assert_eq!(numbers(&journal, 2), [(3, b"3".to_vec())]);
        journal.put_snapshot(3, b"all").unwrap();
        drop(journal);
        let journal = open();
        assert_eq!(journal.append(&[entry(b"4")]).unwrap(), 4, "a number is never reused");
    }

    #[test]
    fn a_full_journal_rejects_entries_until_a_snapshot_frees_space() {
        let folder = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(folder.path().join("journal.db"), 1 << 20).unwrap();
        let body = vec![7; 100_000];
        let accepted = (0..20).take_while(|_| journal.append(&[entry(&body)]).is_ok()).count() as u64;
        assert!((5..=10).contains(&accepted), "{accepted}");
        assert!(journal.append(&[entry(&body)]).unwrap_err().to_string().contains("full"));
        assert_eq!(numbers(&journal, 0).len() as u64, accepted, "accepted entries are complete");
        journal.put_snapshot(accepted, b"all").unwrap();
        assert!(journal.append(&[entry(&body)]).is_ok());
        assert!(journal.size().unwrap() < 300_000);
    }

    #[test]
    fn a_journal_is_open_in_one_process_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let first = SqliteJournal::open(&path, 1 << 20).unwrap();
        let second = std::thread::spawn(move || SqliteJournal::open(path, 1 << 20).map(drop)).join().unwrap();
        let error = second.unwrap_err();
        assert!(error.is_locked() && error.to_string().contains("locked"), "{error}");
        drop(first);
    }
}
