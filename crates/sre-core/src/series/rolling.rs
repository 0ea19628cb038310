use std::sync::{Mutex, MutexGuard};

use super::counts::Counts;
use super::history::History;
use crate::{StateError, StateReader, StateWriter, Timestamp, Window, lock, thread_number};

/// Counts good and bad events over rolling windows, for any number of threads.
///
/// Recent events are counted in buckets of a second, older ones in wider buckets: a bucket is at most a fiftieth as wide as it is
/// old. A window of 50 s or more is therefore exact to 1 % of its length. Memory is at most 20 KiB for any windows, as long as no
/// bucket has more than four billion events.
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

const STRIPES: usize = 8;

/// Counts of one thread for the current second. Aligned to two cache lines, since adjacent lines are prefetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<Hot>);

#[derive(Debug, Default)]
struct Hot {
    start: i64,
    end: i64,
    counts: Counts,
}

impl RollingCounts {
    /// Creates counts for windows from 50 s up to `longest`, and at least up to 31 days.
    pub fn new(longest: Window) -> Self {
        Self::covering(longest, longest)
    }

    /// Creates counts for windows from `shortest`, if that is below 50 s, up to `longest`, and at least up to 31 days. The shortest
    /// that is exact is [`Window::SHORTEST_COUNTED`].
    pub fn covering(shortest: Window, longest: Window) -> Self {
        Self { stripes: Default::default(), history: Mutex::new(History::covering(shortest, longest)) }
    }

    /// Prepares for windows from `shortest` to `longest` too. Events that are still counted stay. A window below 50 s becomes exact
    /// only if no event was recorded before.
    pub fn cover(&self, shortest: Window, longest: Window) {
        self.view().history.cover(shortest, longest);
    }

    /// Returns the counts of a window that may be longer than any before; from now on it is covered.
    pub(super) fn sum(&self, window: Window, now: Timestamp) -> Counts {
        let mut view = self.view();
        view.history.reach(window);
        view.sum(window, now)
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
        self.view().history.save(state);
    }

    /// Adds saved counts.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        lock(&self.history).restore(state)
    }

    /// Returns a consistent view for summing several windows. While it exists, recording threads wait only if they move on to
    /// the next second.
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
        let mut history = lock(&self.history);
        history.fold(hot);
        let width = history.resolution();
        hot.start = time.as_nanos().div_euclid(width).saturating_mul(width);
        hot.end = hot.start.saturating_add(width);
    }
}

impl History {
    fn fold(&mut self, hot: &mut Hot) {
        let counts = std::mem::take(&mut hot.counts);
        if counts != Counts::default() {
            self.add(hot.start, counts);
        }
    }
}

/// A consistent view of [`RollingCounts`].
#[derive(Debug)]
pub struct RollingView<'a> {
    history: MutexGuard<'a, History>,
}

