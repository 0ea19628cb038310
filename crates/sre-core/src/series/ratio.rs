use super::counts::{Counts, RollingCounts};
use crate::{Direction, SliReading, SliSpec, StateError, StateReader, StateWriter, Timestamp, wilson_interval};

/// The series under a ratio indicator: a share of samples over a rolling window.
///
/// The value is the share recorded as `true`. For a target not to exceed, `true` is what should stay rare.
///
/// ```
/// use sre_core::{RatioSeries, SliSpec, Timestamp, Window};
/// let series = RatioSeries::new(SliSpec::ratio_at_least("answered", 0.9, Window::HOUR));
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
    /// An empty series.
    pub fn new(spec: SliSpec) -> Self {
        Self { counts: RollingCounts::new(spec.window), spec }
    }

    /// What is measured, and the target.
    pub fn spec(&self) -> &SliSpec {
        &self.spec
    }

    /// Records one sample.
    #[inline]
    pub fn record(&self, time: Timestamp, hit: bool) {
        self.counts.record(time, hit);
    }

    /// Writes what was recorded.
    pub fn save(&self, state: &mut StateWriter) {
        self.counts.save(state);
    }

    /// Adds what was saved.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.counts.restore(state)
    }

    /// What was recorded in the window up to `now`. Compliance is the share of samples on the good side.
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
            percentiles: None,
            dropped: view.dropped(),
        }
    }
}
