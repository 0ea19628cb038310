use std::time::Duration;

use super::FORMAT;
use super::counts::Counts;
use crate::time::nanos;
use crate::{StateError, StateReader, StateWriter, Timestamp, Window};

/// Counts by time, in wider buckets the older they are.
///
/// Level 0 has buckets of the resolution, and each further level has buckets of twice the width before. Together they are a
/// timeline without gaps or overlaps: a level holds the time before that of the level above it, back to [`SPAN`] of its own
/// buckets before the end. So the buckets of a level are at least `SPAN / 2` times as old as they are wide. What becomes too old for
/// a level is moved to the next one; what becomes too old for the last one is evicted.
#[derive(Debug)]
pub(super) struct History {
    levels: Vec<Level>,
    /// The end of the newest bucket, in nanoseconds; `None` without events.
    end: Option<i64>,
    dropped: u64,
    /// Everything counted since the history was created, without restored counts.
    recorded: Counts,
}

#[derive(Debug)]
struct Level {
    /// Width of a bucket, in nanoseconds.
    width: i64,
    /// The start of the oldest bucket, which is one of the next level too.
    first: i64,
    /// The buckets, each at the number of its width since the epoch, modulo their number.
    buckets: Buckets,
    /// The sum of the buckets.
    total: Counts,
}

/// How far back a level reaches, in buckets of its own. More than 100, since a window that begins inside a bucket is off by up to
/// half of it.
const SPAN: i64 = 104;

/// Width of the finest buckets, unless a shorter window needs finer ones.
const RESOLUTION: Duration = Duration::from_secs(1);
/// The least width of a bucket, for [`Window::SHORTEST_COUNTED`].
const FINEST: Duration = Duration::from_millis(20);

impl History {
    /// Creates an empty history for windows from `shortest`, if that is below 50 s, up to `longest`, and at least up to 31 days.
    pub(super) fn covering(shortest: Window, longest: Window) -> Self {
        // The two further buckets of each level are those at the ends, which are aligned.
        let finest = Level::new(resolution_for(shortest), SPAN + 2);
        let mut history = Self { levels: vec![finest], end: None, dropped: 0, recorded: Counts::default() };
        history.reach(longest.max(Window::days(31)));
        history
    }

    /// Prepares for windows from `shortest` to `longest` too. What is counted stays; finer buckets need an empty history.
    pub(super) fn cover(&mut self, shortest: Window, longest: Window) {
        if self.end.is_none() && resolution_for(shortest) < self.resolution() {
            self.levels = Self::covering(shortest, longest.max(self.longest())).levels;
        }
        self.reach(longest);
    }

    /// Adds levels for a window of `longest`, unless it is covered already.
    pub(super) fn reach(&mut self, longest: Window) {
        let longest = nanos(longest.duration());
        while let Some(width) = self.levels.last().map(|widest| widest.width)
            && width.saturating_mul(SPAN) < longest
            && width <= i64::MAX / 4
        {
            // The level above takes half of the span.
            let mut level = Level::new(2 * width, SPAN / 2 + 2);
            if let Some(end) = self.end {
                level.first = level.first_before(end, level.width);
            }
            self.levels.push(level);
        }
        if self.levels.capacity() > self.levels.len() {
            self.levels.shrink_to_fit();
        }
    }

    /// Returns the longest window that is covered.
    fn longest(&self) -> Window {
        let reach = self.levels.last().map_or(0, |widest| widest.width.saturating_mul(SPAN));
        Window::try_from(Duration::from_nanos(reach.unsigned_abs())).unwrap_or(Window::days(u64::MAX))
    }

    /// Counts a sample. For a series that has a lock already; [`RollingCounts`](super::RollingCounts) is for the others.
    #[inline]
    pub(super) fn record(&mut self, time: Timestamp, good: bool) {
        self.record_many(time, good, 1);
    }

