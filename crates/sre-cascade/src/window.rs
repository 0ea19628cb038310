use std::num::NonZeroU64;
use std::time::Duration;

use sre_core::WindowedCalls;

use crate::{SlidingWindow, WindowSize};

/// The last calls, counted exactly: the last so many, or those of the last sixty slots of time.
#[derive(Debug)]
pub(crate) enum WindowCounts {
    Calls(Calls),
    Time(Slots),
}

const SLOTS: usize = 60;

impl SlidingWindow {
    /// How long a slot of time is, in nanoseconds; `None` where calls are counted.
    pub(crate) fn slot_width(&self) -> Option<NonZeroU64> {
        match self.size {
            WindowSize::Calls(_) => None,
            WindowSize::Time(span) => {
                NonZeroU64::new(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) / SLOTS as u64)
            }
        }
    }

    /// The calls without which nothing is concluded: a window of fewer calls is content with those.
    fn minimum(&self) -> u64 {
        match self.size {
            WindowSize::Calls(calls) => u64::from(self.minimum_calls.min(calls)),
            WindowSize::Time(_) => u64::from(self.minimum_calls),
        }
    }

    /// Whether the next call must be judged even if it is a good one: it may make the calls enough to conclude from, or be the
    /// first after good ones have left the window.
    pub(crate) fn must_check_success(&self, calls: WindowedCalls) -> bool {
        calls.failed + calls.slow > 0 && (calls.calls < self.minimum() || self.exceeded(calls).is_some())
    }

    /// Why these calls are reason to open, if they are.
    pub(crate) fn open_reason(&self, calls: WindowedCalls) -> Option<String> {
        let exceeded = if calls.calls < self.minimum() { None } else { self.exceeded(calls) };
        exceeded.map(|(count, what)| format!("{count} of the last {} calls {what}", calls.calls))
    }

    /// The rate that is too high: of how many calls, and which.
    fn exceeded(&self, calls: WindowedCalls) -> Option<(u64, &'static str)> {
        if calls.failure_rate() >= Some(self.failure_rate) {
            Some((calls.failed, "failed"))
        } else if self.slow_call.is_some() && calls.slow_call_rate() >= Some(self.slow_call_rate) {
            Some((calls.slow, "were slow"))
        } else {
            None
        }
    }

    /// Whether a call of that length is slow.
    pub(crate) fn is_slow(&self, took: Option<Duration>) -> bool {
        self.slow_call.zip(took).is_some_and(|(most, took)| took > most)
    }
}

impl WindowCounts {
    pub(crate) fn new(window: &SlidingWindow) -> Self {
        match window.size {
            WindowSize::Calls(calls) => Self::Calls(Calls::new(calls as usize)),
            WindowSize::Time(_) => Self::Time(Slots::default()),
        }
    }

    pub(crate) fn clear(&mut self) {
        match self {
            Self::Calls(calls) => *calls = Calls::new(calls.size),
            Self::Time(slots) => slots.slots.fill(WindowedCalls::default()),
        }
    }

    /// Counts calls that were well, in the newest slot.
    pub(crate) fn add_good(&mut self, count: u64) {
        match self {
            Self::Calls(calls) => calls.add_good(count),
            Self::Time(slots) => slots.newest().calls += count,
        }
    }

    /// Counts one call, in the newest slot.
    pub(crate) fn add(&mut self, failed: bool, slow: bool) {
        match self {
            Self::Calls(calls) => calls.add(failed, slow),
            Self::Time(slots) => {
                let slot = slots.newest();
                slot.calls += 1;
                slot.failed += u64::from(failed);
                slot.slow += u64::from(slow);
            }
        }
    }

    /// Time has come to `slot`.
    pub(crate) fn advance(&mut self, slot: u64) {
        if let Self::Time(slots) = self {
            slots.advance(slot);
        }
    }

    pub(crate) fn counts(&self) -> WindowedCalls {
        match self {
            Self::Calls(calls) => calls.counts,
            Self::Time(slots) => slots.slots.iter().fold(WindowedCalls::default(), |sum, slot| WindowedCalls {
                calls: sum.calls + slot.calls,
                failed: sum.failed + slot.failed,
                slow: sum.slow + slot.slow,
            }),
        }
    }
}

