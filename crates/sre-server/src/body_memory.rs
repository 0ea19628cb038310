use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::private::lock;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::ServerLimits;
use crate::body_buffer::{BodyBuffer, PagePool};

/// The memory for request bodies and the records decoded from them, a part of `max_in_flight`.
///
/// Memory is reserved as data arrives. A part is reserved for small requests, so that large ones do not refuse
/// them. If there is not enough, bodies that have stalled give theirs up, so that a few of them cannot block all clients.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    /// In KiB.
    free: Arc<Semaphore>,
    /// For requests of at most [`SMALL`], in KiB.
    reserved: Arc<Semaphore>,
    /// What large requests may take in all, in bytes.
    total: usize,
    arriving: Mutex<BTreeMap<u64, Arc<Arrival>>>,
    next: AtomicU64,
    pages: Arc<PagePool>,
}

/// A body that is arriving.
#[derive(Debug)]
struct Arrival {
    state: Mutex<ArrivalState>,
    /// Notified when the body must give up its memory.
    revoked: Notify,
}

#[derive(Debug)]
struct ArrivalState {
    bytes: usize,
    /// When it last had a whole step more, and its size then. A trickle does not count as progress.
    last: Instant,
    bytes_then: usize,
}

/// Acquired memory, released when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    memory: Arc<BodyMemory>,
    held: OwnedSemaphorePermit,
    /// The part that is from the reserve.
    reserved: OwnedSemaphorePermit,
    /// Acquired bytes that are not used yet.
    unused: usize,
}

/// The part of a [`BodyMemory`] that an arriving body takes.
pub(crate) struct ArrivalGuard {
    memory: Arc<BodyMemory>,
    number: u64,
    arrival: Arc<Arrival>,
}

/// Other requests have taken the memory.
#[derive(Debug)]
pub(crate) struct OutOfMemory;

/// Memory is acquired in steps of this size, in bytes.
const STEP: usize = 64 << 10;
/// A request that needs at most this, with its records, may use the reserve, in bytes.
const SMALL: usize = 2 << 20;
/// A body of which less than a step has arrived in this time may lose its memory to another.
const STALLED: Duration = Duration::from_secs(1);
/// Time to wait for the memory of a stalled body before evicting another one.
const REVOCATION_TIMEOUT: Duration = Duration::from_millis(100);

impl BodyMemory {
    pub(crate) fn of(limits: &ServerLimits) -> Arc<Self> {
        Self::new(limits.bodies_in_flight(), limits.reserved_in_flight())
    }

    /// Creates a memory of `bytes` bytes, of which `reserved` are for small requests.
    fn new(bytes: usize, reserved: usize) -> Arc<Self> {
        let semaphore = |bytes: usize| Arc::new(Semaphore::new((bytes >> 10).min(Semaphore::MAX_PERMITS)));
        let total = bytes - reserved;
        let (free, reserved) = (semaphore(total), semaphore(reserved));
        let (arriving, next, pages) = (Mutex::default(), AtomicU64::default(), Arc::default());
        Arc::new(Self { free, reserved, total, arriving, next, pages })
    }

    pub(crate) fn permit(self: &Arc<Self>) -> MemoryPermit {
        let none =
            |of: &Arc<Semaphore>| of.clone().try_acquire_many_owned(0).expect("zero permits are always available");
        MemoryPermit { memory: self.clone(), held: none(&self.free), reserved: none(&self.reserved), unused: 0 }
    }

    /// Waits for memory, on a thread that may block. More than there is in all counts as all.
    pub(crate) fn wait_for(self: &Arc<Self>, bytes: usize) -> MemoryPermit {
        let mut permit = self.permit();
        let permits = u32::try_from((bytes >> 10).min(self.total >> 10)).unwrap_or(u32::MAX);
        let waiting = self.free.clone().acquire_many_owned(permits);
        permit.held = tokio::runtime::Handle::current().block_on(waiting).expect("the semaphore is never closed");
        permit
    }

