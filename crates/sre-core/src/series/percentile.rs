use std::sync::{LazyLock, Mutex};

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::history::History;
use super::ring::Ring;
use crate::{
    ExponentialHistogram, InvalidSli, Percentiles, SliReading, SliSpec, StateError, StateReader, StateWriter,
    Timestamp, Unit, Window, lock,
};

/// Percentiles of samples over a rolling window, such as p95 of a latency.
///
/// Samples are counted in bins whose edges grow by γ = 1.01 / 0.99, so that percentiles have a relative error of at most 1 %
/// (DDSketch: Masson, Rim, Lee, VLDB 2019) from 0.1 to 10⁷; samples outside are clamped. A bucket is a tenth of the window and
/// holds only the bins in use: at most 40 KiB in total, usually a tenth of that.
///
/// ```
/// use sre_core::{Unit, PercentileSeries, SliSpec, Timestamp, Window};
/// let latency = SliSpec::at_most("latency", 500.0, Unit::Milliseconds, Window::HOUR).unwrap();
/// let series = PercentileSeries::new(latency, 0.95).unwrap();
/// let now = Timestamp::from_secs(1_790_000_000);
/// for ms in 1..=100 {
///     series.record(now, f64::from(ms));
/// }
/// let p95 = series.reading(now).value.unwrap();
/// assert!((p95 / 95.0 - 1.0).abs() <= 0.01);
/// ```
#[derive(Debug)]
pub struct PercentileSeries {
    spec: SliSpec,
    percentile: f64,
    recorded: Mutex<Recorded>,
    /// The exponential bucket of each bin.
    buckets: &'static [u16; BINS],
}

#[derive(Debug)]
struct Recorded {
    ring: Ring<Sketch>,
    /// The samples that met the target, and the others.
    counts: History,
    /// Counts of all samples since the series began, by [`exponential_buckets`]; empty before the first sample.
    total: Vec<u64>,
    sum: f64,
}

const SLICES: usize = 10;
const SMALLEST: f64 = 0.1;
const LARGEST: f64 = 1e7;
/// ln(1.01 / 0.99)
const LN_GAMMA: f64 = 0.020_000_666_706_669_543;
const PER_LN: f64 = 1.0 / LN_GAMMA;
/// ln(0.1) / ln γ, so that the smallest value falls into bin 0.
const OFFSET: f64 = -115.125_416_960_395;
const BINS: usize = 923;
/// The resolution of the exponential histogram, and the number of its buckets that the bins span.
const SCALE: i32 = 4;
const EXPONENTIAL_BUCKETS: usize = 427;

/// Counts of a range of adjacent bins, and of the samples that met the target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sketch {
    first: usize,
    bins: Vec<u32>,
    met: u64,
    samples: u64,
    maximum: f64,
}

impl PercentileSeries {
    /// Creates an empty series whose value is the `percentile`: above 0 and up to 1, 0.95 for p95.
    ///
    /// # Errors
    ///
    /// Returns an error for any other percentile.
    pub fn new(spec: SliSpec, percentile: f64) -> Result<Self, InvalidSli> {
        let spec = spec.with_percentile(percentile)?;
        let counts = History::covering(spec.window, spec.window);
        let ring = Ring::covering(spec.window.duration(), SLICES);
        let buckets = exponential_buckets(spec.unit);
        let recorded = Mutex::new(Recorded { ring, counts, total: Vec::new(), sum: 0.0 });
        Ok(Self { spec, percentile, recorded, buckets })
    }

    /// Prepares the counts for windows from `shortest` to `longest`, besides its own; see
    /// [`RollingCounts::cover`](crate::RollingCounts::cover).
    pub fn cover(&self, shortest: Window, longest: Window) {
        lock(&self.recorded).counts.cover(shortest, longest);
    }

    /// Returns the specification: name, target, unit and window.
    pub fn spec(&self) -> &SliSpec {
        &self.spec
    }

