use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use sre_core::private::lock;
use sre_core::{JournalEntry, JournalStore, StoreError, Timestamp};

use crate::damage::{JournalDamage, entry_checksum, snapshot_checksum};
use crate::error::io_error;
use crate::file::StoreFile;
use crate::schema::{self, Schema};
use crate::wal::DamagedLog;

/// A [`JournalStore`] in a SQLite file. The space of deleted entries is reused, so the file stays at the largest size it once
/// had.
///
/// Entries and the snapshot have checksums. What cannot be read is skipped and kept in a file beside the journal; [`damage`]
/// lists it. A file that was deleted while in use is recreated by the next snapshot that covers every entry.
///
/// [`damage`]: Self::damage
#[derive(Debug)]
pub struct SqliteJournal {
    file: StoreFile,
    max_bytes: u64,
    /// The number of the last entry that was appended since the file was opened; 0 if none was.
    appended: AtomicU64,
    /// The file is recreated, or about to be, and lacks the snapshot from which the numbers of entries go on.
    lacks_snapshot: AtomicBool,
    damage: Mutex<Vec<JournalDamage>>,
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
        CHECKSUMS,
    ],
};

/// A snapshot may be larger than a value in SQLite, 10⁹ bytes: `state` is its first part, and the others are here.
const SNAPSHOT_PARTS: &str = "CREATE TABLE snapshot_parts (number INTEGER PRIMARY KEY, state BLOB NOT NULL)";

/// Maximum size of a part of a snapshot, in bytes.
const MAX_PART: usize = 16 << 20;

/// Rows of earlier versions have no checksum.
const CHECKSUMS: &str = "
    ALTER TABLE entries ADD COLUMN checksum INTEGER;
    ALTER TABLE snapshot ADD COLUMN checksum INTEGER;
";

impl SqliteJournal {
    /// The default file name.
    pub const DEFAULT_FILE: &str = "journal.db";

    /// Opens a file of at most `max_bytes`, creating it if missing. A snapshot is written whatever its size: one of more than
    /// three quarters of `max_bytes` leaves a quarter of that for entries. Fails if the file is damaged, of a newer version, of
    /// another application, in use by another process or not writable.
    pub fn open(path: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, StoreError> {
        let path = path.into();
        let damaged_log = DamagedLog::find(&path).map_err(|error| io_error(&path, error))?;
        let mut damage = damaged_log.map(|log| JournalDamage::of_log(&path, &log));
        let file = StoreFile::open(path, &JOURNAL)?;
        file.read(|connection| {
            configure(connection, max_bytes)?;
            if let Some(damage) = &mut damage {
                damage.part = match last_number(connection)? {
                    0 => "every entry".to_owned(),
                    last => format!("what follows entry {last}"),
                };
                // Without the frames behind the damage, which would be found again.
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
            Ok(())
        })?;
        let (appended, lacks_snapshot) = (AtomicU64::default(), AtomicBool::default());
        Ok(Self { file, max_bytes, appended, lacks_snapshot, damage: Mutex::new(damage.into_iter().collect()) })
    }

    /// Checks that [`open`](Self::open) can open a file, without a change to it; one that is missing can be created. Returns what
    /// [`snapshot`](JournalStore::snapshot) would.
    ///
    /// # Errors
    ///
    /// Returns the error of `open`, also if another process writes to the file just now.
    pub fn check(path: impl AsRef<Path>) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let stored = schema::check_and_read(path.as_ref(), &JOURNAL, read_snapshot)?.flatten();
        Ok(stored.filter(|stored| stored.is_intact).map(|stored| (stored.last, stored.state)))
    }

    /// Returns what could not be read so far.
    pub fn damage(&self) -> Vec<JournalDamage> {
        lock(&self.damage).clone()
    }

    /// Adds an entry that its reader does not understand to the [`damage`](Self::damage), and keeps it in a file.
    pub fn set_aside(&self, number: u64, entry: &JournalEntry<'_>, reason: impl Into<String>) {
        let JournalEntry { received, format, key, body, .. } = *entry;
        let head = json!({"number": number, "received_ns": received.as_nanos(), "format": format, "key": key});
        self.keep(number, reason.into(), &head, body);
    }

    fn keep(&self, number: u64, reason: String, head: &serde_json::Value, body: &[u8]) {
        let bytes = [format!("{head}\n").as_bytes(), body].concat();
        let (name, part) = (format!("entry-{number}"), format!("entry {number}"));
        lock(&self.damage).push(JournalDamage::kept(&self.file.path, &name, part, reason, &bytes));
    }

    /// Keeps what a row holds, whatever the types of its values are.
    fn keep_row(&self, number: u64, reason: String, row: &Row<'_>) -> rusqlite::Result<()> {
        let text = |column| Ok::<_, rusqlite::Error>(String::from_utf8_lossy(bytes(row.get_ref(column)?)).into_owned());
        let (received, key) = (row.get_ref(1)?.as_i64().ok(), bytes(row.get_ref(3)?));
        let head = json!({"number": number, "received_ns": received, "format": text(2)?, "key": key});
        self.keep(number, reason, &head, bytes(row.get_ref(4)?));
        Ok(())
    }

    /// Notes that the entries from `expected` on are missing, if the next one has another number.
    fn expect(&self, expected: u64, next: u64) {
        if expected < next {
            lock(&self.damage).push(JournalDamage::missing(expected, next - 1));
        }
    }

    fn missing(&self, reason: String) -> StoreError {
        StoreError::Missing { store: self.file.path.display().to_string(), reason }
    }

    /// Recreates a deleted file, for a snapshot that covers the entries up to `last`.
    fn recreate(&self, last: u64) -> Result<(), StoreError> {
        let appended = self.appended.load(Ordering::Relaxed);
        if appended > last {
            let reason = format!("deleted while in use; it is recreated once entry {appended} is processed");
            return Err(self.missing(reason));
        }
        self.lacks_snapshot.store(true, Ordering::Relaxed);
        self.file.reopen(|connection| configure(connection, self.max_bytes))
    }
}

/// Limits the size of the file, and keeps it for this process.
fn configure(connection: &Connection, max_bytes: u64) -> rusqlite::Result<()> {
    let size = "SELECT (SELECT coalesce(sum(length(state)), 0) FROM snapshot)
        + (SELECT coalesce(sum(length(state)), 0) FROM snapshot_parts)";
    let snapshot = connection.query_row(size, [], |row| row.get::<_, i64>(0))?;
    limit_size(connection, max_size(max_bytes, snapshot.unsigned_abs()))?;
    // No other process may write to the file while this one has it open.
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")
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

/// Returns the bytes of a text or blob.
fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => &[],
    }
}

