use std::any::Any;

use bytes::Bytes;

use super::AdapterError;
use crate::names::names;

/// The body of a request, as received or decoded.
#[derive(Debug)]
pub struct Body {
    /// What the bytes hold.
    pub kind: BodyKind,
    /// The bytes, decompressed.
    pub bytes: Bytes,
    decoded: Option<Box<dyn Any + Send>>,
    /// Size of the decoded value in memory, in bytes.
    decoded_size: usize,
}

/// What the bytes of a body hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyKind {
    /// One record per line.
    #[default]
    Lines,
    /// One OTLP export request of traces, in protobuf or JSON.
    Traces,
    /// One OTLP export request of logs, in protobuf or JSON.
    Logs,
    /// The result of a [`Decoder`], in a form that only its adapter reads. A later version of the adapter reads it too.
    Decoded,
}

/// Decodes a body as far as that does not depend on the adapter's state; an error if the body is not of its format.
///
/// The result is of kind [`BodyKind::Decoded`]: its bytes hold the part that the adapter uses, which is what a journal
/// keeps, and the decoded value is attached, so that the adapter does not read the bytes again. Decoding such bytes, read
/// back from a journal, attaches the value again.
///
/// What a decoder allocates, the value and its bytes, is limited by [`Body::max_decoded_size`]; a body that would take
/// more is an [`AdapterError::TooLarge`].
pub type Decoder = fn(Body) -> Result<Body, AdapterError>;

impl Body {
    /// Returns a body that is not decoded yet.
    pub fn new(kind: BodyKind, bytes: impl Into<Bytes>) -> Self {
        Self { kind, bytes: bytes.into(), decoded: None, decoded_size: 0 }
    }

    /// Returns the result of a [`Decoder`]: a value, and the bytes from which it can be decoded again.
    pub fn decoded<T: Send + 'static>(bytes: impl Into<Bytes>, value: T) -> Self {
        Self { kind: BodyKind::Decoded, bytes: bytes.into(), decoded: Some(Box::new(value)), decoded_size: 0 }
    }

    /// Sets the size of the decoded value in memory, in bytes.
    #[must_use]
    pub fn with_decoded_size(self, bytes: usize) -> Self {
        Self { decoded_size: bytes, ..self }
    }

    /// Returns how much memory a [`Decoder`] may take for a body of `bytes` bytes, beside the body: three times its size
    /// and 1 MiB.
    pub const fn max_decoded_size(bytes: usize) -> usize {
        bytes.saturating_mul(3).saturating_add(1 << 20)
    }

    /// Returns the size in memory, in bytes: that of the bytes and of the decoded value.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.decoded_size
    }

    /// Takes the decoded value: `None` if there is none of this type, or it was taken already.
    pub fn take_decoded<T: 'static>(&mut self) -> Option<T> {
        self.decoded.take()?.downcast().ok().map(|decoded| *decoded)
    }
}

names! {
    /// Every kind.
    BodyKind { Lines: "lines", Traces: "traces", Logs: "logs", Decoded: "decoded" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_by_its_name() {
        for kind in BodyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("fax".parse::<BodyKind>().is_err());
    }

    #[test]
    fn a_decoded_value_is_taken_once_and_only_as_its_type() {
        let mut body = Body::decoded("x", 7_u32).with_decoded_size(4);
        assert_eq!(body.size(), 5);
        assert_eq!((body.take_decoded::<u32>(), body.take_decoded::<u32>()), (Some(7), None));
        assert_eq!(Body::decoded("x", 7_u32).take_decoded::<u64>(), None);
    }
}
