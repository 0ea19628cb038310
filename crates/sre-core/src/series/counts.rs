use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ring::Ring;
use crate::time::nanos;
use crate::{StateError, StateReader, StateWriter, Timestamp, Window, lock, thread_number};

/// Good and bad events over rolling windows, for any number of threads.
///
/// Counts are kept at four resolutions (5 s, 1 min, 15 min, and 6 h or a 120th of the longest window), 128 buckets
/// each: about 8 KiB whatever was recorded. A window is answered at the finest resolution that reaches back far enough:
/// exactly when it ends at a bucket's edge, and otherwise with the oldest bucket counted whole.
///
/// Recording locks only the recording thread's own cell (threads share one from nine on), without allocation.
///
/// ```
/// use sre_core::{RollingCounts, Timestamp, Window};
/// let counts = RollingCounts::new(Window::MONTH);
/// let now = Timestamp::from_secs(1_790_000_000);
/// counts.record(now, true);
/// counts.record(now, false);
/// assert_eq!(counts.view().sum(Window::HOUR, now).error_ratio(), Some(0.5));
/// ```
#[derive(Debug)]
pub struct RollingCounts {
    cells: [ThreadCell; CELLS],
    history: Mutex<History>,
}

/// How many good and bad events there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events that count for the objective.
    pub good: u64,
    /// Events that count against it.
    pub bad: u64,
}

impl Counts {
    /// All events.
    pub const fn total(self) -> u64 {
        self.good + self.bad
    }

    /// The share of bad events; `None` without any.
    pub fn error_ratio(self) -> Option<f64> {
        (self.total() > 0).then(|| self.bad as f64 / self.total() as f64)
    }

    /// The share of good events; `None` without any.
    pub fn success_ratio(self) -> Option<f64> {
        (self.total() > 0).then(|| self.good as f64 / self.total() as f64)
    }

    const fn add(&mut self, other: Self) {
        self.good += other.good;
        self.bad += other.bad;
    }
}

const CELLS: usize = 8;
const SLOTS: usize = 128;
const FINE: Duration = Duration::from_secs(5);
const MIDDLE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(15 * 60)];
const COARSE: Duration = Duration::from_secs(6 * 3600);

/// One thread's counts of the five seconds it is in; a cache line of its own (two, for prefetched pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct ThreadCell(Mutex<Hot>);

#[derive(Debug, Default)]
struct Hot {
    start: i64,
    end: i64,
    counts: Counts,
}

#[derive(Debug)]
struct History {
    levels: [Ring<Counts>; 4],
    dropped: u64,
}

impl RollingCounts {
    /// Counts that answer for windows up to `longest`, and up to 31 days in any case.
    pub fn new(longest: Window) -> Self {
        let coarse = COARSE.max(longest.duration() / 120);
        let levels = [FINE, MIDDLE[0], MIDDLE[1], coarse].map(|width| Ring::new(width, SLOTS));
        Self { cells: Default::default(), history: Mutex::new(History { levels, dropped: 0 }) }
    }

    /// Counts one event of `time`. One older than every bucket is dropped, and counted as such.
    #[inline]
    pub fn record(&self, time: Timestamp, good: bool) {
        let mut hot = lock(&self.cells[thread_number() % CELLS].0);
        if !(hot.start..hot.end).contains(&time.as_nanos()) {
            self.turn_to(&mut hot, time);
        }
        if good {
            hot.counts.good += 1;
        } else {
            hot.counts.bad += 1;
        }
    }

    /// Writes what was counted.
    pub fn save(&self, state: &mut StateWriter) {
        let view = self.view();
        state.put(&view.history.dropped);
        view.history.levels.iter().for_each(|level| level.save(state, |counts| *counts != Counts::default()));
    }

    /// Adds what was saved.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let mut history = lock(&self.history);
        history.dropped += state.take::<u64>()?;
        for level in &mut history.levels {
            level.restore(state, |bucket, saved| {
                bucket.add(saved);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The counts, held still for as many windows as one evaluation asks for. Recording threads wait only when they
    /// turn to another five seconds meanwhile.
    pub fn view(&self) -> RollingView<'_> {
        for cell in &self.cells {
            let mut hot = lock(&cell.0);
            if hot.counts != Counts::default() {
                lock(&self.history).fold(&mut hot);
            }
        }
        RollingView { history: lock(&self.history) }
    }

    #[cold]
    fn turn_to(&self, hot: &mut Hot, time: Timestamp) {
        let width = nanos(FINE);
        lock(&self.history).fold(hot);
        hot.start = time.as_nanos().div_euclid(width).saturating_mul(width);
        hot.end = hot.start.saturating_add(width);
    }
}

impl History {
    fn fold(&mut self, hot: &mut Hot) {
        let counts = std::mem::take(&mut hot.counts);
        if counts == Counts::default() {
            return;
        }
        let time = Timestamp::from_nanos(hot.start);
        let mut kept = false;
        for level in &mut self.levels {
            if let Some(bucket) = level.slot(time) {
                bucket.add(counts);
                kept = true;
            }
        }
        if !kept {
            self.dropped += counts.total();
        }
    }
}

/// A [`RollingCounts`] held still.
#[derive(Debug)]
pub struct RollingView<'a> {
    history: MutexGuard<'a, History>,
}

impl RollingView<'_> {
    /// What was counted in the window that ends at `now`.
    pub fn sum(&self, window: Window, now: Timestamp) -> Counts {
        self.level(window).window(window.duration(), now).fold(Counts::default(), |mut sum, bucket| {
            sum.add(*bucket);
            sum
        })
    }

