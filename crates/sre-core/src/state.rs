use serde::Serialize;
use serde::de::DeserializeOwned;

/// Serializes state that must survive a restart.
///
/// Values are written one after the other in the format of [postcard](https://postcard.jamesmunns.com), which is not
/// self-describing: they must be read with the same types in the same order. A part that may change, or be removed
/// later, is a [`section`](Self::section).
///
/// The next version of a program reads the state of this one. A value whose type changes therefore goes into a section
/// with another name, and the reader supports both. New variants of an enum are added at its end only.
///
/// ```
/// use sre_core::{StateReader, StateWriter};
/// let mut state = StateWriter::default();
/// state.put(&7_u64);
/// state.section("names", |names| names.put(&["a", "b"]));
/// let bytes = state.finish().unwrap();
///
/// let mut state = StateReader::new(&bytes);
/// assert_eq!(state.take::<u64>().unwrap(), 7);
/// let (name, mut names) = state.section().unwrap();
/// assert_eq!((name, names.take::<[String; 2]>().unwrap()), ("names", ["a".to_owned(), "b".to_owned()]));
/// ```
#[derive(Debug, Default)]
pub struct StateWriter {
    bytes: Vec<u8>,
    failure: Option<postcard::Error>,
}

/// Reads state written by a [`StateWriter`].
#[derive(Clone, Copy, Debug)]
pub struct StateReader<'a>(&'a [u8]);

/// The error of saving or restoring state.
#[derive(Debug, thiserror::Error)]
#[error("invalid saved state: {0}")]
pub struct StateError(String);

impl StateError {
    /// Creates an error; `found` describes the invalid state.
    pub fn new(found: impl Into<String>) -> Self {
        Self(found.into())
    }
}

impl From<postcard::Error> for StateError {
    fn from(error: postcard::Error) -> Self {
        Self(format!("unexpected data ({error})"))
    }
}

impl StateWriter {
    /// Writes a value.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) {
        match postcard::to_extend(value, std::mem::take(&mut self.bytes)) {
            Ok(bytes) => self.bytes = bytes,
            Err(error) => self.failure = Some(error),
        }
    }

    /// Writes a named part, which a reader may skip. The part is written in place, without a copy of its own.
    pub fn section(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.put(name);
        let start = self.bytes.len();
        write(self);
        if self.failure.is_some() {
            return;
        }
        // Its length comes first.
        match postcard::to_stdvec(&(self.bytes.len() - start)) {
            Ok(length) => drop(self.bytes.splice(start..start, length)),
            Err(error) => self.failure = Some(error),
        }
    }

    /// Makes room for `bytes` more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// Returns the number of bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes, or an error if a value could not be serialized.
    pub fn finish(self) -> Result<Vec<u8>, StateError> {
        self.failure.map_or(Ok(self.bytes), |error| Err(error.into()))
    }
}

impl<'a> StateReader<'a> {
    /// Creates a reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads the next value.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, StateError> {
        let (value, rest) = postcard::take_from_bytes(self.0)?;
        self.0 = rest;
        Ok(value)
    }

    /// Reads the next part and its name.
    pub fn section(&mut self) -> Result<(&'a str, Self), StateError> {
        let ((name, section), rest) = postcard::take_from_bytes::<(&str, &[u8])>(self.0)?;
        self.0 = rest;
        Ok((name, Self(section)))
    }

    /// Returns the remaining parts with their names.
    pub fn sections(mut self) -> impl Iterator<Item = Result<(&'a str, Self), StateError>> {
        std::iter::from_fn(move || (!self.is_empty()).then(|| self.section().inspect_err(|_| self.0 = &[])))
    }

    /// Returns whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_names_and_bytes_with_their_lengths() {
        let mut state = StateWriter::default();
        state.put(&7_u8);
        state.section("outer", |state| {
            state.section("inner", |state| state.put(&vec![1_u8; 200]));
            state.section("empty", |_| {});
        });
        let value = postcard::to_stdvec(&vec![1_u8; 200]).unwrap();
        let inner = postcard::to_stdvec(&("inner", value)).unwrap();
        let empty = postcard::to_stdvec(&("empty", Vec::<u8>::new())).unwrap();
        let expected = postcard::to_stdvec(&(7_u8, "outer", [inner, empty].concat())).unwrap();
        assert_eq!(state.finish().unwrap(), expected);
    }
}
