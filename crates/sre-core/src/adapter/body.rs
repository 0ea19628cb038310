use std::any::Any;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::AdapterError;

/// What a client sent at once, as it came, and what was read of it already.
#[derive(Debug)]
pub struct Body {
    /// What the bytes hold.
    pub kind: BodyKind,
    /// The bytes, decompressed.
    pub bytes: Bytes,
    decoded: Option<Box<dyn Any + Send>>,
}

/// What the bytes of a body hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyKind {
    /// A record a line.
    #[default]
    Lines,
    /// One OTLP export request of traces, in protobuf or JSON.
    Traces,
    /// One OTLP export request of logs, in protobuf or JSON.
    Logs,
}

/// Reads a body as far as that needs nothing of the adapter's state; an error where it is not of its format. An adapter
/// that has one ([`Adapter::decoder`](super::Adapter::decoder)) takes the result in without reading it again.
pub type Decoder = fn(Body) -> Result<Body, AdapterError>;

/// A text that names no kind of body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, expected lines, traces or logs")]
pub struct UnknownBodyKind {
    found: String,
}

impl Body {
    /// Returns a body of which nothing was read yet.
    pub fn new(kind: BodyKind, bytes: impl Into<Bytes>) -> Self {
        Self { kind, bytes: bytes.into(), decoded: None }
    }

    /// Adds what was read of it.
    #[must_use]
    pub fn with_decoded<T: Send + 'static>(self, decoded: T) -> Self {
        Self { decoded: Some(Box::new(decoded)), ..self }
    }

    /// Returns what was read of it, once.
    pub fn take_decoded<T: 'static>(&mut self) -> Option<T> {
        self.decoded.take()?.downcast().ok().map(|decoded| *decoded)
    }
}

impl BodyKind {
    const ALL: [(Self, &str); 3] = [(Self::Lines, "lines"), (Self::Traces, "traces"), (Self::Logs, "logs")];
}

impl fmt::Display for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for BodyKind {
    type Err = UnknownBodyKind;

    fn from_str(name: &str) -> Result<Self, UnknownBodyKind> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known.map(|(kind, _)| *kind).ok_or_else(|| UnknownBodyKind { found: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_by_its_name() {
        for (kind, name) in BodyKind::ALL {
            assert_eq!((kind.to_string().as_str(), name.parse()), (name, Ok(kind)));
        }
        assert!("fax".parse::<BodyKind>().is_err());
    }

    #[test]
    fn what_was_read_is_handed_out_once_and_only_as_what_it_is() {
        let mut body = Body::new(BodyKind::Lines, "x").with_decoded(7_u32);
        assert_eq!((body.take_decoded::<u32>(), body.take_decoded::<u32>()), (Some(7), None));
        assert_eq!(Body::new(BodyKind::Lines, "x").with_decoded(7_u32).take_decoded::<u64>(), None);
    }
}