    /// Records a sample. Negative, NaN and infinite samples are dropped and counted.
    #[inline]
    pub fn record(&self, time: Timestamp, sample: f64) {
        if !(0.0..f64::INFINITY).contains(&sample) {
            lock(&self.recorded).ring.drop_invalid();
            return;
        }
        let met = self.spec.is_met_by(sample);
        let Recorded { ring, counts, total, sum } = &mut *lock(&self.recorded);
        counts.record(time, met);
        if let Some(sketch) = ring.slot(time) {
            let bin = bin_of(sample);
            sketch.add(bin, sample, met);
            if total.is_empty() {
                *total = vec![0; EXPONENTIAL_BUCKETS];
            }
            total[usize::from(self.buckets[bin])] += 1;
            *sum += sample;
        }
    }

    /// Saves the samples.
    pub fn save(&self, state: &mut StateWriter) {
        let recorded = lock(&self.recorded);
        recorded.ring.save(state, |sketch| sketch.samples > 0);
        state.put(&(&recorded.total, recorded.sum));
        recorded.counts.save(state);
    }

    /// Adds saved samples.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        let recorded = &mut *lock(&self.recorded);
        recorded.ring.restore(state, Sketch::merge)?;
        let (total, sum): (Vec<u64>, f64) = state.take()?;
        if !matches!(total.len(), 0 | EXPONENTIAL_BUCKETS) {
            return Err(StateError::new(format!("found {} buckets", total.len())));
        }
        recorded.total.resize(total.len().max(recorded.total.len()), 0);
        recorded.total.iter_mut().zip(total).for_each(|(count, more)| *count += more);
        recorded.sum += sum;
        if !state.is_empty() {
            return recorded.counts.restore(state);
        }
        // Version 0.1.0 had only those of each slice.
        let Recorded { ring, counts, .. } = recorded;
        for (start, sketch) in ring.buckets().filter(|(_, sketch)| sketch.samples > 0) {
            let start = start.div_euclid(counts.resolution()).saturating_mul(counts.resolution());
            counts.add(start, Counts { good: sketch.met, bad: sketch.samples.saturating_sub(sketch.met) });
        }
        Ok(())
    }

    /// Returns the numbers of samples in a window that met the target, and that did not.
    pub fn counts(&self, window: Window, now: Timestamp) -> Counts {
        let counts = &mut lock(&self.recorded).counts;
        counts.reach(window);
        counts.sum_over(window, now)
    }

    /// Returns the reading of the window that ends at `now`. Samples and compliance are those of
    /// [`counts`](Self::counts). The value is within 1 % of that of a window which begins up to a tenth earlier.
    pub fn reading(&self, now: Timestamp) -> SliReading {
        let merged = self.merged(self.spec.window, now);
        let counts = self.counts(self.spec.window, now);
        SliReading {
            // The oldest slice of the distribution may be older than the window.
            value: merged.percentile(self.percentile).filter(|_| counts.total() > 0),
            compliance: counts.success_ratio(),
            samples: counts.total(),
            interval: None,
            maximum: (counts.total() > 0).then_some(merged.maximum),
            deviation: None,
            percentiles: merged.percentiles(),
            dropped: merged.dropped,
        }
    }

    /// Returns a percentile (above 0 and up to 1) over any window up to the indicator's own; `None` without samples.
    pub fn percentile(&self, percentile: f64, window: Window, now: Timestamp) -> Option<f64> {
        self.merged(window, now).percentile(percentile)
    }

    /// Returns the distribution of every sample since the series began, in base units (seconds, not milliseconds). A sample
    /// is counted in the bucket of a value that is within 1 % of it. The resolution is 4: 16 buckets for each doubling.
    pub fn histogram(&self) -> ExponentialHistogram {
        let factor = base_factor(self.spec.unit);
        let recorded = lock(&self.recorded);
        let mut histogram = ExponentialHistogram::new(SCALE);
        let counts = recorded.total.iter().enumerate().filter(|(_, count)| **count > 0);
        for (bucket, count) in counts {
            histogram.count_in_bucket(lowest_bucket(factor) + bucket as i32, *count);
        }
        histogram.sum = recorded.sum * factor;
        histogram
    }

    fn merged(&self, window: Window, now: Timestamp) -> Merged {
        let ring = &lock(&self.recorded).ring;
        let mut merged = Merged { bins: [0; BINS], met: 0, samples: 0, maximum: 0.0, dropped: ring.dropped() };
        for sketch in ring.window(window.duration(), now) {
            merged.met += sketch.met;
            merged.samples += sketch.samples;
            merged.maximum = merged.maximum.max(sketch.maximum);
            for (sum, &count) in merged.bins[sketch.first..].iter_mut().zip(&sketch.bins) {
                *sum += u64::from(count);
            }
        }
        merged
    }
}

