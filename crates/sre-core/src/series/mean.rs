use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::FORMAT;
use super::ring::Ring;
use crate::{SliReading, SliSpec, StateError, StateReader, StateWriter, Timestamp, Unit, lock};

/// The mean and maximum of samples over a rolling window.
///
/// A bucket is a 120th of the window. Memory is about 6 KiB, independent of the number of samples.
#[derive(Debug)]
pub struct MeanSeries {
    spec: SliSpec,
    recorded: Mutex<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    ring: Ring<Bucket>,
    /// The same samples, squared. Those that version 0.1.0 has saved are missing.
    squares: Ring<Squares>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Squares {
    samples: u64,
    sum: f64,
}

impl Squares {
    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.sum += other.sum;
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bucket {
    samples: u64,
    met: u64,
    sum: f64,
    maximum: f64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { samples: 0, met: 0, sum: 0.0, maximum: f64::NEG_INFINITY }
    }
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.met += other.met;
        self.sum += other.sum;
        self.maximum = self.maximum.max(other.maximum);
    }
}

impl MeanSeries {
    /// Creates an empty series.
    pub fn new(spec: SliSpec) -> Self {
        let window = spec.window.duration();
        let (ring, squares) = (Ring::covering(window, 120), Ring::covering(window, 120));
        Self { spec, recorded: Mutex::new(Recorded { ring, squares }) }
    }

    /// Returns the specification: name, target, unit and window.
    pub fn spec(&self) -> &SliSpec {
        &self.spec
    }

    /// Records a sample. NaN and infinite samples are dropped and counted, and so are negative times and amounts of money.
    pub fn record(&self, time: Timestamp, sample: f64) {
        let Recorded { ring, squares } = &mut *lock(&self.recorded);
        if !sample.is_finite() || (sample < 0.0 && matches!(self.spec.unit, Unit::Milliseconds | Unit::Usd)) {
            ring.drop_invalid();
            return;
        }
        if let (Some(bucket), Some(square)) = (ring.slot(time), squares.slot(time)) {
            square.add(&Squares { samples: 1, sum: sample * sample });
            bucket.samples += 1;
            bucket.met += u64::from(self.spec.is_met_by(sample));
            bucket.sum += sample;
            bucket.maximum = bucket.maximum.max(sample);
        }
    }

    /// Saves the samples.
    pub fn save(&self, state: &mut StateWriter) {
        let recorded = lock(&self.recorded);
        state.put(&FORMAT);
        recorded.ring.save(state, |bucket| bucket.samples > 0);
        recorded.squares.save(state, |square| square.samples > 0);
    }

    /// Adds saved samples.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let Recorded { ring, squares } = &mut *lock(&self.recorded);
        let add = |bucket: &mut Bucket, saved: Bucket| {
            bucket.add(&saved);
            Ok(())
        };
        let first: u64 = state.take()?;
        if first != FORMAT {
            return ring.restore_after(first, state, add);
        }
        ring.restore(state, add)?;
        squares.restore(state, |square, saved| {
            square.add(&saved);
            Ok(())
        })
    }

    /// Returns the reading of the window that ends at `now`.
    pub fn reading(&self, now: Timestamp) -> SliReading {
        let Recorded { ring, squares } = &*lock(&self.recorded);
        let mut all = Bucket::default();
        ring.window(self.spec.window.duration(), now).for_each(|bucket| all.add(bucket));
        let any = all.samples > 0;
        let count = all.samples as f64;
        let mut squared = Squares::default();
        squares.window(self.spec.window.duration(), now).for_each(|square| squared.add(square));
        let deviation = (all.samples > 1 && squared.samples == all.samples)
            .then(|| ((squared.sum - all.sum * all.sum / count) / (count - 1.0)).max(0.0).sqrt());
        SliReading {
            value: any.then(|| all.sum / count),
            compliance: any.then(|| all.met as f64 / count),
            samples: all.samples,
            interval: None,
            maximum: any.then_some(all.maximum),
            deviation,
            percentiles: None,
            dropped: ring.dropped(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Window;

    #[test]
    fn the_mean_the_maximum_and_the_share_that_met_the_target() {
        let series = MeanSeries::new(SliSpec::count_at_most("depth", 3, Window::DAY));
        let start = Timestamp::from_secs(1_790_000_000);
        assert_eq!(series.reading(start), SliReading::default());
        for sample in [1.0, 2.0, 3.0, 6.0, f64::NAN] {
            series.record(start, sample);
        }
        let reading = series.reading(start);
        assert_eq!((reading.value, reading.compliance, reading.maximum), (Some(3.0), Some(0.75), Some(6.0)));
        let deviation = reading.deviation.unwrap();
        assert!((deviation - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12, "{deviation}");
        let later = start.saturating_add(Window::days(2).duration());
        assert_eq!(series.reading(later).samples, 0);
        series.record(later, 1.0);
        series.record(start, 1.0);
        assert_eq!((series.reading(later).samples, series.reading(later).dropped), (1, 2), "one is NaN, one too late");
    }
}
