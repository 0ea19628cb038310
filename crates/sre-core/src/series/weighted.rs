use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::history::History;
use super::ring::Ring;
use crate::{
    Direction, SliReading, SliSpec, StateError, StateReader, StateWriter, Timestamp, Window, lock, wilson_interval,
};

/// A ratio of weighted samples over a rolling window, with weights such as a judge's confidence.
///
/// The value is the weight recorded as `true` divided by the total weight. The interval is Wilson's at the effective sample size
/// (Σw)² / Σw² (Kish, *Survey Sampling*, 1965).
#[derive(Debug)]
pub struct WeightedRatioSeries {
    spec: SliSpec,
    recorded: Mutex<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    ring: Ring<Bucket>,
    /// The weights of good and bad samples, in [`UNITS`].
    weights: History,
}

/// Units of weight in a sample of weight 1.
const UNITS: u64 = 100;
/// Comes before saved weights. Version 0.1.0 saved counts of samples, which begin with another number.
const WEIGHTS: u64 = u64::MAX - 1;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Bucket {
    samples: u64,
    weight: f64,
    hit_weight: f64,
    squares: f64,
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.weight += other.weight;
        self.hit_weight += other.hit_weight;
        self.squares += other.squares;
    }
}

impl WeightedRatioSeries {
    /// Creates an empty series.
    pub fn new(spec: SliSpec) -> Self {
        let ring = Ring::covering(spec.window.duration(), 104);
        let weights = History::covering(spec.window, spec.window);
        Self { spec, recorded: Mutex::new(Recorded { ring, weights }) }
    }

    /// Prepares the counts for windows from `shortest` to `longest`, besides its own; see
    /// [`RollingCounts::cover`](crate::RollingCounts::cover).
    pub fn cover(&self, shortest: Window, longest: Window) {
        lock(&self.recorded).weights.cover(shortest, longest);
    }

    /// Returns the specification: name, target, unit and window.
    pub fn spec(&self) -> &SliSpec {
        &self.spec
    }

    /// Records a sample. `weight` is clamped to 0–1; a sample whose weight is NaN is dropped and counted.
    pub fn record(&self, time: Timestamp, hit: bool, weight: f64) {
        let Recorded { ring, weights } = &mut *lock(&self.recorded);
        if weight.is_nan() {
            ring.drop_invalid();
            return;
        }
        let weight = weight.clamp(0.0, 1.0);
        let is_good = hit == (self.spec.direction == Direction::AtLeast);
        weights.record_many(time, is_good, (weight * UNITS as f64).round() as u64);
        if let Some(bucket) = ring.slot(time) {
            bucket.samples += 1;
            bucket.weight += weight;
            bucket.squares += weight * weight;
            if hit {
                bucket.hit_weight += weight;
            }
        }
    }

    /// Saves the samples.
    pub fn save(&self, state: &mut StateWriter) {
        let recorded = lock(&self.recorded);
        recorded.ring.save(state, |bucket| bucket.samples > 0);
        state.put(&WEIGHTS);
        recorded.weights.save(state);
    }

    /// Adds saved samples.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let Recorded { ring, weights } = &mut *lock(&self.recorded);
        ring.restore(state, |bucket, saved| {
            bucket.add(&saved);
            Ok(())
        })?;
        if state.is_empty() {
            return Ok(());
        }
        let mut after_tag = *state;
        if after_tag.take::<u64>()? != WEIGHTS {
            return weights.restore_many(state, UNITS);
        }
        *state = after_tag;
        weights.restore(state)
    }

    /// Returns the weights of good and bad samples in a window, rounded to whole samples of weight 1. As evidence that is at most the
    /// effective sample size, since no weight is above 1.
    pub fn counts(&self, window: Window, now: Timestamp) -> Counts {
        let weights = &mut lock(&self.recorded).weights;
        weights.reach(window);
        let Counts { good, bad } = weights.sum_over(window, now);
        let rounded = |units: u64| (units + UNITS / 2) / UNITS;
        Counts { good: rounded(good), bad: rounded(bad) }
    }

    /// Returns the reading of the window that ends at `now`.
    pub fn reading(&self, now: Timestamp) -> SliReading {
        let ring = &lock(&self.recorded).ring;
        let mut sum = Bucket::default();
        ring.window(self.spec.window.duration(), now).for_each(|bucket| sum.add(bucket));
        let value = (sum.weight > 0.0).then(|| sum.hit_weight / sum.weight);
        let effective = if sum.squares > 0.0 { sum.weight * sum.weight / sum.squares } else { 0.0 };
        SliReading {
            value,
            compliance: value.map(|ratio| if self.spec.direction == Direction::AtLeast { ratio } else { 1.0 - ratio }),
            samples: sum.samples,
            interval: value.and_then(|ratio| wilson_interval(ratio * effective, effective)),
            maximum: None,
            deviation: None,
            percentiles: None,
            dropped: ring.dropped(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_are_an_ordinary_ratio() {
        let series = WeightedRatioSeries::new(SliSpec::ratio_at_most("x", 0.05, Window::DAY).unwrap());
        let now = Timestamp::from_secs(1_790_000_000);
        for sample in 0..10 {
            series.record(now, sample < 2, 0.5);
        }
        let reading = series.reading(now);
        assert_eq!((reading.value, reading.samples), (Some(0.2), 10));
        let (low, high) = wilson_interval(2.0, 10.0).unwrap();
        let found = reading.interval.unwrap();
        assert!((found.0 - low).abs() < 1e-12 && (found.1 - high).abs() < 1e-12);
    }

    #[test]
    fn samples_count_as_much_as_their_weight() {
        let at_most = |target| WeightedRatioSeries::new(SliSpec::ratio_at_most("x", target, Window::DAY).unwrap());
        let now = Timestamp::from_secs(1_790_000_000);
        let counts = |series: &WeightedRatioSeries| series.counts(Window::HOUR, now);
        let unsure = at_most(0.05);
        (0..100).for_each(|_| unsure.record(now, true, 0.4));
        assert_eq!(counts(&unsure), Counts { good: 0, bad: 40 });
        let mixed = at_most(0.05);
        (0..100).for_each(|_| mixed.record(now, true, 0.45));
        (0..100).for_each(|_| mixed.record(now, false, 0.55));
        assert_eq!(counts(&mixed), Counts { good: 55, bad: 45 });
        let (restored, mut state) = (at_most(0.05), StateWriter::default());
        mixed.save(&mut state);
        restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        assert_eq!(counts(&restored), counts(&mixed));
    }

    #[test]
    fn a_sample_of_low_weight_counts_less() {
        let series = WeightedRatioSeries::new(SliSpec::ratio_at_most("x", 0.05, Window::DAY).unwrap());
        let now = Timestamp::from_secs(1_790_000_000);
        series.record(now, true, 0.25);
        series.record(now, false, 0.75);
        series.record(now, true, f64::NAN);
        assert_eq!(series.reading(now).value, Some(0.25));
        assert_eq!((series.reading(now).samples, series.reading(now).dropped), (2, 1));
    }
}