    /// Counts `number` samples.
    #[inline]
    pub(super) fn record_many(&mut self, time: Timestamp, good: bool, number: u64) {
        let width = self.resolution();
        let start = time.as_nanos().div_euclid(width).saturating_mul(width);
        self.add(start, if good { Counts { good: number, bad: 0 } } else { Counts { good: 0, bad: number } });
    }

    pub(super) fn sum_over(&self, window: Window, now: Timestamp) -> Counts {
        self.sum(now.saturating_sub(window.duration()).as_nanos(), now.as_nanos())
    }

    pub(super) fn end(&self) -> Option<i64> {
        self.end
    }

    /// Returns the width of the finest buckets, in nanoseconds.
    pub(super) fn resolution(&self) -> i64 {
        self.levels[0].width
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn recorded(&self) -> Counts {
        self.recorded
    }

    /// Adds counts at `start`, a multiple of the resolution.
    pub(super) fn add(&mut self, start: i64, counts: Counts) {
        let end = start.saturating_add(self.levels[0].width);
        if self.end.is_none_or(|newest| newest < end) {
            self.advance(end);
        }
        match self.levels.iter_mut().find(|level| level.first <= start) {
            Some(level) => {
                level.add(start, counts);
                self.recorded += counts;
            }
            None => self.dropped += counts.total(),
        }
    }

    /// Moves the end, and the buckets that are too old for their level by it.
    fn advance(&mut self, end: i64) {
        let newest = self.end.replace(end);
        let before: Vec<i64> = self.levels.iter().map(|level| level.first).collect();
        let widest = self.levels.len() - 1;
        for place in 0..=widest {
            let align = self.levels[(place + 1).min(widest)].width;
            let level = &mut self.levels[place];
            level.first = level.first_before(end, align);
        }
        let Some(newest) = newest else { return };
        // From the widest on, so that a bucket that is moved finds its place free.
        for place in (0..=widest).rev() {
            let (above, below) = self.levels.split_at_mut(place + 1);
            let level = &mut above[place];
            let until = level.first.min(if place == 0 { newest } else { before[place - 1] });
            let mut start = before[place];
            while start < until {
                let counts = level.take(start);
                if counts != Counts::default()
                    && let Some(wider) = below.iter_mut().find(|wider| wider.first <= start)
                {
                    wider.add(start, counts);
                }
                start = start.saturating_add(level.width);
            }
        }
    }

    /// Returns the counts from `from` to `now`. Of the bucket that contains `from`, all is counted or nothing, whichever is closer.
    pub(super) fn sum(&self, from: i64, now: i64) -> Counts {
        let mut sum = Counts::default();
        let Some(mut upper) = self.end else { return sum };
        let until = now.saturating_add(1);
        for level in &self.levels {
            let nearest = from.saturating_sub(level.width / 2);
            // Most levels are inside the window as a whole, which needs neither a division nor a sum.
            if nearest <= level.first {
                let is_whole = upper.saturating_sub(level.width) < until;
                sum += if is_whole { level.total } else { level.between(level.first, until) };
                upper = level.first;
                continue;
            }
            let lower = nearest.saturating_add(level.width - 1).div_euclid(level.width).saturating_mul(level.width);
            sum += level.between(lower, upper.min(until));
            break;
        }
        sum
    }

    /// Returns the start and counts of buckets of one width, from the one that contains `from` to the one that contains `now`.
    pub(super) fn time_series(&self, from: i64, now: i64) -> Vec<(i64, Counts)> {
        if self.end.is_none() {
            return Vec::new();
        }
        let widest = self.levels.iter().find(|level| level.first <= from).or(self.levels.last());
        let width = widest.map_or(1, |level| level.width);
        let oldest = self.levels.last().map_or(from, |level| level.first);
        let begin = from.max(oldest).div_euclid(width).saturating_mul(width);
        let number = (now.saturating_sub(begin).div_euclid(width) + 1).clamp(0, 2 * SPAN);
        let mut series: Vec<(i64, Counts)> =
            (0..number).map(|bucket| (begin.saturating_add(bucket.saturating_mul(width)), Counts::default())).collect();
        for (start, counts) in self.buckets().filter(|(start, _)| *start >= begin) {
            let place = usize::try_from((start - begin) / width).ok();
            if let Some((_, sum)) = place.and_then(|place| series.get_mut(place)) {
                *sum += counts;
            }
        }
        series
    }

    /// Returns the start and counts of every bucket, level by level.
    fn buckets(&self) -> impl Iterator<Item = (i64, Counts)> {
        let uppers = self.end.into_iter().chain(self.levels.iter().map(|level| level.first));
        self.levels.iter().zip(uppers).flat_map(|(level, upper)| {
            let starts = std::iter::successors(Some(level.first), |start| start.checked_add(level.width));
            starts.take_while(move |start| *start < upper).map(|start| (start, level.get(start)))
        })
    }

    pub(super) fn save(&self, state: &mut StateWriter) {
        let mut used: Vec<(i64, Counts)> = self.buckets().filter(|(_, counts)| *counts != Counts::default()).collect();
        used.sort_unstable_by_key(|(start, _)| *start);
        state.put(&(FORMAT, self.dropped, used));
    }

    /// Adds saved counts, also those of a history with another resolution.
    pub(super) fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.restore_many(state, 1)
    }