    pub(crate) fn arrival(self: &Arc<Self>) -> ArrivalGuard {
        let state = Mutex::new(ArrivalState { bytes: 0, last: Instant::now(), bytes_then: 0 });
        let arrival = Arc::new(Arrival { state, revoked: Notify::new() });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.arriving).insert(number, arrival.clone());
        ArrivalGuard { memory: self.clone(), number, arrival }
    }

    /// Makes the stalled body with the most memory give it up. Returns false if there is none.
    fn revoke_stalled(&self) -> bool {
        let now = Instant::now();
        let mut arriving = lock(&self.arriving);
        let stalled = arriving.iter().filter_map(|(number, arrival)| {
            let state = lock(&arrival.state);
            (state.bytes > 0 && now.duration_since(state.last) >= STALLED).then_some((state.bytes, *number))
        });
        let Some(arrival) = stalled.max().and_then(|(_, number)| arriving.remove(&number)) else { return false };
        arrival.revoked.notify_one();
        true
    }
}

impl MemoryPermit {
    /// Returns a buffer for a body of at most `max` bytes, which is expected to have `expected` bytes.
    pub(crate) fn buffer(&self, expected: usize, max: usize) -> io::Result<BodyBuffer> {
        BodyBuffer::new(expected, max, &self.memory.pages)
    }

    /// Acquires memory for `bytes` more bytes.
    pub(crate) async fn acquire(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if bytes <= self.unused {
            self.unused -= bytes;
            return Ok(());
        }
        let wanted = (bytes - self.unused).div_ceil(STEP) * STEP;
        let permits = u32::try_from(wanted >> 10).map_err(|_| OutOfMemory)?;
        let free = &self.memory.free;
        let more = loop {
            if let Ok(more) = free.clone().try_acquire_many_owned(permits) {
                break more;
            }
            if self.size() + wanted <= SMALL
                && let Ok(more) = self.memory.reserved.clone().try_acquire_many_owned(permits)
            {
                self.reserved.merge(more);
                self.unused = self.unused + wanted - bytes;
                return Ok(());
            }
            if !self.memory.revoke_stalled() {
                return Err(OutOfMemory);
            }
            let waiting = free.clone().acquire_many_owned(permits);
            // Others may have taken it, or it was not enough.
            if let Ok(Ok(more)) = tokio::time::timeout(REVOCATION_TIMEOUT, waiting).await {
                break more;
            }
        };
        self.held.merge(more);
        self.unused = self.unused + wanted - bytes;
        Ok(())
    }

    /// Releases what is held beyond `bytes` bytes, of the reserve first.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let mut excess = (self.size() >> 10).saturating_sub(bytes.div_ceil(1 << 10));
        for part in [&mut self.reserved, &mut self.held] {
            let released = excess.min(part.num_permits());
            drop(part.split(released));
            excess -= released;
        }
        self.unused = 0;
    }

    /// Returns how much is held, in bytes.
    fn size(&self) -> usize {
        (self.held.num_permits() + self.reserved.num_permits()) << 10
    }
}

impl ArrivalGuard {
    /// Notes that `bytes` bytes have arrived in all.
    pub(crate) fn received(&self, bytes: usize) {
        let mut state = lock(&self.arrival.state);
        state.bytes = bytes;
        if bytes - state.bytes_then >= STEP {
            (state.last, state.bytes_then) = (Instant::now(), bytes);
        }
    }

    /// Waits until the body must give up its memory.
    pub(crate) async fn revoked(&self) {
        self.arrival.revoked.notified().await;
    }
}

impl Drop for ArrivalGuard {
    fn drop(&mut self) {
        lock(&self.memory.arriving).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_requests_leave_the_reserve_to_small_ones() {
        let memory = BodyMemory::new(8 << 20, 2 << 20);
        let mut large = memory.permit();
        large.acquire(6 << 20).await.unwrap();
        large.acquire(1).await.unwrap_err();
        let mut small = memory.permit();
        small.acquire(100).await.unwrap();
        small.acquire(1 << 20).await.unwrap();
        assert!(small.acquire(1 << 20).await.is_err(), "it is no longer small");
        assert_eq!(small.size(), (1 << 20) + STEP);
        small.shrink_to(100);
        assert_eq!((small.size(), memory.reserved.available_permits()), (1 << 10, (2 << 10) - 1));
        drop((large, small));
        assert_eq!((memory.free.available_permits(), memory.reserved.available_permits()), (6 << 10, 2 << 10));
    }
}
