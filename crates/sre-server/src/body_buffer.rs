use std::io;
use std::sync::{Arc, Mutex};

use agent_sre::private::lock;
use bytes::Bytes;
use memmap2::MmapMut;

/// Collects a body. A large one is in pages of its own, which the system gets back as soon as the body is dropped: an
/// allocator keeps what is freed for a while, and many large bodies at once would take several times their permitted memory.
pub(crate) struct BodyBuffer {
    small: Vec<u8>,
    large: Option<Pages>,
    /// Maximum size, in bytes.
    max: usize,
    pool: Arc<PagePool>,
}

/// Pages of bodies that were dropped, for the next ones: to get new pages from the system for each body takes longer than to read it.
#[derive(Debug, Default)]
pub(crate) struct PagePool(Mutex<Vec<MmapMut>>);

/// Anonymous memory, of which only what was written to is resident.
struct Pages {
    /// `None` once it is dropped.
    map: Option<MmapMut>,
    length: usize,
    pool: Arc<PagePool>,
}

/// Size from which a body has pages of its own, in bytes.
const LARGE: usize = 1 << 20;
/// Number of bodies whose pages are kept, and the size of the largest of them, in bytes.
const MAX_POOLED: usize = 4;
const MAX_POOLED_BODY: usize = 2 << 20;

impl BodyBuffer {
    /// Creates a buffer for a body of at most `max` bytes, which is expected to have `expected` bytes.
    pub(crate) fn new(expected: usize, max: usize, pool: &Arc<PagePool>) -> io::Result<Self> {
        let mut buffer = Self { small: Vec::new(), large: None, max, pool: pool.clone() };
        match expected.min(max) {
            expected if expected >= LARGE => buffer.large = Some(Pages::new(max, pool)?),
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
            let mut pages = Pages::new(self.max, &self.pool)?;
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

impl PagePool {
    fn take(&self, size: usize) -> Option<MmapMut> {
        lock(&self.0).pop().filter(|map| map.len() >= size)
    }

    fn put(&self, map: MmapMut) {
        let mut maps = lock(&self.0);
        if maps.len() < MAX_POOLED {
            maps.push(map);
        }
    }
}

impl Pages {
    fn new(max: usize, pool: &Arc<PagePool>) -> io::Result<Self> {
        let map = match pool.take(max) {
            Some(map) => map,
            None => MmapMut::map_anon(max.max(1))?,
        };
        Ok(Self { map: Some(map), length: 0, pool: pool.clone() })
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let end = self.length + data.len();
        let room = self.map.as_mut().and_then(|map| map.get_mut(self.length..end));
        room.ok_or(io::ErrorKind::FileTooLarge)?.copy_from_slice(data);
        self.length = end;
        Ok(())
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.length])
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length <= MAX_POOLED_BODY
            && let Some(map) = self.map.take()
        {
            self.pool.put(map);
        }
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
            let pool = Arc::default();
            // The second has the pages of the first, if those are kept.
            for _ in 0..2 {
                let mut buffer = BodyBuffer::new(expected, all.len().max(expected), &pool).unwrap();
                let mut rest = &all[..];
                for part in &parts {
                    let (data, after) = rest.split_at(*part);
                    buffer.append(data).unwrap();
                    rest = after;
                }
                prop_assert_eq!(buffer.len(), all.len());
                prop_assert!(buffer.into_bytes() == all);
            }
        }
    }

    #[test]
    fn more_than_the_maximum_is_an_error() {
        let mut buffer = BodyBuffer::new(0, 5, &Arc::default()).unwrap();
        buffer.append(b"12345").unwrap();
        assert_eq!(buffer.append(b"6").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(buffer.into_bytes(), "12345");
    }

    #[test]
    fn a_few_pages_of_small_size_are_kept() {
        let pool: Arc<PagePool> = Arc::default();
        let body = |length: usize| {
            let mut buffer = BodyBuffer::new(length, 16 << 20, &pool).unwrap();
            buffer.append(&vec![1; length]).unwrap();
            buffer.into_bytes()
        };
        drop([LARGE; 6].map(body));
        assert_eq!(lock(&pool.0).len(), MAX_POOLED);
        drop(body(MAX_POOLED_BODY + 1));
        assert_eq!(lock(&pool.0).len(), MAX_POOLED - 1, "the pages of a large body go back to the system");
    }
}
