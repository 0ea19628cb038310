use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Numbers of good and bad events.
///
/// Exhaustive: an event that counts is either good or bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Good events.
    pub good: u64,
    /// Bad events.
    pub bad: u64,
}

impl Counts {
    /// Returns the number of all events.
    pub const fn total(self) -> u64 {
        self.good + self.bad
    }

    /// Returns the ratio of bad events; `None` without events.
    pub fn error_ratio(self) -> Option<f64> {
        (self.total() > 0).then(|| self.bad as f64 / self.total() as f64)
    }

    /// Returns the ratio of good events; `None` without events.
    pub fn success_ratio(self) -> Option<f64> {
        (self.total() > 0).then(|| self.good as f64 / self.total() as f64)
    }

    pub(super) const fn subtract(&mut self, other: Self) {
        self.good = self.good.saturating_sub(other.good);
        self.bad = self.bad.saturating_sub(other.bad);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.good += other.good;
        self.bad += other.bad;
    }
}
