use std::time::Duration;

use sre_core::Timestamp;

/// A time to wait for. If the clock is set back to before the wait began, the wait ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    set_at: Timestamp,
    pub(super) at: Timestamp,
}

impl Deadline {
    pub(super) fn after(now: Timestamp, wait: Duration) -> Self {
        Self { set_at: now, at: now.saturating_add(wait) }
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.at || now < self.set_at
    }
}

/// The number of consecutive failures, and when to retry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    pub(super) failures: u32,
    pub(super) until: Option<Deadline>,
}

impl Backoff {
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until.is_over(now))
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}
