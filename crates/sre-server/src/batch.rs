use agent_sre::adapter::{AdapterError, Body, BodyKind};
use agent_sre::private::stable_hash;
use agent_sre::{Format, JournalEntry, StateError, Timestamp};
use bytes::Bytes;

use crate::body_memory::MemoryPermit;
use crate::shared::Shared;

/// Identifies a request: a retry has the same key.
pub(crate) type Key = [u8; 16];

/// The format of a journal's entry that is no batch, but a time of the service.
const TIME: &str = "time";

/// Returns the journal's entry of a time of the service.
pub(crate) fn time_entry(time: Timestamp) -> JournalEntry<'static> {
    JournalEntry::new(time, TIME, None, b"")
}

/// Returns the time of the service that an entry holds; `None` if it is a batch.
pub(crate) fn time_of(entry: &JournalEntry<'_>) -> Option<Timestamp> {
    (entry.format == TIME).then_some(entry.received)
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Batch {
    /// When it was written to the journal, by the service's time.
    pub(crate) received: Timestamp,
    pub(crate) key: Option<Key>,
    pub(crate) format: Format,
    pub(crate) body: Body,
    /// The format and kind of the body, as in the journal: `sre`, `otlp/traces`.
    label: String,
    /// The memory of the body, which is released once the batch is processed.
    memory: Option<MemoryPermit>,
}

impl Batch {
    /// Creates a batch that is not in the journal yet.
    pub(crate) fn new(format: Format, body: Body, key: Option<Key>) -> Self {
        let label = match body.kind {
            BodyKind::Lines => format.to_string(),
            kind => format!("{format}/{kind}"),
        };
        Self { received: Timestamp::default(), key, format, body, label, memory: None }
    }

    /// Holds this memory until the batch is dropped.
    pub(crate) fn with_memory(self, permit: MemoryPermit) -> Self {
        Self { memory: Some(permit), ..self }
    }

    /// Decodes the body as far as that does not depend on earlier batches.
    pub(crate) fn decode(self, shared: &Shared) -> Result<Self, AdapterError> {
        let body = shared.decode(self.format, self.body)?;
        let Self { received, memory, .. } = self;
        Ok(Self { received, memory, ..Self::new(self.format, body, self.key) })
    }

    pub(crate) fn entry(&self) -> JournalEntry<'_> {
        JournalEntry::new(self.received, &self.label, self.key, &self.body.bytes)
    }

    pub(crate) fn from_entry(entry: &JournalEntry<'_>) -> Result<Self, StateError> {
        let JournalEntry { received, format, key, body, .. } = *entry;
        let (format, kind) = match format.split_once('/') {
            Some((format, kind)) => (format, kind.parse().map_err(|error| StateError::new(format!("{error}")))?),
            None => (format, BodyKind::Lines),
        };
        let format = format.parse().map_err(|error| StateError::new(format!("{error}")))?;
        Ok(Self { received, ..Self::new(format, Body::new(kind, Bytes::copy_from_slice(body)), key) })
    }

    /// Returns the size of the journal's entry, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.body.bytes.len()
    }

    /// Returns the approximate memory that the batch takes until it is processed, in bytes, with the journal's copy.
    pub(crate) fn memory_size(&self) -> usize {
        self.body.size() + self.body.bytes.len()
    }
}

/// Returns a key for the concatenation of parts.
pub(crate) fn key_of(parts: &[&[u8]]) -> Key {
    stable_hash(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_entry_becomes_the_same_batch_again() {
        let received = Timestamp::from_secs(7);
        let format = |name: &str| name.parse::<Format>().unwrap();
        let batches = [
            Batch::new(format("otlp"), Body::new(BodyKind::Logs, "{}"), Some(key_of(&[b"{}"]))),
            Batch::new(format("sre"), Body::new(BodyKind::Lines, "{}\n"), None),
        ];
        for batch in batches {
            let batch = Batch { received, ..batch };
            let again = Batch::from_entry(&batch.entry()).unwrap();
            assert_eq!((again.received, again.key, again.format), (batch.received, batch.key, batch.format));
            assert_eq!((again.body.kind, again.body.bytes), (batch.body.kind, batch.body.bytes));
        }
        for unknown in ["fax", "otlp/fax", TIME] {
            assert!(Batch::from_entry(&JournalEntry::new(received, unknown, None, b"")).is_err());
        }
        assert_eq!(time_of(&time_entry(received)), Some(received));
    }
}
