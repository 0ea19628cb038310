//! Readings at random phases, compared with the samples themselves.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{SliSpec, Timestamp, Unit, Window, wilson_interval};

/// A sample: its age, in windows, and its value.
type Sample = (f64, f64);

/// Samples over one and a half windows, half of them at its start, where a bucket is counted or not.
fn samples() -> impl Strategy<Value = Vec<Sample>> {
    prop::collection::vec((prop_oneof![0.0..1.5, 0.97..1.03], 0.0..1.0), 1..200)
}

fn windows() -> impl Strategy<Value = Window> {
    prop::sample::select(vec!["1m", "7m", "1h", "24h", "30d"]).prop_map(|text| text.parse().unwrap())
}

/// Returns the end of the window and the time of each sample.
fn times(samples: &[Sample], window: Window, phase: f64) -> (Timestamp, Vec<Timestamp>) {
    let now = Timestamp::from_secs(1_790_000_000).saturating_add(window.duration().mul_f64(phase));
    let age = |share: f64| Duration::from_secs_f64(window.as_secs_f64() * share);
    (now, samples.iter().map(|(share, _)| now.saturating_sub(age(*share))).collect())
}

/// Returns whether the values of some window of 99 to 101 % of the length satisfy a condition.
fn any_window(samples: &[Sample], is_as_found: impl Fn(&[f64]) -> bool) -> bool {
    any_window_between(0.99, 1.01, samples, is_as_found)
}

/// Like [`any_window`], with other lengths, in windows.
fn any_window_between(from: f64, to: f64, samples: &[Sample], is_as_found: impl Fn(&[f64]) -> bool) -> bool {
    let mut newest_first = samples.to_vec();
    newest_first.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [least, most] = [from, to].map(|share| newest_first.partition_point(|(age, _)| *age <= share));
    let values: Vec<f64> = newest_first.iter().map(|(_, value)| *value).collect();
    (least..=most).any(|count| is_as_found(&values[..count]))
}

/// Returns whether a number is what was expected, but for rounding. Without samples neither exists.
fn is_close(found: Option<f64>, expected: f64) -> bool {
    found.map_or(expected.is_nan(), |found| (found - expected).abs() < 1e-9)
}

proptest! {
    #[test]
    fn a_mean_is_that_of_its_window(samples in samples(), window in windows(), phase in 0.0..1.0) {
        let series = MeanSeries::new(SliSpec::at_most("cost", 0.4, Unit::Usd, window).unwrap());
        let (now, times) = times(&samples, window, phase);
        times.iter().zip(&samples).for_each(|(time, (_, value))| series.record(*time, *value));
        let reading = series.reading(now);
        let is_as_found = any_window(&samples, |values| {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let met = values.iter().filter(|value| **value <= 0.4).count() as f64;
            let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { f64::NAN };
            reading.samples == values.len() as u64
                && is_close(reading.value, mean)
                && is_close(reading.compliance, met / count)
                && is_close(reading.deviation, deviation)
                && reading.maximum == values.iter().copied().reduce(f64::max)
        });
        prop_assert!(is_as_found, "{reading:?}");
    }

    #[test]
    fn a_weighted_ratio_is_that_of_its_window(samples in samples(), window in windows(), phase in 0.0..1.0) {
        let series = WeightedRatioSeries::new(SliSpec::ratio_at_most("refused", 0.1, window).unwrap());
        let (now, times) = times(&samples, window, phase);
        // A sample is a hit if its weight is in the lower half.
        times.iter().zip(&samples).for_each(|(time, (_, weight))| series.record(*time, *weight < 0.5, *weight));
        let reading = series.reading(now);
        let is_as_found = any_window(&samples, |weights| {
            let total: f64 = weights.iter().sum();
            let ratio = weights.iter().filter(|weight| **weight < 0.5).sum::<f64>() / total;
            let effective = total * total / weights.iter().map(|weight| weight * weight).sum::<f64>();
            let (low, high) = wilson_interval(ratio * effective, effective).unwrap_or((f64::NAN, f64::NAN));
            reading.samples == weights.len() as u64
                && is_close(reading.value, ratio)
                && is_close(reading.interval.map(|interval| interval.0), low)
                && is_close(reading.interval.map(|interval| interval.1), high)
        });
        prop_assert!(is_as_found, "{reading:?}");
    }

    #[test]
    fn the_counts_of_a_percentile_are_those_of_the_window(
        samples in samples(), window in windows(), phase in 0.0..1.0, own in windows(),
    ) {
        let series = PercentileSeries::new(SliSpec::at_most("latency", 0.4, Unit::Count, own).unwrap(), 0.95).unwrap();
        let (now, times) = times(&samples, window, phase);
        times.iter().zip(&samples).for_each(|(time, (_, value))| series.record(*time, *value));
        let found = series.counts(window, now);
        let is_as_found = any_window(&samples, |values| {
            let good = values.iter().filter(|value| **value <= 0.4).count() as u64;
            found == Counts { good, bad: values.len() as u64 - good }
        });
        prop_assert!(is_as_found, "{found:?}");
        if own == window {
            let reading = series.reading(now);
            prop_assert_eq!((reading.samples, reading.compliance), (found.total(), found.success_ratio()));
        }
    }

    #[test]
    fn a_percentile_lags_by_at_most_a_tenth_of_its_window(
        samples in samples(), window in windows(), phase in 0.0..1.0,
    ) {
        let series = PercentileSeries::new(SliSpec::at_most("size", 4.0, Unit::Count, window).unwrap(), 0.95).unwrap();
        let (now, times) = times(&samples, window, phase);
        times.iter().zip(&samples).for_each(|(time, (_, value))| series.record(*time, 1.0 + 9.0 * value));
        let found = series.reading(now).value;
        let is_as_found = any_window_between(0.99, 1.1, &samples, |values| {
            let mut sorted: Vec<f64> = values.iter().map(|value| 1.0 + 9.0 * value).collect();
            sorted.sort_by(f64::total_cmp);
            match (found, sorted.get((0.95 * sorted.len() as f64).ceil() as usize - usize::from(!sorted.is_empty()))) {
                (Some(found), Some(exact)) => (found / exact - 1.0).abs() <= 0.010_000_1,
                (found, exact) => found.is_none() && exact.is_none(),
            }
        });
        prop_assert!(is_as_found, "{found:?}");
    }
}
