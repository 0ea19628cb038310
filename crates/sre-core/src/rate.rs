use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter as Governor};

use crate::{Clock, Timestamp};

/// A rate limiter: admits a burst, then one event per interval (`governor`'s GCRA with a [`Clock`]).
///
/// ```
/// use std::{num::NonZeroU32, sync::Arc, time::Duration};
/// use sre_core::{ManualClock, RateLimiter};
/// let clock = Arc::new(ManualClock::default());
/// let limiter = RateLimiter::new(Duration::from_secs(1), NonZeroU32::MIN, clock.clone()).unwrap();
/// assert_eq!(limiter.check(), Ok(()));
/// assert_eq!(limiter.check(), Err(Duration::from_secs(1)));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(limiter.check(), Ok(()));
/// ```
pub struct RateLimiter(Governor<NotKeyed, InMemoryState, ClockAdapter, NoOpMiddleware<Nanos>>);

impl RateLimiter {
    /// Creates a limiter that admits `burst` events, then one per `interval`; `None` if the interval is zero.
    pub fn new(interval: Duration, burst: NonZeroU32, clock: Arc<dyn Clock>) -> Option<Self> {
        let quota = Quota::with_period(interval)?.allow_burst(burst);
        Some(Self(Governor::direct_with_clock(quota, ClockAdapter(clock))))
    }

    /// Admits an event.
    ///
    /// # Errors
    ///
    /// Returns how long to wait if the event is not admitted.
    pub fn check(&self) -> Result<(), Duration> {
        self.0.check().map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RateLimiter")
    }
}

/// Adapts a [`Clock`] to governor's trait.
#[derive(Clone)]
struct ClockAdapter(Arc<dyn Clock>);

impl GovernorClock for ClockAdapter {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.now().since(Timestamp::default()))
    }
}