    /// What was counted, bucket by bucket, in the window that ends at `now`: each with the moment it begins, the oldest first.
    /// The finest resolution that reaches back so far.
    pub fn time_series(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        self.level(window).time_series(window.duration(), now).map(|(at, counts)| (at, *counts)).collect()
    }

    fn level(&self, window: Window) -> &Ring<Counts> {
        let wanted = nanos(window.duration());
        let [finer @ .., coarsest] = &self.history.levels;
        finer.iter().find(|level| level.reach() >= wanted).unwrap_or(coarsest)
    }

    /// How many events came too late to be counted.
    pub fn dropped(&self) -> u64 {
        self.history.dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_000 / 21_600 * 21_600;

    /// The window at `now` counted one by one: from the start of the bucket it begins in.
    fn brute_force(events: &[(i64, bool)], width: i64, window: i64, now: i64) -> Counts {
        let from = (now - window).div_euclid(width) * width;
        let mut counts = Counts::default();
        for &(_, good) in events.iter().filter(|(time, _)| (from..=now).contains(time)) {
            counts.add(Counts { good: u64::from(good), bad: u64::from(!good) });
        }
        counts
    }

    proptest! {
        #[test]
        fn every_window_agrees_with_counting_one_by_one(
            mut events in prop::collection::vec((0i64..40 * 86_400, any::<bool>()), 1..300),
            shuffled in any::<bool>(),
        ) {
            if !shuffled {
                events.sort_unstable();
            }
            let counts = RollingCounts::new(Window::MONTH);
            for (time, good) in &mut events {
                *time += START;
                counts.record(Timestamp::from_secs(*time), *good);
            }
            // Whatever came after its bucket was gone is not counted at that resolution; in order, nothing is late.
            let latest = events.iter().map(|(time, _)| *time).max().unwrap();
            for (window, width) in [("5m", 5), ("10m", 5), ("1h", 60), ("2h", 60), ("6h", 900), ("24h", 900), ("3d", 21_600), ("30d", 21_600)] {
                let window: Window = window.parse().unwrap();
                let expected = brute_force(&events, width, window.as_secs_f64() as i64, latest);
                prop_assert_eq!(counts.view().sum(window, Timestamp::from_secs(latest)), expected, "{}", window);
            }
            let too_late = counts.view().dropped();
            let reach = START.max((latest.div_euclid(21_600) - 127) * 21_600);
            prop_assert!(too_late <= events.iter().filter(|(time, _)| *time < reach).count() as u64);
        }

        #[test]
        fn a_window_that_ends_at_an_edge_is_exact(
            events in prop::collection::vec((0i64..86_400, any::<bool>()), 1..200),
            edge in 1i64..96,
        ) {
            let counts = RollingCounts::new(Window::MONTH);
            let mut shifted: Vec<_> = events.iter().map(|&(time, good)| (START + time, good)).collect();
            shifted.sort_unstable();
            let now = START + edge * 900;
            shifted.retain(|(time, _)| *time <= now);
            for &(time, good) in &shifted {
                counts.record(Timestamp::from_secs(time), good);
            }
            for window in ["5m", "30m", "1h", "6h"] {
                let window: Window = window.parse().unwrap();
                let seconds = window.as_secs_f64() as i64;
                let inside: Vec<_> = shifted.iter().filter(|(time, _)| (now - seconds..=now).contains(time)).collect();
                prop_assert_eq!(counts.view().sum(window, Timestamp::from_secs(now)).total(), inside.len() as u64);
            }
        }
    }

    #[test]
    fn what_is_older_than_every_bucket_is_dropped_and_counted() {
        let counts = RollingCounts::new(Window::MONTH);
        counts.record(Timestamp::from_secs(START), true);
        counts.record(Timestamp::from_secs(START - 40 * 86_400), false);
        counts.record(Timestamp::from_secs(START - 86_400), false);
        let view = counts.view();
        assert_eq!(view.sum(Window::MONTH, Timestamp::from_secs(START)), Counts { good: 1, bad: 1 });
        assert_eq!(view.dropped(), 1);
    }

    #[test]
    fn threads_lose_nothing() {
        let counts = RollingCounts::new(Window::MONTH);
        std::thread::scope(|scope| {
            for thread in 0..12 {
                let counts = &counts;
                scope.spawn(move || {
                    for event in 0..20_000 {
                        counts.record(Timestamp::from_secs(START + event / 100), (event + thread) % 4 != 0);
                    }
                });
            }
        });
        let sum = counts.view().sum(Window::HOUR, Timestamp::from_secs(START + 200));
        assert_eq!(sum, Counts { good: 180_000, bad: 60_000 });
    }

    #[test]
    fn extreme_times_do_not_panic() {
        let counts = RollingCounts::new(Window::days(36_500));
        for nanos in [i64::MIN, -1, 0, 1, i64::MAX] {
            counts.record(Timestamp::from_nanos(nanos), true);
            counts.view().sum(Window::MONTH, Timestamp::from_nanos(nanos));
        }
    }
}
