use std::hash::Hasher;

use agent_sre::otel::Request;
use agent_sre::{Format, JournalEntry, StateError, StateReader, StateWriter, Timestamp};
use bytes::Bytes;
use siphasher::sip128::{Hasher128, SipHasher13};

/// What tells a request from others: one that is sent again has the same.
pub(crate) type Key = [u8; 16];

/// A request's body, read as far as that can be done without knowing what came before it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) received: Timestamp,
    pub(crate) key: Option<Key>,
    pub(crate) content: Content,
    /// The form in which the journal has it.
    body: Bytes,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// Spans and evaluations.
    Otlp(Request),
    /// A record a line.
    Lines(Format, Bytes),
}

/// How the journal calls requests that were read already.
const READ_OTLP: &str = "otlp-read";

impl Batch {
    pub(crate) fn otlp(request: Request, key: Option<Key>, received: Timestamp) -> Result<Self, StateError> {
        let mut state = StateWriter::default();
        state.put(&request);
        Ok(Self { received, key, content: Content::Otlp(request), body: state.finish()?.into() })
    }

    pub(crate) fn lines(format: Format, text: Bytes, key: Option<Key>, received: Timestamp) -> Self {
        Self { received, key, content: Content::Lines(format, text.clone()), body: text }
    }

    pub(crate) fn entry(&self) -> JournalEntry<'_> {
        let format = match &self.content {
            Content::Otlp(_) => READ_OTLP,
            Content::Lines(format, _) => format.as_str(),
        };
        JournalEntry { received: self.received, format, key: self.key, body: &self.body }
    }

    pub(crate) fn from_entry(entry: &JournalEntry<'_>) -> Result<Self, StateError> {
        let JournalEntry { received, format, key, body } = *entry;
        if format == READ_OTLP {
            let request = StateReader::new(body).take()?;
            return Ok(Self { received, key, content: Content::Otlp(request), body: Bytes::new() });
        }
        let format = format.parse().map_err(|error| StateError::new(format!("{error}")))?;
        Ok(Self::lines(format, Bytes::copy_from_slice(body), key, received))
    }

    /// How much memory it takes, about.
    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }
}

/// The key of something that is made of these parts.
pub(crate) fn key_of(parts: &[&[u8]]) -> Key {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish128().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gives_back_what_it_was_given() {
        let body = br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},
            "scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"n",
            "startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000002000000000","attributes":[
            {"key":"gen_ai.operation.name","value":{"stringValue":"chat"}}]}]}]}]}"#;
        let received = Timestamp::from_secs(7);
        let batches = [
            Batch::otlp(Request::read(body).unwrap(), Some(key_of(&[body])), received).unwrap(),
            Batch::lines(Format::Sre, Bytes::from_static(b"{}\n"), None, received),
        ];
        for batch in batches {
            let again = Batch::from_entry(&batch.entry()).unwrap();
            assert_eq!((again.received, again.key), (batch.received, batch.key));
            assert_eq!(format!("{:?}", again.content), format!("{:?}", batch.content));
        }
        let unknown = JournalEntry { received, format: "fax", key: None, body: b"" };
        assert!(Batch::from_entry(&unknown).is_err());
    }
}
