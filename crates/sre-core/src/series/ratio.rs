use super::counts::Counts;
use super::rolling::RollingCounts;
use crate::{Direction, SliReading, SliSpec, StateError, StateReader, StateWriter, Timestamp, Window, wilson_interval};

/// The ratio of samples recorded as `true` over a rolling window. For an upper bound, `true` is what should be rare.
///
/// ```
/// use sre_core::{RatioSeries, SliSpec, Timestamp, Window};
/// let series = RatioSeries::new(SliSpec::ratio_at_least("answered", 0.9, Window::HOUR).unwrap());
/// let now = Timestamp::from_secs(1_790_000_000);
/// series.record(now, true);
/// assert_eq!(series.reading(now).value, Some(1.0));
/// ```
#[derive(Debug)]
pub struct RatioSeries {
    spec: SliSpec,
    counts: RollingCounts,
}

impl RatioSeries {
    /// Creates an empty series.
    pub fn new(spec: SliSpec) -> Self {
        Self { counts: RollingCounts::new(spec.window), spec }
    }

    /// Prepares for windows from `shortest` to `longest`, besides its own; see [`RollingCounts::cover`].
    pub fn cover(&self, shortest: Window, longest: Window) {
        self.counts.cover(shortest, longest);
    }

    /// Returns the specification: name, target, unit and window.
    pub fn spec(&self) -> &SliSpec {
        &self.spec
    }

    /// Records a sample.
    #[inline]
    pub fn record(&self, time: Timestamp, hit: bool) {
        self.counts.record(time, hit);
    }

    /// Saves the samples.
    pub fn save(&self, state: &mut StateWriter) {
        self.counts.save(state);
    }

    /// Adds saved samples.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.counts.restore(state)
    }

    /// Returns the numbers of good and bad samples in a window: for an upper bound, those recorded as `true` are bad.
    /// A window longer than any before, and than 31 days, is complete once it has passed.
    pub fn counts(&self, window: Window, now: Timestamp) -> Counts {
        let counts = self.counts.sum(window, now);
        match self.spec.direction {
            Direction::AtLeast => counts,
            Direction::AtMost => Counts { good: counts.bad, bad: counts.good },
        }
    }

    /// Returns the reading of the window that ends at `now`. Compliance is the ratio of good samples.
    pub fn reading(&self, now: Timestamp) -> SliReading {
        let view = self.counts.view();
        let counts @ Counts { good: hits, .. } = view.sum(self.spec.window, now);
        let value = counts.success_ratio();
        SliReading {
            value,
            compliance: value.map(|ratio| if self.spec.direction == Direction::AtLeast { ratio } else { 1.0 - ratio }),
            samples: counts.total(),
            interval: wilson_interval(hits as f64, counts.total() as f64),
            maximum: None,
            deviation: None,
            percentiles: None,
            dropped: view.dropped(),
        }
    }
}