    /// Adds saved counts, each as `number` samples.
    pub(super) fn restore_many(&mut self, state: &mut StateReader<'_>, number: u64) -> Result<(), StateError> {
        let first: u64 = state.take()?;
        let (dropped, used) = if first == FORMAT { state.take()? } else { (first, first_format(state)?) };
        let (resolution, recorded) = (self.resolution(), self.recorded);
        for (start, Counts { good, bad }) in used {
            let counts = Counts { good: good.saturating_mul(number), bad: bad.saturating_mul(number) };
            self.add(start.div_euclid(resolution).saturating_mul(resolution), counts);
        }
        self.dropped += dropped;
        self.recorded = recorded;
        Ok(())
    }
}

/// Reads the counts as version 0.1.0 saved them: everything at four resolutions. A wider bucket is counted without the narrower
/// ones inside it.
fn first_format(state: &mut StateReader<'_>) -> Result<Vec<(i64, Counts)>, StateError> {
    let mut all: Vec<(i64, Counts)> = Vec::new();
    let mut narrower = all.clone();
    for _ in 0..4 {
        let (_, level): (u64, Vec<(i64, Counts)>) = state.take()?;
        for (place, (start, mut counts)) in level.iter().copied().enumerate() {
            let end = level.get(place + 1).map_or(i64::MAX, |(next, _)| *next);
            let inside = narrower.iter().filter(|(narrow, _)| (start..end).contains(narrow));
            inside.for_each(|(_, inside)| counts.subtract(*inside));
            if counts != Counts::default() {
                all.push((start, counts));
            }
        }
        narrower = level;
    }
    all.sort_unstable_by_key(|(start, _)| *start);
    Ok(all)
}

/// Returns the width of the finest buckets, in nanoseconds, for windows from `shortest` on.
fn resolution_for(shortest: Window) -> i64 {
    (nanos(shortest.duration()) / 50).clamp(nanos(FINEST), nanos(RESOLUTION))
}

impl Level {
    fn new(width: i64, buckets: i64) -> Self {
        let buckets = Buckets::Narrow(vec![(0, 0); buckets as usize].into());
        Self { width, first: 0, buckets, total: Counts::default() }
    }

    /// Returns the start of the oldest bucket of a timeline that ends at `end`: a multiple of `align`.
    fn first_before(&self, end: i64, align: i64) -> i64 {
        end.saturating_sub(self.width.saturating_mul(SPAN)).div_euclid(align).saturating_mul(align)
    }

