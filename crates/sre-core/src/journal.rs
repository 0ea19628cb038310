use crate::{StoreError, Timestamp};

/// A write-ahead log: what a service receives is appended here before it is acknowledged.
///
/// The state is a *snapshot* plus the entries after it: a restart restores the snapshot and replays those. Every write is
/// durable when the call returns.
///
/// ```
/// # use sre_core::{JournalStore, StoreError};
/// /// Returns the bytes received so far, after a restart: those that the snapshot counts, and those of the entries after it.
/// fn bytes_received(journal: &dyn JournalStore) -> Result<u64, StoreError> {
///     let (mut last, mut bytes) = match journal.snapshot()? {
///         Some((last, state)) => (last, u64::from_le_bytes(state.try_into().expect("8 bytes, as written below"))),
///         None => (0, 0),
///     };
///     journal.replay(last, &mut |number, entry| {
///         bytes += entry.body.len() as u64;
///         last = number;
///         true
///     })?;
///     journal.put_snapshot(last, &bytes.to_le_bytes())?;
///     Ok(bytes)
/// }
/// ```
pub trait JournalStore: Send + Sync {
    /// Appends entries in order, all or none, and returns the number of the last. Numbers grow by one and are never reused.
    fn append(&self, entries: &[JournalEntry<'_>]) -> Result<u64, StoreError>;

    /// Replaces the snapshot, and deletes the entries up to number `last`, which it covers.
    fn put_snapshot(&self, last: u64, state: &[u8]) -> Result<(), StoreError>;

    /// Returns the snapshot and the number of the last entry that it covers.
    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// Calls `each` with the entries after number `after` in order, until it returns false.
    fn replay(&self, after: u64, each: &mut dyn FnMut(u64, JournalEntry<'_>) -> bool) -> Result<(), StoreError>;

    /// Returns the size of the stored data, in bytes.
    fn size(&self) -> Result<u64, StoreError>;
}

/// One item received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEntry<'a> {
    /// When it was received.
    pub received: Timestamp,
    /// The format of the body.
    pub format: &'a str,
    /// The idempotency key: the same when the item is sent again.
    pub key: Option<[u8; 16]>,
    /// The item as received.
    pub body: &'a [u8],
}

impl<'a> JournalEntry<'a> {
    /// Creates an entry.
    pub const fn new(received: Timestamp, format: &'a str, key: Option<[u8; 16]>, body: &'a [u8]) -> Self {
        Self { received, format, key, body }
    }
}
