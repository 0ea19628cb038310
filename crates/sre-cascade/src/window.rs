use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sre_core::WindowedCalls;

use crate::{SlidingWindow, WindowSize};

/// Exact counts over a sliding window: of the last N calls, or of the last 60 time buckets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum WindowCounts {
    Calls(CallRing),
    Time(BucketRing),
}

const BUCKETS: usize = 60;

impl SlidingWindow {
    /// Returns the width of a time bucket in nanoseconds; `None` for a window of calls.
    pub(crate) fn bucket_width(&self) -> Option<NonZeroU64> {
        match self.size {
            WindowSize::Calls(_) => None,
            WindowSize::Time(span) => {
                NonZeroU64::new(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) / BUCKETS as u64)
            }
        }
    }

    /// Returns how many calls the rates need: `minimum_calls`, but no more than the window holds.
    fn required_calls(&self) -> u64 {
        match self.size {
            WindowSize::Calls(calls) => u64::from(self.minimum_calls.min(calls)),
            WindowSize::Time(_) => u64::from(self.minimum_calls),
        }
    }

    /// Returns true when the next call may open the breaker even if it succeeds: it may complete the required calls, or the
    /// rates may exceed their thresholds since older successes left the window.
    pub(crate) fn success_may_open(&self, calls: WindowedCalls) -> bool {
        calls.failed + calls.slow > 0 && (calls.calls < self.required_calls() || self.exceeded_rate(calls).is_some())
    }

    /// Returns the reason to open the breaker, if these calls exceed a threshold.
    pub(crate) fn reason_to_open(&self, calls: WindowedCalls) -> Option<String> {
        let exceeded = if calls.calls < self.required_calls() { None } else { self.exceeded_rate(calls) };
        exceeded.map(|(count, what)| format!("{count} of the last {} calls {what}", calls.calls))
    }

    /// Returns the number of failed or slow calls, and how they ended, if their rate reaches its threshold.
    fn exceeded_rate(&self, calls: WindowedCalls) -> Option<(u64, &'static str)> {
        if calls.failure_rate() >= Some(self.failure_rate) {
            Some((calls.failed, "failed"))
        } else if self.slow_call.is_some() && calls.slow_call_rate() >= Some(self.slow_call_rate) {
            Some((calls.slow, "were slow"))
        } else {
            None
        }
    }

    /// Returns true for the duration of a slow call.
    pub(crate) fn is_slow(&self, duration: Option<Duration>) -> bool {
        self.slow_call.zip(duration).is_some_and(|(threshold, duration)| duration > threshold)
    }
}

impl WindowCounts {
    pub(crate) fn new(window: &SlidingWindow) -> Self {
        match window.size {
            WindowSize::Calls(calls) => Self::Calls(CallRing::new(calls as usize)),
            WindowSize::Time(_) => Self::Time(BucketRing::default()),
        }
    }

    /// Returns true for the counts of a window of this kind and size.
    pub(crate) fn is_of(&self, window: &SlidingWindow) -> bool {
        match (self, &window.size) {
            (Self::Calls(ring), WindowSize::Calls(calls)) => {
                let words = ring.size.div_ceil(64);
                ring.size == *calls as usize
                    && ring.next < ring.size
                    && [ring.failed.len(), ring.slow.len()] == [words; 2]
            }
            (Self::Time(ring), WindowSize::Time(_)) => ring.buckets.len() == BUCKETS,
            _ => false,
        }
    }

    pub(crate) fn clear(&mut self) {
        match self {
            Self::Calls(calls) => *calls = CallRing::new(calls.size),
            Self::Time(time) => time.buckets.fill(WindowedCalls::default()),
        }
    }

    /// Adds fast successes to the newest bucket.
    pub(crate) fn add_successes(&mut self, count: u64) {
        match self {
            Self::Calls(calls) => calls.add_successes(count),
            Self::Time(time) => time.newest().calls += count,
        }
    }

    /// Adds one call to the newest bucket.
    pub(crate) fn add(&mut self, failed: bool, slow: bool) {
        match self {
            Self::Calls(calls) => calls.add(failed, slow),
            Self::Time(time) => {
                let bucket = time.newest();
                bucket.calls += 1;
                bucket.failed += u64::from(failed);
                bucket.slow += u64::from(slow);
            }
        }
    }

    /// Makes `bucket` the newest one, dropping those that leave the window.
    pub(crate) fn advance(&mut self, bucket: u64) {
        if let Self::Time(time) = self {
            time.advance(bucket);
        }
    }