impl RollingView<'_> {
    /// Returns the counts of the window that ends at `now`. In constant time.
    pub fn sum(&self, window: Window, now: Timestamp) -> Counts {
        self.history.sum_over(window, now)
    }

    /// Returns the start and counts of 52 to 106 buckets of one width that cover the window that ends at `now`, oldest first;
    /// of a window below 50 s, fewer.
    pub fn time_series(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        let series = self.history.time_series(now.saturating_sub(window.duration()).as_nanos(), now.as_nanos());
        series.into_iter().map(|(start, counts)| (Timestamp::from_nanos(start), counts)).collect()
    }

    /// Returns the time of the last event, rounded up to a second; `None` without events.
    pub fn latest(&self) -> Option<Timestamp> {
        self.history.end().map(Timestamp::from_nanos)
    }

    /// Returns the number of dropped events.
    pub fn dropped(&self) -> u64 {
        self.history.dropped()
    }

    /// Returns the counts of all events since the start of the process, whatever their age. Restored counts are not among them.
    pub fn recorded(&self) -> Counts {
        self.history.recorded()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_000;

    /// Counts the events after `from` milliseconds.
    fn brute_force(events: &[(i64, bool)], from: f64) -> Counts {
        let mut counts = Counts::default();
        for &(_, good) in events.iter().filter(|(millis, _)| *millis as f64 >= from) {
            counts += Counts { good: u64::from(good), bad: u64::from(!good) };
        }
        counts
    }

    proptest! {
        /// Every window is as long as it should be, to 1 %: it counts at least what is in a window of 99 % of its length and at
        /// most what is in one of 101 %. It may end at the last event, or after a silence.
        #[test]
        fn every_window_is_exact_to_a_hundredth(
            mut events in prop::collection::vec((0i64..40 * 86_400_000, any::<bool>()), 1..300),
            recent in prop::collection::vec((0i64..4 * 3_600_000, any::<bool>()), 0..300),
            is_sorted in any::<bool>(),
            silence in prop_oneof![Just(0i64), 0..3 * 86_400_000i64],
        ) {
            let end = events.iter().map(|(millis, _)| *millis).max().unwrap();
            events.extend(recent.iter().map(|(age, good)| ((end - age).max(0), *good)));
            if is_sorted {
                events.sort_unstable();
            }
            let counts = RollingCounts::new(Window::MONTH);
            let at = |millis: i64| Timestamp::from_nanos(START * 1_000_000_000 + millis * 1_000_000);
            events.iter().for_each(|(millis, good)| counts.record(at(*millis), *good));
            let (view, now) = (counts.view(), end + silence);
            for window in ["50s", "1m", "5m", "30m", "1h", "2h", "6h", "24h", "3d", "7d", "30d"] {
                let window: Window = window.parse().unwrap();
                let length = window.as_secs_f64() * 1e3;
                let found = view.sum(window, at(now));
                let [least, most] = [0.99, 1.01].map(|share| brute_force(&events, now as f64 - length * share));
                let is_between = |found: u64, least: u64, most: u64| (least..=most).contains(&found);
                prop_assert!(
                    is_between(found.good, least.good, most.good) && is_between(found.bad, least.bad, most.bad),
                    "{} of {}: {:?}, expected {:?} to {:?}", window, now, found, least, most
                );
            }
            prop_assert!(view.dropped() <= brute_force(&events, 0.0).total() - brute_force(&events, (end - 31 * 86_400_000) as f64).total());
        }

        /// Also of the time before, up to the 31 days that every series keeps.
        #[test]
        fn a_window_that_is_covered_later_is_exact_to_a_hundredth(
            mut events in prop::collection::vec((0i64..300 * 86_400_000, any::<bool>()), 1..300),
            covered_at in 0i64..31 * 86_400_000,
        ) {
            events.sort_unstable();
            let first = events[0].0;
            let counts = RollingCounts::new(Window::MONTH);
            let at = |millis: i64| Timestamp::from_nanos(START * 1_000_000_000 + millis * 1_000_000);
            let mut is_covered = false;
            for (millis, good) in &events {
                if !is_covered && millis - first > covered_at {
                    counts.cover(Window::minutes(1), Window::days(250));
                    is_covered = true;
                }
                counts.record(at(*millis), *good);
            }
            counts.cover(Window::minutes(1), Window::days(250));
            let now = events.last().unwrap().0;
            for window in ["1h", "30d", "60d", "90d", "250d"] {
                let window: Window = window.parse().unwrap();
                // Events that were too old when the window was first covered are no longer counted.
                prop_assume!(is_covered || window <= Window::MONTH || now - first < 31 * 86_400_000);
                let found = counts.view().sum(window, at(now)).total();
                let length = window.as_secs_f64() * 1e3;
                let [least, most] = [0.99, 1.01].map(|share| brute_force(&events, now as f64 - length * share).total());
                prop_assert!((least..=most).contains(&found), "{}: {}, expected {} to {}", window, found, least, most);
            }
        }

        #[test]
        fn a_time_series_has_every_event_of_its_window_once(
            mut events in prop::collection::vec((0i64..30 * 86_400, any::<bool>()), 1..300),
            window in prop::sample::select(vec!["5m", "1h", "24h", "30d"]),
        ) {
            events.sort_unstable();
            let counts = RollingCounts::new(Window::MONTH);
            events.iter().for_each(|(second, good)| counts.record(Timestamp::from_secs(START + second), *good));
            let (now, window): (_, Window) = (START + events.last().unwrap().0, window.parse().unwrap());
            let series = counts.view().time_series(window, Timestamp::from_secs(now));
            prop_assert!((50..=110).contains(&series.len()), "{} buckets", series.len());
            let width = series[1].0.since(series[0].0);
            prop_assert!(series.windows(2).all(|pair| pair[1].0.since(pair[0].0) == width));
            for (start, counts) in series {
                let bucket = start.as_secs()..start.saturating_add(width).as_secs();
                let inside = events.iter().filter(|(second, _)| bucket.contains(&(START + second)));
                prop_assert_eq!(counts.total(), inside.count() as u64, "at {}", start);
            }
        }

        #[test]
        fn counts_survive_a_restart(
            events in prop::collection::vec((0i64..40 * 86_400, any::<bool>()), 1..300),
        ) {
            let (before, after) = (RollingCounts::new(Window::MONTH), RollingCounts::new(Window::MONTH));
            events.iter().for_each(|(second, good)| before.record(Timestamp::from_secs(START + second), *good));
            let mut state = StateWriter::default();
            before.save(&mut state);
            after.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
            let (before, after) = (before.view(), after.view());
            prop_assert_eq!((before.latest(), before.dropped()), (after.latest(), after.dropped()));
            prop_assert_eq!(before.recorded().total() + before.dropped(), events.len() as u64);
            prop_assert_eq!(after.recorded(), Counts::default());
            for window in ["1m", "1h", "24h", "30d"] {
                let (window, now): (Window, _) = (window.parse().unwrap(), before.latest().unwrap());
                prop_assert_eq!(before.sum(window, now), after.sum(window, now), "{}", window);
            }
        }
    }

    #[test]
    fn a_window_shorter_than_a_minute_has_finer_buckets() {
        let counts = RollingCounts::covering("5s".parse().unwrap(), Window::MONTH);
        let at = |millis: i64| Timestamp::from_nanos(START * 1_000_000_000 + millis * 1_000_000);
        (0..100).for_each(|event| counts.record(at(event * 100), true));
        let sum = counts.view().sum("5s".parse().unwrap(), at(9_900)).total();
        assert!((50..=51).contains(&sum), "{sum}");
    }

    #[test]
    fn the_shortest_windows_are_exact_to_a_hundredth() {
        for window in ["1s", "1300ms", "7s"] {
            let window: Window = window.parse().unwrap();
            let counts = RollingCounts::new(Window::MONTH);
            counts.cover(window, Window::MONTH);
            // A thousandth of the window apart.
            let step = window.duration().as_nanos() as i64 / 1_000;
            let at = |event: i64| Timestamp::from_nanos(START * 1_000_000_000 + event * step);
            (0..10_000).for_each(|event| counts.record(at(event), true));
            let sum = counts.view().sum(window, at(9_999)).total();
            assert!((990..=1_010).contains(&sum), "{sum} of 1000 over {window}");
        }
    }

    #[test]
    fn the_last_event_is_known_after_a_long_silence() {
        let counts = RollingCounts::new(Window::MONTH);
        assert_eq!(counts.view().latest(), None);
        counts.record(Timestamp::from_secs(START), false);
        counts.record(Timestamp::from_secs(START - 50_000), false);
        assert_eq!(counts.view().latest(), Some(Timestamp::from_secs(START + 1)));
    }

    #[test]
    fn an_event_older_than_every_bucket_is_dropped_and_counted() {
        let counts = RollingCounts::new(Window::MONTH);
        counts.record(Timestamp::from_secs(START), true);
        counts.record(Timestamp::from_secs(START - 60 * 86_400), false);
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
