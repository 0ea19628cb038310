use crate::sync::{AtomicU64, Ordering, thread_number};

/// Counts of good calls, a cell for each thread, so that counting costs one write to memory that no other thread touches.
///
/// A cell holds its [`Tag`] beside the count, in one word: the tag says to which state, which slot of time and which mode
/// the count belongs. Whoever holds the breaker's lock turns all cells to another tag and takes their counts; a call that
/// comes with a tag that is over finds that out by its own write, and takes the lock. So no call is counted for a state it
/// did not begin in, and none is lost between two.
#[derive(Debug)]
pub(crate) struct StripedCounter([Stripe; STRIPES]);

#[cfg(not(sre_loom))]
const STRIPES: usize = 8;
#[cfg(sre_loom)]
const STRIPES: usize = 2;

/// A cache line of its own (two, for prefetched pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(AtomicU64);

/// What a count belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const SLOT_BITS: u32 = 27;
const GENERATION_BITS: u32 = 12;

impl Tag {
    /// `watched` where each call must be judged under the lock. The numbers are cut to their lowest bits: it takes 4,096
    /// changes of state during one call, in a slot of the same number, for one to be taken for another.
    pub(crate) fn new(generation: u32, slot: u64, watched: bool) -> Self {
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        let slot = slot & ((1 << SLOT_BITS) - 1);
        Self((((generation << SLOT_BITS) | slot) << 1 | u64::from(watched)) << COUNT_BITS)
    }
}

impl StripedCounter {
    pub(crate) fn new(tag: Tag) -> Self {
        Self(std::array::from_fn(|_| Stripe(AtomicU64::new(tag.0))))
    }

    /// Counts one call in the calling thread's cell; false where the cell belongs to something else, or is full.
    #[inline]
    pub(crate) fn add(&self, tag: Tag) -> bool {
        let stripe = &self.0[thread_number() % STRIPES].0;
        let mut found = stripe.load(Ordering::Relaxed);
        loop {
            if found & !COUNT != tag.0 || found & COUNT == COUNT {
                return false;
            }
            match stripe.compare_exchange_weak(found, found + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => found = now,
            }
        }
    }

    /// Turns every cell to `tag`, and takes what they had counted. Only for who holds the lock.
    pub(crate) fn transition(&self, tag: Tag) -> u64 {
        self.0.iter().map(|stripe| stripe.0.swap(tag.0, Ordering::AcqRel) & COUNT).sum()
    }
}