/// Returns the number of the last entry that was ever appended.
fn last_number(connection: &Connection) -> rusqlite::Result<u64> {
    let sql =
        "SELECT max(coalesce((SELECT max(number) FROM entries), 0), coalesce((SELECT max(last) FROM snapshot), 0),
        coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'entries'), 0))";
    connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Reads an entry, and returns what is wrong with it if it is damaged.
fn read_entry<'a>(number: u64, row: &'a Row<'_>) -> Result<JournalEntry<'a>, String> {
    let invalid = |error: FromSqlError| error.to_string();
    let value = |column| row.get_ref(column).map_err(|error| error.to_string());
    let received = Timestamp::from_nanos(value(1)?.as_i64().map_err(invalid)?);
    let format = value(2)?.as_str().map_err(invalid)?;
    let key = match value(3)? {
        ValueRef::Null => None,
        key => {
            let key = key.as_blob().map_err(invalid)?;
            Some(key.try_into().map_err(|_| format!("found a key of {} bytes, expected 16", key.len()))?)
        }
    };
    let entry = JournalEntry::new(received, format, key, value(4)?.as_blob().map_err(invalid)?);
    match value(5)? {
        ValueRef::Null => Ok(entry),
        ValueRef::Integer(checksum) if checksum == entry_checksum(number, &entry) => Ok(entry),
        _ => Err(CHECKSUM_DIFFERS.to_owned()),
    }
}

const CHECKSUM_DIFFERS: &str = "the checksum differs";

/// A snapshot as it is in the file.
struct StoredSnapshot {
    last: u64,
    state: Vec<u8>,
    /// Whether the checksum fits, if there is one.
    is_intact: bool,
    /// The number of the last entry that it covers by the entries that are left, also if `last` is damaged.
    covered: u64,
}

fn read_snapshot(connection: &Connection) -> rusqlite::Result<Option<StoredSnapshot>> {
    let read = |row: &Row<'_>| {
        let (last, state) = (row.get_ref(0)?.as_i64().unwrap_or_default(), bytes(row.get_ref(1)?).to_vec());
        let checksum = match row.get_ref(2)? {
            ValueRef::Null => Ok(None),
            checksum => checksum.as_i64().map(Some),
        };
        Ok((last.cast_unsigned(), state, checksum))
    };
    let found = connection.query_row("SELECT last, state, checksum FROM snapshot", [], read).optional()?;
    let Some((last, mut state, checksum)) = found else { return Ok(None) };
    let mut select = connection.prepare("SELECT state FROM snapshot_parts ORDER BY number")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        state.extend_from_slice(bytes(row.get_ref(0)?));
    }
    let is_intact = checksum.is_ok_and(|known| known.is_none_or(|known| known == snapshot_checksum(last, &state)));
    let first: Option<i64> = connection.query_row("SELECT min(number) FROM entries", [], |row| row.get(0))?;
    let covered = first.map_or_else(|| last_number(connection), |first| Ok((first - 1).cast_unsigned()))?;
    Ok(Some(StoredSnapshot { last, state, is_intact, covered }))
}

