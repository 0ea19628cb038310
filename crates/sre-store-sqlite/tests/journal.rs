//! What becomes of a journal whose file is damaged, of an earlier version, or deleted while in use.

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rusqlite::Connection;
use sre_core::{JournalEntry, JournalStore, StoreError, Timestamp};
use sre_store_sqlite::{JournalDamage, SqliteJournal};
use tempfile::TempDir;

type Content = (Option<(u64, Vec<u8>)>, Vec<(u64, i64, String, Option<[u8; 16]>, Vec<u8>)>);

fn open(path: &Path) -> SqliteJournal {
    SqliteJournal::open(path, 1 << 30).unwrap()
}

fn entry(body: &[u8]) -> JournalEntry<'_> {
    JournalEntry::new(Timestamp::from_secs(7), "sre", Some([3; 16]), body)
}

fn content(journal: &SqliteJournal) -> Result<Content, StoreError> {
    let snapshot = journal.snapshot()?;
    let mut entries = Vec::new();
    journal.replay(snapshot.as_ref().map_or(0, |(last, _)| *last), &mut |number, entry| {
        entries.push((number, entry.received.as_nanos(), entry.format.to_owned(), entry.key, entry.body.to_vec()));
        true
    })?;
    Ok((snapshot, entries))
}

fn numbers(journal: &SqliteJournal) -> Vec<u64> {
    content(journal).unwrap().1.into_iter().map(|(number, ..)| number).collect()
}

/// Replaces the only place of the file that holds these bytes.
fn replace(path: &Path, found: &[u8], with: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at: Vec<usize> = (0..bytes.len() - found.len()).filter(|at| bytes[*at..].starts_with(found)).collect();
    assert_eq!((at.len(), found.len()), (1, with.len()));
    bytes[at[0]..][..with.len()].copy_from_slice(with);
    fs::write(path, bytes).unwrap();
}

/// Stores a snapshot of entries 1 and 2, and entries 3 to 6 after it.
fn store(path: &Path) {
    let journal = open(path);
    journal.append(&[entry(b"first"), entry(b"second")]).unwrap();
    journal.put_snapshot(2, b"state of two").unwrap();
    let large = vec![9; 6_000];
    journal.append(&[entry(b"third"), entry(b"fourth"), entry(&large)]).unwrap();
    journal.append(&[JournalEntry::new(Timestamp::from_secs(8), "otlp/traces", None, b"sixth")]).unwrap();
}

#[test]
fn no_flipped_bit_passes_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    store(&path);
    let whole = fs::read(&path).unwrap();
    let expected = content(&open(&path)).unwrap();
    let mut random = Rng::with_seed(15);
    let (mut seen, mut harmless) = (0, 0);
    for _ in 0..250 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut flipped = whole.clone();
        let (at, bit) = (random.usize(..whole.len()), random.u32(..8));
        flipped[at] ^= 1 << bit;
        fs::write(&path, &flipped).unwrap();
        let read = SqliteJournal::open(&path, 1 << 30).and_then(|journal| Ok((content(&journal)?, journal.damage())));
        match read {
            Ok((found, damage)) if damage.is_empty() => {
                assert_eq!(found, expected, "bit {bit} of byte {at}");
                harmless += 1;
            }
            _ => seen += 1,
        }
    }
    assert!(seen > 50 && harmless > 50, "{seen} seen, {harmless} in unused space");
}

/// Copies a journal that is open, as a kill leaves it.
fn killed(path: &Path) -> (TempDir, PathBuf) {
    let copied = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(path.with_file_name(name), copied.path().join(name)).unwrap();
    }
    let path = copied.path().join("journal.db");
    (copied, path)
}