    fn place(&self, start: i64) -> usize {
        start.div_euclid(self.width).rem_euclid(self.buckets.len() as i64) as usize
    }

    fn get(&self, start: i64) -> Counts {
        self.buckets.get(self.place(start))
    }

    fn add(&mut self, start: i64, counts: Counts) {
        self.buckets.add(self.place(start), counts);
        self.total += counts;
    }

    fn take(&mut self, start: i64) -> Counts {
        let counts = self.buckets.take(self.place(start));
        self.total.subtract(counts);
        counts
    }

    /// Returns the sum of the buckets that start from `lower` up to but not including `upper`.
    fn between(&self, lower: i64, upper: i64) -> Counts {
        let number = upper.saturating_sub(lower).saturating_add(self.width - 1).div_euclid(self.width);
        let number = number.clamp(0, self.buckets.len() as i64) as usize;
        self.buckets.sum(self.place(lower), number)
    }
}

/// Counts of good and bad events: of four bytes each, until one of them needs more.
#[derive(Debug)]
enum Buckets {
    Narrow(Box<[(u32, u32)]>),
    Wide(Box<[Counts]>),
}

impl Buckets {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(buckets) => buckets.len(),
            Self::Wide(buckets) => buckets.len(),
        }
    }

    fn get(&self, place: usize) -> Counts {
        match self {
            Self::Narrow(buckets) => widened(&buckets[place]),
            Self::Wide(buckets) => buckets[place],
        }
    }

    fn add(&mut self, place: usize, counts: Counts) {
        let mut sum = self.get(place);
        sum += counts;
        self.set(place, sum);
    }

    fn take(&mut self, place: usize) -> Counts {
        let counts = self.get(place);
        self.set(place, Counts::default());
        counts
    }

    fn set(&mut self, place: usize, counts: Counts) {
        match self {
            Self::Narrow(buckets) => match (u32::try_from(counts.good), u32::try_from(counts.bad)) {
                (Ok(good), Ok(bad)) => buckets[place] = (good, bad),
                _ => {
                    let mut wide: Box<[Counts]> = buckets.iter().map(widened).collect();
                    wide[place] = counts;
                    *self = Self::Wide(wide);
                }
            },
            Self::Wide(buckets) => buckets[place] = counts,
        }
    }

    /// Returns the sum of `number` buckets from `place` on, and on from the first one after the last.
    fn sum(&self, place: usize, number: usize) -> Counts {
        fn sum<B>(buckets: &[B], place: usize, number: usize, widened: impl Fn(&B) -> Counts) -> Counts {
            let (late, early) = buckets.split_at(place);
            let mut sum = Counts::default();
            early.iter().chain(late).take(number).for_each(|bucket| sum += widened(bucket));
            sum
        }
        match self {
            Self::Narrow(buckets) => sum(buckets, place, number, widened),
            Self::Wide(buckets) => sum(buckets, place, number, |counts| *counts),
        }
    }
}

fn widened(&(good, bad): &(u32, u32)) -> Counts {
    Counts { good: good.into(), bad: bad.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_more_than_four_billion_events_stays_exact() {
        let mut history = History::covering(Window::MONTH, Window::MONTH);
        let many = Counts { good: u64::from(u32::MAX), bad: 7 };
        let one = Counts { good: 1, bad: 1 };
        let start = 1_790_000_000_000_000_000;
        for (place, counts) in [one, many, one, many].into_iter().enumerate() {
            // The last two join in one bucket, once they are old.
            history.add(start + place as i64 / 2 * 1_000_000_000, counts);
        }
        let expected = Counts { good: 2 * u64::from(u32::MAX) + 2, bad: 16 };
        for later in [0, 3_600_000_000_000, 86_400_000_000_000] {
            history.add(start + later, Counts::default());
            let now = Timestamp::from_nanos(start + later + 1_000_000_000);
            assert_eq!(history.sum_over(Window::MONTH, now), expected, "{later}");
        }
    }
}
