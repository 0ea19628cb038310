#![no_main]

use agent_sre::sqlite::SqliteJournal;
use agent_sre::{JournalEntry, JournalStore, Timestamp};
use libfuzzer_sys::fuzz_target;

/// Number of entries in the journal, and how many of them the snapshot covers.
const ENTRIES: u64 = 20;
const COVERED: u64 = 5;

// A journal of which some bytes were changed: of every five bytes of the input, the first four are a place, and the last one is what
// changes there. What is read from it is what was written, and what is not read is counted, or the journal is refused as a whole.
fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(SqliteJournal::DEFAULT_FILE);
    let body = |number: u64| vec![number as u8; 200 * number as usize];
    let state = vec![7; 3_000];
    {
        let journal = SqliteJournal::open(&path, 1 << 30).expect("a journal");
        for number in 1..=ENTRIES {
            let body = body(number);
            let entry = JournalEntry::new(Timestamp::from_secs(number as i64), "sre", Some([number as u8; 16]), &body);
            journal.append(&[entry]).expect("room");
            if number == COVERED {
                journal.put_snapshot(number, &state).expect("room");
            }
        }
    }
    let mut bytes = std::fs::read(&path).expect("a file");
    for change in data.chunks_exact(5) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[place] ^= change[4];
    }
    std::fs::write(&path, bytes).expect("a file");
    let Ok(journal) = SqliteJournal::open(&path, 1 << 30) else { return };
    let Ok(snapshot) = journal.snapshot() else { return };
    if let Some((last, found)) = &snapshot {
        assert!((*last, found) == (COVERED, &state), "a snapshot that nobody wrote");
    }
    let mut read = 0;
    let replayed = journal.replay(COVERED, &mut |number, entry| {
        assert!(entry.body == body(number) && entry.key == Some([number as u8; 16]), "entry {number} that nobody wrote");
        read += 1;
        true
    });
    if replayed.is_ok() && snapshot.is_some() {
        let damaged: u64 = journal.damage().iter().map(|damage| damage.count).sum();
        assert!(read + damaged >= ENTRIES - COVERED, "{read} read and {damaged} damaged");
    }
});