/// A bit for each of the last calls that failed or was slow; the next call takes the place of the oldest.
#[derive(Debug)]
pub(crate) struct Calls {
    size: usize,
    next: usize,
    failed: Box<[u64]>,
    slow: Box<[u64]>,
    counts: WindowedCalls,
}

impl Calls {
    fn new(size: usize) -> Self {
        let bits = || vec![0; size.div_ceil(64)].into_boxed_slice();
        Self { size, next: 0, failed: bits(), slow: bits(), counts: WindowedCalls::default() }
    }

    fn add(&mut self, failed: bool, slow: bool) {
        let (word, bit) = (self.next / 64, 1 << (self.next % 64));
        self.add_good(1);
        if failed {
            self.failed[word] |= bit;
            self.counts.failed += 1;
        }
        if slow {
            self.slow[word] |= bit;
            self.counts.slow += 1;
        }
    }

    /// Puts so many good calls in the place of the oldest.
    fn add_good(&mut self, count: u64) {
        if self.counts.failed + self.counts.slow > 0 {
            let oldest = usize::try_from(count).map_or(self.size, |count| count.min(self.size));
            for place in (self.next..self.next + oldest).map(|place| place % self.size) {
                let (word, bit) = (place / 64, 1 << (place % 64));
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

/// Counts by slot of time, the newest and those before it.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[WindowedCalls]>,
    newest: u64,
}

impl Default for Slots {
    fn default() -> Self {
        Self { slots: vec![WindowedCalls::default(); SLOTS].into(), newest: 0 }
    }
}

impl Slots {
    fn newest(&mut self) -> &mut WindowedCalls {
        &mut self.slots[(self.newest % SLOTS as u64) as usize]
    }

    fn advance(&mut self, slot: u64) {
        let passed = slot.saturating_sub(self.newest).min(SLOTS as u64);
        self.newest = self.newest.max(slot);
        for back in 0..passed {
            self.slots[((self.newest - back) % SLOTS as u64) as usize] = WindowedCalls::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the calls themselves, kept in a list.
        #[test]
        fn a_window_of_calls_counts_the_last_ones(
            size in 1u32..200,
            steps in prop::collection::vec((0u64..300, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut ring = WindowCounts::new(&SlidingWindow { size: WindowSize::Calls(size), ..SlidingWindow::default() });
            let mut calls = VecDeque::new();
            for (good, failed, slow) in steps {
                ring.add_good(good);
                ring.add(failed, slow);
                calls.extend((0..good).map(|_| (false, false)));
                calls.push_back((failed, slow));
                calls.drain(..calls.len().saturating_sub(size as usize));
                let count = |matches: fn(&&(bool, bool)) -> bool| calls.iter().filter(matches).count() as u64;
                let expected = WindowedCalls { calls: calls.len() as u64, failed: count(|call| call.0), slow: count(|call| call.1) };
                prop_assert_eq!(ring.counts(), expected);
            }
        }

        /// Against the calls themselves, with the slot of each.
        #[test]
        fn a_window_of_time_counts_its_slots(steps in prop::collection::vec((0u64..90, 0u64..9, any::<bool>()), 1..60)) {
            let mut ring = WindowCounts::Time(Slots::default());
            let (mut calls, mut slot) = (Vec::new(), 1_000_000);
            for (passed, good, failed) in steps {
                slot += passed;
                ring.advance(slot);
                ring.add_good(good);
                ring.add(failed, !failed);
                calls.extend((0..good).map(|_| (slot, false, false)));
                calls.push((slot, failed, !failed));
                calls.retain(|call| call.0 > slot - SLOTS as u64);
                let count = |matches: fn(&&(u64, bool, bool)) -> bool| calls.iter().filter(matches).count() as u64;
                let expected = WindowedCalls { calls: calls.len() as u64, failed: count(|call| call.1), slow: count(|call| call.2) };
                prop_assert_eq!(ring.counts(), expected);
            }
        }
    }
}
