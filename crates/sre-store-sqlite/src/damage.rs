use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sre_core::JournalEntry;
use sre_core::private::stable_hash;

use crate::wal::DamagedLog;

/// A damaged part of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalDamage {
    /// The part: `entry 7`, `entries 8 to 9`, `the snapshot of entries 1 to 7`, `what follows entry 7` or `every entry`.
    pub part: String,
    /// The number of entries; 1 for a snapshot; the number of transactions where that of their entries is unknown.
    pub count: u64,
    /// What is wrong with it.
    pub reason: String,
    /// The file that keeps its bytes, beside the journal; `None` if none are left, or if the file cannot be written, which `reason`
    /// then says.
    pub kept: Option<PathBuf>,
}

impl JournalDamage {
    /// Keeps the bytes of a part in a file beside the journal, whose name ends with `name`.
    pub(crate) fn kept(journal: &Path, name: &str, part: String, reason: String, bytes: &[u8]) -> Self {
        let path = journal.with_extension(format!("damaged-{name}"));
        let (reason, kept) = match fs::write(&path, bytes) {
            Ok(()) => (reason, Some(path)),
            Err(error) => {
                let unwritten = format!("{} cannot be written ({error})", path.display());
                (format!("{reason}; {unwritten}, so the next snapshot deletes its bytes"), None)
            }
        };
        Self { part, count: 1, reason, kept }
    }

    /// Keeps a copy of a damaged write-ahead log beside the journal. The part is yet to be named.
    pub(crate) fn of_log(journal: &Path, log: &DamagedLog) -> Self {
        let DamagedLog { path, frame, transactions, salts: [first, second] } = log;
        let copy = journal.with_extension(format!("damaged-wal-{first:08x}{second:08x}"));
        // A start that was interrupted may have kept it.
        let copied = if copy.exists() { Ok(()) } else { fs::copy(path, &copy).map(drop) };
        let mut reason = format!(
            "frame {frame} of the write-ahead log is damaged, and {transactions} transactions end there or behind"
        );
        let kept = match copied {
            Ok(()) => Some(copy),
            Err(error) => {
                reason += &format!("; {} cannot be written ({error}), so its bytes are deleted", copy.display());
                None
            }
        };
        Self { part: String::new(), count: *transactions, reason, kept }
    }

    /// Returns the damage of entries that are missing.
    pub(crate) fn missing(first: u64, last: u64) -> Self {
        let part = if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") };
        Self { part, count: (last - first).saturating_add(1), reason: "missing".to_owned(), kept: None }
    }
}

impl fmt::Display for JournalDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.reason)?;
        self.kept.as_ref().map_or(Ok(()), |path| write!(f, "; its bytes are in {}", path.display()))
    }
}

/// Returns the checksum of an entry.
pub(crate) fn entry_checksum(number: u64, entry: &JournalEntry<'_>) -> i64 {
    let JournalEntry { received, format, key, body, .. } = *entry;
    let key = key.as_ref().map_or(&[][..], |key| key);
    checksum(&[&number.to_le_bytes(), &received.as_nanos().to_le_bytes(), format.as_bytes(), key, body])
}

/// Returns the checksum of a snapshot.
pub(crate) fn snapshot_checksum(last: u64, state: &[u8]) -> i64 {
    checksum(&[&last.to_le_bytes(), state])
}

fn checksum(parts: &[&[u8]]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = stable_hash(parts);
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}
