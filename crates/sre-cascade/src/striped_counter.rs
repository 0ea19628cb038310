use crate::sync::{AtomicU64, Ordering, thread_number};

/// Counts successes in stripes, one per thread, so that threads seldom write to the same cache line.
///
/// A stripe holds its [`Tag`] and its count in one word. The tag names the generation and the time bucket that the count
/// belongs to. The holder of the breaker's lock takes the counts by replacing the tag; a later [`add`](Self::add) with the old
/// tag fails, and that success is recorded under the lock. So no success counts for a state in which its call did not begin,
/// and none is lost.
#[derive(Debug)]
pub(crate) struct StripedCounter([Stripe; STRIPES]);

#[cfg(not(sre_loom))]
const STRIPES: usize = 8;
#[cfg(sre_loom)]
const STRIPES: usize = 2;

/// Aligned to two cache lines, since adjacent lines are prefetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(AtomicU64);

/// Identifies what a count belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const BUCKET_BITS: u32 = 27;
const GENERATION_BITS: u32 = 12;

impl Tag {
    /// Creates a tag. With `locked`, successes must be recorded under the lock.
    ///
    /// Only the lowest bits of the numbers are kept: two generations are confused after 4,096 state transitions during one
    /// call, if their buckets are equal too.
    pub(crate) fn new(generation: u32, bucket: u64, locked: bool) -> Self {
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        let bucket = bucket & ((1 << BUCKET_BITS) - 1);
        Self((((generation << BUCKET_BITS) | bucket) << 1 | u64::from(locked)) << COUNT_BITS)
    }
}

impl StripedCounter {
    pub(crate) fn new(tag: Tag) -> Self {
        Self(std::array::from_fn(|_| Stripe(AtomicU64::new(tag.0))))
    }

    /// Counts one success in the calling thread's stripe. Returns false if the stripe has another tag or is full.
    #[inline]
    pub(crate) fn add(&self, tag: Tag) -> bool {
        let stripe = &self.0[thread_number() % STRIPES].0;
        let mut current = stripe.load(Ordering::Relaxed);
        loop {
            if current & !COUNT != tag.0 || current & COUNT == COUNT {
                return false;
            }
            match stripe.compare_exchange_weak(current, current + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => current = changed,
            }
        }
    }

    /// Sets every stripe to `tag` with a count of 0, and returns the sum of the counts. Requires the breaker's lock.
    pub(crate) fn take(&self, tag: Tag) -> u64 {
        self.0.iter().map(|stripe| stripe.0.swap(tag.0, Ordering::AcqRel) & COUNT).sum()
    }
}