#[test]
fn no_flipped_byte_of_the_write_ahead_log_passes_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path);
    (1..=3_u8).for_each(|body| _ = journal.append(&[entry(&[body; 5_000])]).unwrap());
    journal.put_snapshot(2, b"state of two").unwrap();
    (4..=6_u8).for_each(|body| _ = journal.append(&[entry(&[body; 50])]).unwrap());
    let (_whole, whole) = killed(&path);
    let log = fs::read(whole.with_file_name("journal.db-wal")).unwrap();
    let journal = open(&whole);
    assert_eq!((numbers(&journal), journal.damage()), ((3..=6).collect(), Vec::new()));
    let mut random = Rng::with_seed(15);
    // Every byte of the header of the log and of the last frame.
    let last = log.len() - 4_096 - 24;
    let places = (0..32).chain(last..last + 24).chain((0..100).map(|_| random.usize(..log.len())));
    for at in places {
        let (_copy, path) = killed(&path);
        let mut flipped = log.clone();
        flipped[at] ^= 0x80;
        fs::write(path.with_file_name("journal.db-wal"), &flipped).unwrap();
        let journal = open(&path);
        let [JournalDamage { part, count, kept: Some(kept), .. }] = &journal.damage()[..] else {
            panic!("byte {at}: {:?}", journal.damage())
        };
        assert_eq!(fs::read(kept).unwrap(), flipped, "byte {at}");
        let (snapshot, entries) = content(&journal).unwrap();
        let read = entries.last().map_or(snapshot.map_or(0, |(last, _)| last), |(number, ..)| *number);
        let expected = if read == 0 { "every entry".to_owned() } else { format!("what follows entry {read}") };
        assert_eq!(*part, expected, "byte {at}");
        // Beside the entries, there are the transactions of the schema and of the snapshot.
        assert!((6 - read..=8 - read).contains(count), "byte {at}: {count} transactions after entry {read}");
        assert_eq!(journal.append(&[entry(b"next")]).unwrap(), read + 1);
        let (_killed, path) = killed(&path);
        let journal = open(&path);
        assert_eq!((numbers(&journal).last(), journal.damage()), (Some(&(read + 1)), Vec::new()), "byte {at}");
    }
}

#[test]
fn old_frames_in_a_write_ahead_log_are_not_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&path, 16 << 20).unwrap();
    let log = || fs::metadata(path.with_file_name("journal.db-wal")).unwrap().len();
    let assert_intact = || {
        let (_copy, copied) = killed(&path);
        let copied = open(&copied);
        assert_eq!((numbers(&copied), copied.damage()), (numbers(&journal), Vec::new()));
    };
    // The log restarts after about 4 MB, and does not shrink.
    let mut before = 0;
    while log() > before {
        before = log();
        journal.append(&[entry(&[7; 200_000])]).unwrap();
    }
    for _ in 0..3 {
        assert_intact();
        journal.append(&[entry(b"short")]).unwrap();
    }
    // A transaction that is too large is begun in the log, and rolled back.
    let (large, before) = (vec![8; 14 << 20], log());
    assert!(journal.append(&[entry(&large)]).is_err() && log() > before, "{} bytes", log());
    assert_intact();
    journal.append(&[entry(b"short")]).unwrap();
    assert_intact();
}

#[test]
fn a_damaged_entry_is_skipped_named_and_kept_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    store(&path);
    replace(&path, b"fourth", b"fOurth");
    let journal = open(&path);
    assert_eq!(numbers(&journal), [3, 5, 6]);
    let kept = folder.path().join("journal.damaged-entry-4");
    let [JournalDamage { part, count, reason, kept: Some(found), .. }] = &journal.damage()[..] else {
        panic!("{:?}", journal.damage())
    };
    assert_eq!((part.as_str(), *count, reason.as_str(), found), ("entry 4", 1, "the checksum differs", &kept));
    let bytes = fs::read(&kept).unwrap();
    let (head, body) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1);
    let head: serde_json::Value = serde_json::from_slice(head).unwrap();
    assert_eq!((&head["number"], &head["format"], body), (&4.into(), &"sre".into(), &b"fOurth"[..]));
    assert_eq!(journal.append(&[entry(b"next")]).unwrap(), 7, "its number is not used again");
    journal.put_snapshot(7, b"all").unwrap();
    drop(journal);
    let journal = open(&path);
    assert_eq!((numbers(&journal), journal.damage()), (Vec::new(), Vec::new()), "the snapshot covers it");
    assert!(kept.exists());
}

#[test]
fn damage_that_cannot_be_kept_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    store(&path);
    replace(&path, b"fourth", b"fOurth");
    // No file can be written in the place of a folder.
    let kept = folder.path().join("journal.damaged-entry-4");
    fs::create_dir(&kept).unwrap();
    let journal = open(&path);
    assert_eq!(numbers(&journal), [3, 5, 6]);
    let damage = journal.damage();
    let text = damage[0].to_string();
    assert!(
        text.starts_with("entry 4: the checksum differs; ") && text.contains(&kept.display().to_string()),
        "{text}"
    );
    assert_eq!((damage.len(), damage[0].count, &damage[0].kept), (1, 1, &None));
}

