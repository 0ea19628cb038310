use std::io;

use bytes::Bytes;
use memmap2::MmapMut;

/// Collects a body. A large one is in pages of its own, which the system gets back as soon as the body is dropped: an
/// allocator keeps what is freed for a while, and many large bodies at once would take several times their permitted memory.
pub(crate) struct BodyBuffer {
    small: Vec<u8>,
    large: Option<Pages>,
    /// Maximum size, in bytes.
    max: usize,
}

/// Anonymous memory, of which only what was written to is resident.
struct Pages {
    map: MmapMut,
    length: usize,
}

/// Size from which a body has pages of its own, in bytes.
const LARGE: usize = 1 << 20;

impl BodyBuffer {
    /// Creates a buffer for a body of at most `max` bytes, which is expected to have `expected` bytes.
    pub(crate) fn new(expected: usize, max: usize) -> io::Result<Self> {
        let mut buffer = Self { small: Vec::new(), large: None, max };
        match expected.min(max) {
            expected if expected >= LARGE => buffer.large = Some(Pages::new(max)?),
            expected => buffer.small.reserve_exact(expected),
        }
        Ok(buffer)
    }

    pub(crate) fn len(&self) -> usize {
        self.large.as_ref().map_or(self.small.len(), |pages| pages.length)
    }

    /// Appends data; an error if there is no memory, or if the body becomes larger than the maximum.
    pub(crate) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        if self.large.is_none() && self.small.len() + data.len() >= LARGE.min(self.max) {
            let mut pages = Pages::new(self.max)?;
            pages.append(&std::mem::take(&mut self.small))?;
            self.large = Some(pages);
        }
        match &mut self.large {
            Some(pages) => pages.append(data),
            None => {
                self.small.extend_from_slice(data);
                Ok(())
            }
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self.large {
            Some(pages) => Bytes::from_owner(pages),
            None => self.small.into(),
        }
    }
}

impl Pages {
    fn new(max: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(max.max(1))?, length: 0 })
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let room = self.map.get_mut(self.length..self.length + data.len());
        room.ok_or(io::ErrorKind::FileTooLarge)?.copy_from_slice(data);
        self.length += data.len();
        Ok(())
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.map[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_is_what_was_appended(
            parts in prop::collection::vec(0..700_000_usize, 0..6), expected in 0..3_000_000_usize,
        ) {
            let all: Vec<u8> = (0..parts.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
            let mut buffer = BodyBuffer::new(expected, all.len().max(expected)).unwrap();
            let mut rest = &all[..];
            for part in parts {
                let (data, after) = rest.split_at(part);
                buffer.append(data).unwrap();
                rest = after;
            }
            prop_assert_eq!(buffer.len(), all.len());
            prop_assert!(buffer.into_bytes() == all);
        }
    }

    #[test]
    fn more_than_the_maximum_is_an_error() {
        let mut buffer = BodyBuffer::new(0, 5).unwrap();
        buffer.append(b"12345").unwrap();
        assert_eq!(buffer.append(b"6").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(buffer.into_bytes(), "12345");
    }
}
