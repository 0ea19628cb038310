use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};
use sre_core::{JournalEntry, JournalStore, StoreError, Timestamp};

use crate::file::StoreFile;
use crate::schema::Schema;

/// A [`JournalStore`] in a SQLite file. The space of deleted entries is reused, so the file stays at the largest size it once
/// had.
#[derive(Debug)]
pub struct SqliteJournal {
    file: StoreFile,
    max_bytes: u64,
}

const JOURNAL: Schema = Schema {
    // "SREJ"
    id: 0x5352_454a,
    synchronous: "FULL",
    migrations: &[
        "
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
",
        SNAPSHOT_PARTS,
    ],
};

/// A snapshot may be larger than a value in SQLite, 10⁹ bytes: `state` is its first part, and the others are here.
const SNAPSHOT_PARTS: &str = "CREATE TABLE snapshot_parts (number INTEGER PRIMARY KEY, state BLOB NOT NULL)";

/// Maximum size of a part of a snapshot, in bytes.
const MAX_PART: usize = 16 << 20;

impl SqliteJournal {
    /// The default file name.
    pub const DEFAULT_FILE: &str = "journal.db";

    /// Opens a file of at most `max_bytes`, creating it if missing. A snapshot is written whatever its size: one of more than
    /// three quarters of `max_bytes` leaves a quarter of that for entries. Fails if the file is damaged, of a newer version, of
    /// another application, in use by another process or not writable.
    pub fn open(path: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, StoreError> {
        let file = StoreFile::open(path.into(), &JOURNAL)?;
        file.read(|connection| {
            let size = "SELECT (SELECT coalesce(sum(length(state)), 0) FROM snapshot)
                + (SELECT coalesce(sum(length(state)), 0) FROM snapshot_parts)";
            let snapshot = connection.query_row(size, [], |row| row.get::<_, i64>(0))?;
            limit_size(connection, max_size(max_bytes, snapshot.unsigned_abs()))?;
            // No other process may write to the file while this one has it open.
            connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
            connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")
        })?;
        Ok(Self { file, max_bytes })
    }
}

/// Returns the maximum size of a file with a snapshot of that size.
fn max_size(max_bytes: u64, snapshot: u64) -> u64 {
    max_bytes.max(snapshot.saturating_add(max_bytes / 4))
}

/// Limits the size of the file. A file that is larger keeps its size.
fn limit_size(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let max_pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
    connection.pragma_update_and_check(None, "max_page_count", max_pages.max(16), |_| Ok(()))
}

impl JournalStore for SqliteJournal {
    fn append(&self, entries: &[JournalEntry<'_>]) -> Result<u64, StoreError> {
        self.file.write(|connection| {
            let sql = "INSERT INTO entries (received, format, key, body) VALUES (?, ?, ?, ?)";
            let mut insert = connection.prepare_cached(sql)?;
            for entry in entries {
                insert.execute(params![entry.received.as_nanos(), entry.format, entry.key, entry.body])?;
            }
            Ok(connection.last_insert_rowid().cast_unsigned())
        })
    }

    fn put_snapshot(&self, last: u64, state: &[u8]) -> Result<(), StoreError> {
        let (first, others) = state.split_at(state.len().min(MAX_PART));
        self.file.read(|connection| limit_size(connection, u64::MAX))?;
        let written = self.file.write(|connection| {
            // Deletes first, which frees space for the snapshot if the disk is full.
            connection.execute("DELETE FROM entries WHERE number <= ?", [last.cast_signed()])?;
            connection.execute("DELETE FROM snapshot_parts", [])?;
            let sql = "INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)";
            connection.execute(sql, params![last.cast_signed(), first])?;
            let mut insert = connection.prepare_cached("INSERT INTO snapshot_parts (state) VALUES (?)")?;
            others.chunks(MAX_PART).try_for_each(|part| insert.execute([part]).map(drop))
        });
        // Without it, the previous snapshot remains, and the limit is that of an empty one until the next.
        let snapshot = if written.is_ok() { state.len() as u64 } else { 0 };
        self.file.read(|connection| limit_size(connection, max_size(self.max_bytes, snapshot))).and(written)
    }

    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.file.read(|connection| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?));
            let first: Option<(u64, Vec<u8>)> =
                connection.query_row("SELECT last, state FROM snapshot", [], read).optional()?;
            let Some((last, mut state)) = first else { return Ok(None) };
            let mut select = connection.prepare("SELECT state FROM snapshot_parts ORDER BY number")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                state.extend_from_slice(row.get_ref(0)?.as_blob()?);
            }
            Ok(Some((last, state)))
        })
    }

    fn replay(&self, after: u64, each: &mut dyn FnMut(u64, JournalEntry<'_>) -> bool) -> Result<(), StoreError> {
        self.file.read(|connection| {
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
        self.file.read(|connection| {
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
    fn a_snapshot_of_any_size_is_written_and_leaves_room_for_entries() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SqliteJournal::open(folder.path().join("journal.db"), 4 << 20).unwrap();
        let mut journal = open();
        let body = vec![7; 100_000];
        let large: Vec<u8> = (0..2 * MAX_PART + 5).map(|byte| (byte % 251) as u8).collect();
        for state in [&large[..], b"small", &large[..MAX_PART], b"", &large] {
            while journal.append(&[entry(&body)]).is_ok() {}
            let last = numbers(&journal, 0).last().unwrap().0;
            journal.put_snapshot(last, state).unwrap();
            drop(journal);
            journal = open();
            assert!(journal.snapshot().unwrap() == Some((last, state.to_vec())));
            let accepted = (0..100).take_while(|_| journal.append(&[entry(&body)]).is_ok()).count();
            assert!(accepted >= 8, "{accepted} with a snapshot of {} bytes", state.len());
        }
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
