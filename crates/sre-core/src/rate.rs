use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter as Governor};

use crate::{Clock, Timestamp};

/// Lets so many through at once, and after that one every so often: `governor`'s cell-rate limiter by our [`Clock`].
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
pub struct RateLimiter(Governor<NotKeyed, InMemoryState, Ours, NoOpMiddleware<Nanos>>);

impl RateLimiter {
    /// `burst` at once, then one every `every`; `None` where that is no time at all.
    pub fn new(every: Duration, burst: NonZeroU32, clock: Arc<dyn Clock>) -> Option<Self> {
        let quota = Quota::with_period(every)?.allow_burst(burst);
        Some(Self(Governor::direct_with_clock(quota, Ours(clock))))
    }

    /// Lets one through, or says how long to wait.
    pub fn check(&self) -> Result<(), Duration> {
        self.0.check().map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RateLimiter")
    }
}

/// Our clock as governor wants it.
#[derive(Clone)]
struct Ours(Arc<dyn Clock>);

impl GovernorClock for Ours {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.now().since(Timestamp::default()))
    }
}