impl Sketch {
    #[inline]
    fn add(&mut self, bin: usize, sample: f64, met: bool) {
        match bin.checked_sub(self.first).and_then(|index| self.bins.get_mut(index)) {
            Some(count) => *count = count.saturating_add(1),
            None => self.grow_to(bin),
        }
        self.samples += 1;
        self.met += u64::from(met);
        self.maximum = self.maximum.max(sample);
    }

    fn merge(&mut self, other: Self) -> Result<(), StateError> {
        let end = other.first.checked_add(other.bins.len()).filter(|end| *end <= BINS);
        let end = end.ok_or_else(|| StateError::new(format!("found more than {BINS} bins")))?;
        for bin in [other.first, end.saturating_sub(1)] {
            if bin.checked_sub(self.first).is_none_or(|index| index >= self.bins.len()) {
                self.extend_to(bin);
            }
        }
        for (count, more) in self.bins[other.first - self.first..].iter_mut().zip(&other.bins) {
            *count = count.saturating_add(*more);
        }
        self.samples += other.samples;
        self.met += other.met;
        self.maximum = self.maximum.max(other.maximum);
        Ok(())
    }

    #[cold]
    fn grow_to(&mut self, bin: usize) {
        self.extend_to(bin);
        self.bins[bin - self.first] += 1;
    }

    /// Extends the range to include `bin`, in steps of a sixteenth of all bins.
    fn extend_to(&mut self, bin: usize) {
        const STEP: usize = BINS.div_ceil(16);
        let low = bin / STEP * STEP;
        let (first, end) = if self.bins.is_empty() {
            (low, low + STEP)
        } else {
            (self.first.min(low), (self.first + self.bins.len()).max(low + STEP))
        };
        let mut bins = vec![0; end.min(BINS) - first];
        bins[self.first.saturating_sub(first)..][..self.bins.len()].copy_from_slice(&self.bins);
        (self.first, self.bins) = (first, bins);
    }
}

struct Merged {
    bins: [u64; BINS],
    met: u64,
    samples: u64,
    maximum: f64,
    dropped: u64,
}

impl Merged {
    fn percentiles(&self) -> Option<Percentiles> {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|percentile| self.percentile(percentile));
        Some(Percentiles { p50: p50?, p95: p95?, p99: p99? })
    }

    /// Returns the sample of rank ⌈p·n⌉, within 1 %.
    fn percentile(&self, percentile: f64) -> Option<f64> {
        let counted: u64 = self.bins.iter().sum();
        if counted == 0 {
            return None;
        }
        let rank = ((percentile * counted as f64).ceil() as u64).clamp(1, counted);
        let mut seen = 0;
        let bin = self.bins.iter().position(|&count| {
            seen += count;
            seen >= rank
        })?;
        Some(value_of(bin).min(self.maximum))
    }
}

/// Returns the factor that converts a sample to base units.
fn base_factor(unit: Unit) -> f64 {
    if unit == Unit::Milliseconds { 1e-3 } else { 1.0 }
}

/// Returns the exponential bucket of each bin, counted from [`lowest_bucket`], for samples of that unit.
fn exponential_buckets(unit: Unit) -> &'static [u16; BINS] {
    fn table(factor: f64) -> [u16; BINS] {
        let histogram = ExponentialHistogram::new(SCALE);
        std::array::from_fn(|bin| (histogram.bucket_of(value_of(bin) * factor) - lowest_bucket(factor)) as u16)
    }
    static MILLISECONDS: LazyLock<[u16; BINS]> = LazyLock::new(|| table(1e-3));
    static PLAIN: LazyLock<[u16; BINS]> = LazyLock::new(|| table(1.0));
    if unit == Unit::Milliseconds { &MILLISECONDS } else { &PLAIN }
}

fn lowest_bucket(factor: f64) -> i32 {
    ExponentialHistogram::new(SCALE).bucket_of(SMALLEST * factor)
}

#[inline]
fn bin_of(sample: f64) -> usize {
    if sample <= SMALLEST {
        return 0;
    }
    // Bin i holds (γ^(i-1), γ^i] × SMALLEST.
    ((sample.min(LARGEST).ln() * PER_LN - OFFSET).ceil() as usize).min(BINS - 1)
}

