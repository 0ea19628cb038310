use crate::{StoreError, Timestamp};

/// Where a service writes what it takes in before it says that it has it, and now and then what it has made of it all.
///
/// State is a *snapshot* and the entries after it: whoever restarts takes up the one and reads the others again. A call returns
/// once what it wrote survives the death of the process and of the machine.
pub trait JournalStore: Send + Sync {
    /// Appends entries in order, all of them or none; the number of the last. Numbers grow by one, and are never used again.
    fn append(&self, entries: &[JournalEntry<'_>]) -> Result<u64, StoreError>;

    /// Puts a snapshot in the place of the last one, and forgets the entries up to number `last`, which it covers.
    fn put_snapshot(&self, last: u64, state: &[u8]) -> Result<(), StoreError>;

    /// The last snapshot, and the number of the last entry that it covers.
    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// Hands on the entries after number `after` in order, each with its number, until `each` returns false.
    fn replay(&self, after: u64, each: &mut dyn FnMut(u64, JournalEntry<'_>) -> bool) -> Result<(), StoreError>;

    /// How large it is, in bytes.
    fn size(&self) -> Result<u64, StoreError>;
}

/// Something that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry<'a> {
    /// When.
    pub received: Timestamp,
    /// What form the body has.
    pub format: &'a str,
    /// What tells it from others: an entry that was sent again has the same.
    pub key: Option<[u8; 16]>,
    /// The thing itself.
    pub body: &'a [u8],
}