    pub(crate) fn counts(&self) -> WindowedCalls {
        match self {
            Self::Calls(calls) => calls.counts,
            Self::Time(time) => time.buckets.iter().fold(WindowedCalls::default(), |sum, bucket| {
                WindowedCalls::new(sum.calls + bucket.calls, sum.failed + bucket.failed, sum.slow + bucket.slow)
            }),
        }
    }
}

/// Two bits per call, failed and slow, in a ring that overwrites the oldest call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CallRing {
    size: usize,
    next: usize,
    failed: Box<[u64]>,
    slow: Box<[u64]>,
    counts: WindowedCalls,
}

impl CallRing {
    fn new(size: usize) -> Self {
        let bits = || vec![0; size.div_ceil(64)].into_boxed_slice();
        Self { size, next: 0, failed: bits(), slow: bits(), counts: WindowedCalls::default() }
    }

    fn add(&mut self, failed: bool, slow: bool) {
        let (word, bit) = (self.next / 64, 1 << (self.next % 64));
        self.add_successes(1);
        if failed {
            self.failed[word] |= bit;
            self.counts.failed += 1;
        }
        if slow {
            self.slow[word] |= bit;
            self.counts.slow += 1;
        }
    }

    /// Overwrites the `count` oldest calls with fast successes.
    fn add_successes(&mut self, count: u64) {
        if self.counts.failed + self.counts.slow > 0 {
            let overwritten = usize::try_from(count).map_or(self.size, |count| count.min(self.size));
            for index in (self.next..self.next + overwritten).map(|index| index % self.size) {
                let (word, bit) = (index / 64, 1 << (index % 64));
                self.counts.failed -= u64::from(self.failed[word] & bit != 0);
                self.counts.slow -= u64::from(self.slow[word] & bit != 0);
                self.failed[word] &= !bit;
                self.slow[word] &= !bit;
            }
        }
        let size = self.size as u64;
        self.next = ((self.next as u64 + count % size) % size) as usize;
        self.counts.calls = self.counts.calls.saturating_add(count).min(size);
    }
}

/// Counts per time bucket, in a ring that overwrites the oldest bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BucketRing {
    buckets: Box<[WindowedCalls]>,
    newest: u64,
}

impl Default for BucketRing {
    fn default() -> Self {
        Self { buckets: vec![WindowedCalls::default(); BUCKETS].into(), newest: 0 }
    }
}

impl BucketRing {
    fn newest(&mut self) -> &mut WindowedCalls {
        &mut self.buckets[(self.newest % BUCKETS as u64) as usize]
    }

    fn advance(&mut self, bucket: u64) {
        let passed = bucket.saturating_sub(self.newest).min(BUCKETS as u64);
        self.newest = self.newest.max(bucket);
        for back in 0..passed {
            self.buckets[((self.newest - back) % BUCKETS as u64) as usize] = WindowedCalls::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares with a list of all calls.
        #[test]
        fn a_window_of_calls_counts_the_last_calls(
            size in 1u32..200,
            steps in prop::collection::vec((0u64..300, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut window = WindowCounts::new(&SlidingWindow { size: WindowSize::Calls(size), ..SlidingWindow::default() });
            let mut calls = VecDeque::new();
            for (successes, failed, slow) in steps {
                window.add_successes(successes);
                window.add(failed, slow);
                calls.extend((0..successes).map(|_| (false, false)));
                calls.push_back((failed, slow));
                calls.drain(..calls.len().saturating_sub(size as usize));
                let count = |matches: fn(&&(bool, bool)) -> bool| calls.iter().filter(matches).count() as u64;
                let expected = WindowedCalls::new(calls.len() as u64, count(|call| call.0), count(|call| call.1));
                prop_assert_eq!(window.counts(), expected);
            }
        }

        /// Compares with a list of all calls and their buckets.
        #[test]
        fn a_window_of_time_counts_its_buckets(steps in prop::collection::vec((0u64..90, 0u64..9, any::<bool>()), 1..60)) {
            let mut window = WindowCounts::Time(BucketRing::default());
            let (mut calls, mut bucket) = (Vec::new(), 1_000_000);
            for (passed, successes, failed) in steps {
                bucket += passed;
                window.advance(bucket);
                window.add_successes(successes);
                window.add(failed, !failed);
                calls.extend((0..successes).map(|_| (bucket, false, false)));
                calls.push((bucket, failed, !failed));
                calls.retain(|call| call.0 > bucket - BUCKETS as u64);
                let count = |matches: fn(&&(u64, bool, bool)) -> bool| calls.iter().filter(matches).count() as u64;
                let expected = WindowedCalls::new(calls.len() as u64, count(|call| call.1), count(|call| call.2));
                prop_assert_eq!(window.counts(), expected);
            }
        }
    }
}
