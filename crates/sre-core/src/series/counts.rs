use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ring::Ring;
use crate::time::nanos;
use crate::{StateError, StateReader, StateWriter, Timestamp, Window, lock, thread_number};

/// Counts good and bad events over rolling windows, for any number of threads.
///
/// Counts are kept at four resolutions (5 s, 1 min, 15 min, and 6 h or a 120th of the longest window), 128 buckets each, in
/// about 8 KiB. A window is summed at the finest resolution that covers it: exactly if it ends at the edge of a bucket, and
/// otherwise with the oldest bucket counted in full.
///
/// Recording locks only the stripe of the calling thread, of which there are eight, and does not allocate.
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
    stripes: [Stripe; STRIPES],
    history: Mutex<History>,
}

/// Numbers of good and bad events.
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

    const fn add(&mut self, other: Self) {
        self.good += other.good;
        self.bad += other.bad;
    }
}

const STRIPES: usize = 8;
const BUCKETS: usize = 128;
const FINE: Duration = Duration::from_secs(5);
const MIDDLE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(15 * 60)];
const COARSE: Duration = Duration::from_secs(6 * 3600);

/// Counts of one thread for the current 5 s. Aligned to two cache lines, since adjacent lines are prefetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<Hot>);

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
    /// Creates counts for windows up to `longest`, and at least up to 31 days.
    pub fn new(longest: Window) -> Self {
        let coarse = COARSE.max(longest.duration() / 120);
        let levels = [FINE, MIDDLE[0], MIDDLE[1], coarse].map(|width| Ring::new(width, BUCKETS));
        Self { stripes: Default::default(), history: Mutex::new(History { levels, dropped: 0 }) }
    }

    /// Counts an event at `time`. An event older than every bucket is dropped and counted as dropped.
    #[inline]
    pub fn record(&self, time: Timestamp, good: bool) {
        let mut hot = lock(&self.stripes[thread_number() % STRIPES].0);
        if !(hot.start..hot.end).contains(&time.as_nanos()) {
            self.move_to(&mut hot, time);
        }
        if good {
            hot.counts.good += 1;
        } else {
            hot.counts.bad += 1;
        }
    }

    /// Saves the counts.
    pub fn save(&self, state: &mut StateWriter) {
        let view = self.view();
        state.put(&view.history.dropped);
        view.history.levels.iter().for_each(|level| level.save(state, |counts| *counts != Counts::default()));
    }

    /// Adds saved counts.
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

    /// Returns a consistent view for summing several windows. While it exists, recording threads wait only if they move on to
    /// the next 5 s.
    pub fn view(&self) -> RollingView<'_> {
        for stripe in &self.stripes {
            let mut hot = lock(&stripe.0);
            if hot.counts != Counts::default() {
                lock(&self.history).fold(&mut hot);
            }
        }
        RollingView { history: lock(&self.history) }
    }

    #[cold]
    fn move_to(&self, hot: &mut Hot, time: Timestamp) {
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

/// A consistent view of [`RollingCounts`].
#[derive(Debug)]
pub struct RollingView<'a> {
    history: MutexGuard<'a, History>,
}

impl RollingView<'_> {
    /// Returns the counts of the window that ends at `now`.
    pub fn sum(&self, window: Window, now: Timestamp) -> Counts {
        self.level(window).window(window.duration(), now).fold(Counts::default(), |mut sum, bucket| {
            sum.add(*bucket);
            sum
        })
    }

    /// Returns the start and counts of each bucket in the window that ends at `now`, oldest first, at the finest resolution
    /// that covers the window.
    pub fn time_series(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        self.level(window).time_series(window.duration(), now).map(|(at, counts)| (at, *counts)).collect()
    }

    fn level(&self, window: Window) -> &Ring<Counts> {
        let wanted = nanos(window.duration());
        let [finer @ .., coarsest] = &self.history.levels;
        finer.iter().find(|level| level.reach() >= wanted).unwrap_or(coarsest)
    }

    /// Returns the number of dropped events.
    pub fn dropped(&self) -> u64 {
        self.history.dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_000 / 21_600 * 21_600;

    /// Counts the events in the window, from the start of its oldest bucket.
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
        fn every_window_agrees_with_a_simple_count(
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
            // In order, so that no event comes after its bucket was overwritten.
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
    fn an_event_older_than_every_bucket_is_dropped_and_counted() {
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