impl JournalStore for SqliteJournal {
    fn append(&self, entries: &[JournalEntry<'_>]) -> Result<u64, StoreError> {
        let last = self.file.write(|connection| {
            if self.lacks_snapshot.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let sql = "INSERT INTO entries (number, received, format, key, body, checksum) VALUES (?, ?, ?, ?, ?, ?)";
            let mut insert = connection.prepare_cached(sql)?;
            let mut number = last_number(connection)?;
            for entry in entries {
                number = number.saturating_add(1);
                let JournalEntry { received, format, key, body, .. } = *entry;
                let (signed, checksum) = (number.cast_signed(), entry_checksum(number, entry));
                insert.execute(params![signed, received.as_nanos(), format, key, body, checksum])?;
            }
            Ok(Some(number))
        })?;
        // Its number would be one that the snapshot covers, which would delete it.
        let last = last.ok_or_else(|| self.missing("deleted while in use".to_owned()))?;
        self.appended.store(last, Ordering::Relaxed);
        Ok(last)
    }

    fn put_snapshot(&self, last: u64, state: &[u8]) -> Result<(), StoreError> {
        if self.file.check().is_err() {
            self.recreate(last)?;
        }
        let (first, others) = state.split_at(state.len().min(MAX_PART));
        self.file.read(|connection| limit_size(connection, u64::MAX))?;
        let written = self.file.write(|connection| {
            // Deletes first, which frees space for the snapshot if the disk is full.
            connection.execute("DELETE FROM entries WHERE number <= ?", [last.cast_signed()])?;
            connection.execute("DELETE FROM snapshot_parts", [])?;
            let sql = "INSERT OR REPLACE INTO snapshot (only, last, state, checksum) VALUES (1, ?, ?, ?)";
            connection.execute(sql, params![last.cast_signed(), first, snapshot_checksum(last, state)])?;
            let mut insert = connection.prepare_cached("INSERT INTO snapshot_parts (state) VALUES (?)")?;
            others.chunks(MAX_PART).try_for_each(|part| insert.execute([part]).map(drop))
        });
        if written.is_ok() {
            self.lacks_snapshot.store(false, Ordering::Relaxed);
        }
        // Without it, the previous snapshot remains, and the limit is that of an empty one until the next.
        let snapshot = if written.is_ok() { state.len() as u64 } else { 0 };
        self.file.read(|connection| limit_size(connection, max_size(self.max_bytes, snapshot))).and(written)
    }

    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let stored = self.file.read(read_snapshot)?;
        let Some(StoredSnapshot { last, state, is_intact, covered }) = stored else { return Ok(None) };
        if !is_intact {
            let (name, part) = (format!("snapshot-{covered}"), format!("the snapshot of entries 1 to {covered}"));
            let damage = JournalDamage::kept(&self.file.path, &name, part, CHECKSUM_DIFFERS.to_owned(), &state);
            lock(&self.damage).push(damage);
            return Ok(None);
        }
        Ok(Some((last, state)))
    }

    fn replay(&self, after: u64, each: &mut dyn FnMut(u64, JournalEntry<'_>) -> bool) -> Result<(), StoreError> {
        self.file.read(|connection| {
            let sql =
                "SELECT number, received, format, key, body, checksum FROM entries WHERE number > ? ORDER BY number";
            let mut select = connection.prepare(sql)?;
            let mut rows = select.query([after.cast_signed()])?;
            // A snapshot that is damaged covers the entries before the first.
            let has_snapshot: bool =
                connection.query_row("SELECT EXISTS (SELECT 1 FROM snapshot)", [], |row| row.get(0))?;
            let mut expected = if after == 0 && has_snapshot { 0 } else { after.saturating_add(1) };
            while let Some(row) = rows.next()? {
                let number = row.get::<_, i64>(0)?.cast_unsigned();
                if expected > 0 {
                    self.expect(expected, number);
                }
                expected = number.saturating_add(1);
                match read_entry(number, row) {
                    Ok(entry) if !each(number, entry) => return Ok(()),
                    Ok(_) => {}
                    Err(reason) => self.keep_row(number, reason, row)?,
                }
            }
            if expected > 0 {
                self.expect(expected, last_number(connection)?.saturating_add(1));
            }
            Ok(())
        })
    }

    fn size(&self) -> Result<u64, StoreError> {
        self.file.check()?;
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
    fn it_conforms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        sre_testkit::conformance::journal_store(&|| Box::new(SqliteJournal::open(&path, 1 << 30).unwrap()));
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
    fn a_file_that_is_created_anew_takes_no_entry_before_its_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, 1 << 30).unwrap();
        assert_eq!(journal.append(&[entry(b"1"), entry(b"2")]).unwrap(), 2);
        std::fs::remove_file(&path).unwrap();
        journal.recreate(2).unwrap();
        assert!(journal.append(&[entry(b"lost")]).unwrap_err().is_missing());
        journal.put_snapshot(2, b"both").unwrap();
        assert_eq!(journal.append(&[entry(b"3")]).unwrap(), 3);
        assert_eq!(numbers(&journal, 2), [(3, b"3".to_vec())]);
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