#[test]
fn entries_that_are_missing_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    store(&path);
    let rows = Connection::open(&path).unwrap();
    rows.execute("DELETE FROM entries WHERE number IN (3, 4, 6)", []).unwrap();
    drop(rows);
    let journal = open(&path);
    assert_eq!(numbers(&journal), [5]);
    let found: Vec<(String, u64)> = journal.damage().into_iter().map(|damage| (damage.part, damage.count)).collect();
    assert_eq!(found, [("entries 3 to 4".to_owned(), 2), ("entry 6".to_owned(), 1)]);
}

#[test]
fn a_damaged_snapshot_is_kept_in_a_file_and_the_entries_after_it_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    store(&path);
    replace(&path, b"state of two", b"state of tvo");
    let journal = open(&path);
    assert_eq!(journal.snapshot().unwrap(), None);
    assert_eq!(numbers(&journal), [3, 4, 5, 6]);
    let damage = journal.damage();
    assert_eq!((damage.len(), damage[0].part.as_str()), (2, "the snapshot of entries 1 to 2"));
    let kept = folder.path().join("journal.damaged-snapshot-2");
    assert_eq!((fs::read(&kept).unwrap(), damage[0].kept.as_ref()), (b"state of tvo".to_vec(), Some(&kept)));
}

#[test]
fn entries_and_snapshots_of_earlier_versions_have_no_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/state/v0.1.0.db");
    fs::copy(stored, &path).unwrap();
    let journal = open(&path);
    let (snapshot, entries) = content(&journal).unwrap();
    assert!(snapshot.is_some() && entries.len() == 1 && journal.damage().is_empty(), "{:?}", journal.damage());
    let next = entries[0].0 + 1;
    assert_eq!(journal.append(&[entry(b"next")]).unwrap(), next);
    drop(journal);
    replace(&path, b"next", b"nexT");
    let journal = open(&path);
    assert_eq!((numbers(&journal), journal.damage().len()), (vec![next - 1], 1), "a new entry has a checksum");
}

#[test]
fn a_deleted_file_is_noticed_and_created_anew_by_a_snapshot_of_every_entry() {
    for delete_folder in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let path = data.join("journal.db");
        let journal = open(&path);
        assert_eq!(journal.append(&[entry(b"1"), entry(b"2")]).unwrap(), 2);
        if delete_folder { fs::remove_dir_all(&data) } else { fs::remove_file(&path) }.unwrap();
        let error = journal.append(&[entry(b"lost")]).unwrap_err();
        assert!(error.is_missing() && error.reason() == "deleted while in use", "{error}");
        assert!(journal.size().unwrap_err().is_missing());
        let error = journal.put_snapshot(1, b"one").unwrap_err();
        assert!(error.to_string().contains("once entry 2 is processed") && !path.exists(), "{error}");
        journal.put_snapshot(2, b"both").unwrap();
        assert_eq!(journal.append(&[entry(b"3")]).unwrap(), 3);
        drop(journal);
        let journal = open(&path);
        assert_eq!(journal.snapshot().unwrap(), Some((2, b"both".to_vec())));
        assert_eq!((numbers(&journal), journal.damage()), (vec![3], Vec::new()));
    }
}

#[test]
fn a_deleted_write_ahead_log_is_noticed_and_loses_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = open(&path);
    journal.append(&[entry(b"1")]).unwrap();
    fs::remove_file(folder.path().join("journal.db-wal")).unwrap();
    let error = journal.append(&[entry(b"not acknowledged")]).unwrap_err();
    assert!(error.is_missing() && error.reason().contains("write-ahead log"), "{error}");
    journal.put_snapshot(1, b"one").unwrap();
    journal.append(&[entry(b"2")]).unwrap();
    let (_copy, copied) = killed(&path);
    let again = open(&copied);
    assert_eq!(again.snapshot().unwrap(), Some((1, b"one".to_vec())));
    assert_eq!(content(&again).unwrap().1.pop().unwrap().4, b"2");
}

#[test]
fn a_file_in_the_place_of_the_journal_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("journal.db"), folder.path().join("backup.db"));
    store(&backup);
    let journal = open(&path);
    journal.append(&[entry(b"1")]).unwrap();
    fs::rename(&backup, &path).unwrap();
    let _ = fs::remove_file(folder.path().join("journal.db-wal"));
    for error in [journal.append(&[entry(b"2")]).unwrap_err(), journal.put_snapshot(1, b"one").unwrap_err()] {
        assert!(error.is_missing() && error.reason().contains("replaced by another file"), "{error}");
    }
    drop(journal);
    assert_eq!(numbers(&open(&path)), [3, 4, 5, 6]);
}
