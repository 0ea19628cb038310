use std::num::NonZeroU64;
use std::sync::Arc;

use sre_core::{BreakerChange, Clock, SignalSink, Timestamp};

use crate::{BreakerConfig, SlidingWindow};

/// Configuration, clock and listener of a breaker. All breakers of one kind in a detector share one value.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: BreakerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listener: Option<Arc<dyn BreakerListener>>,
    /// Width of a time bucket in nanoseconds; `None` without a time-based window.
    bucket_width: Option<NonZeroU64>,
}

/// Receives failures and state transitions. Called after the breaker's lock is released.
pub(crate) trait BreakerListener: Send + Sync {
    fn on_failure(&self, _id: u32, _at: Timestamp) {}

    fn on_change(&self, id: u32, at: Timestamp, change: BreakerChange);
}

/// Sends state transitions as signals.
pub(crate) struct SignalSender(pub(crate) Arc<dyn SignalSink>);

impl Settings {
    pub(crate) fn new(
        config: BreakerConfig,
        clock: Arc<dyn Clock>,
        listener: Option<Arc<dyn BreakerListener>>,
    ) -> Self {
        let bucket_width = config.window.as_ref().and_then(SlidingWindow::bucket_width);
        Self { config, clock, listener, bucket_width }
    }

    /// Returns the number of the time bucket that contains `now`, which is only evaluated for a time-based window. Other
    /// windows have a single bucket, 0.
    #[inline]
    pub(crate) fn bucket_at(&self, now: impl FnOnce(&dyn Clock) -> Timestamp) -> u64 {
        self.bucket_width.map_or(0, |width| now(&*self.clock).as_nanos().max(0).unsigned_abs() / width)
    }
}

impl BreakerListener for SignalSender {
    fn on_change(&self, _id: u32, at: Timestamp, change: BreakerChange) {
        self.0.send(change.into_signal(at));
    }
}