/// Returns the value whose relative distance to both edges of the bin is 1 %.
fn value_of(bin: usize) -> f64 {
    if bin == 0 { SMALLEST } else { SMALLEST * (bin as f64 * LN_GAMMA).exp() * 0.99 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series() -> PercentileSeries {
        let spec = SliSpec::at_most("latency", 1000.0, Unit::Milliseconds, Window::HOUR).unwrap();
        PercentileSeries::new(spec, 0.95).unwrap()
    }

    #[test]
    fn the_bins_cover_the_documented_range() {
        assert!((LN_GAMMA - (1.01f64 / 0.99).ln()).abs() < 1e-15);
        assert!((OFFSET - SMALLEST.ln() / LN_GAMMA).abs() < 1e-6);
        let most = [Unit::Milliseconds, Unit::Count].map(|unit| exponential_buckets(unit).iter().max().unwrap() + 1);
        assert_eq!(most.iter().max(), Some(&(EXPONENTIAL_BUCKETS as u16)));
        assert_eq!(bin_of(LARGEST), BINS - 1);
        assert_eq!(bin_of(0.0), 0);
    }

    proptest! {
        #[test]
        fn any_percentile_is_within_one_percent_of_the_sample(
            samples in prop::collection::vec((-1.0f64..7.0).prop_map(|exponent| 10f64.powf(exponent)), 1..400),
            percentile in 0.01f64..=1.0,
        ) {
            let series = series();
            let now = Timestamp::from_secs(1_790_000_000);
            for &sample in &samples {
                series.record(now, sample);
            }
            let mut sorted = samples.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = (percentile * sorted.len() as f64).ceil().max(1.0) as usize;
            let exact = sorted[rank.min(sorted.len()) - 1];
            let found = series.percentile(percentile, Window::HOUR, now).unwrap();
            prop_assert!((found / exact - 1.0).abs() <= 0.010_000_1, "{} for {}", found, exact);
            let met = samples.iter().filter(|&&sample| sample <= 1000.0).count() as f64;
            prop_assert_eq!(series.reading(now).compliance, Some(met / samples.len() as f64));
        }
    }

    #[test]
    fn the_histogram_counts_everything_in_base_units() {
        let series = series();
        let start = Timestamp::from_secs(1_790_000_000);
        for (hours, ms) in [(0, 100.0), (5, 2_000.0), (10, 2_000.0)] {
            series.record(start.saturating_add(Window::hours(hours.max(1)).duration()), ms);
        }
        let histogram = series.histogram();
        assert_eq!((histogram.count, histogram.sum), (3, 4.1));
        let filled = (histogram.offset..).zip(&histogram.buckets).filter(|(_, count)| **count > 0);
        let bounds: Vec<_> = filled.map(|(index, count)| (histogram.upper_bound(index), *count)).collect();
        assert_eq!(bounds.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 2]);
        for ((bound, _), seconds) in bounds.iter().zip([0.1, 2.0]) {
            // A bucket is 2^(1/16) wide, and the value stands for samples within 1 %.
            assert!((0.989..=1.055).contains(&(bound / seconds)), "{bound} for {seconds}");
        }
    }

    #[test]
    fn samples_leave_the_window() {
        let series = series();
        let start = Timestamp::from_secs(1_790_000_000);
        series.record(start, 100.0);
        assert_eq!(series.reading(start.saturating_add(Window::HOUR.duration())).samples, 1);
        assert_eq!(series.reading(start.saturating_add(Window::hours(2).duration())).value, None);
    }

    #[test]
    fn every_bin_of_every_slice_stays_within_its_bound() {
        let series = series();
        for slice in 0..40 {
            let time = Timestamp::from_secs(1_790_000_000 + slice * 360);
            for bin in 0..BINS {
                series.record(time, value_of(bin));
            }
        }
        let recorded = series.recorded.lock().unwrap();
        let held: usize = recorded
            .ring
            .window(Window::days(1).duration(), Timestamp::from_secs(1_790_014_040))
            .map(|sketch| sketch.bins.capacity() * 4 + size_of::<Sketch>())
            .sum();
        assert!(held <= 42 * 1024, "{held}");
    }
}
