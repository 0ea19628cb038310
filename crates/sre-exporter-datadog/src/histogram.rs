use sre_core::ExponentialHistogram;

/// Subtracts what was recorded before; nothing if the source has restarted.
pub(crate) fn subtract(total: &mut ExponentialHistogram, before: &ExponentialHistogram) {
    if before.count > total.count || (before.count > 0 && before.scale < total.scale) {
        return;
    }
    // A histogram halves its resolution as its values spread.
    let shift = (before.scale - total.scale).clamp(0, 31);
    for (index, count) in (before.offset..).zip(&before.buckets) {
        let place = usize::try_from((index >> shift) - total.offset).ok();
        if let Some(bucket) = place.and_then(|place| total.buckets.get_mut(place)) {
            *bucket = bucket.saturating_sub(*count);
        }
    }
    total.zero_count = total.zero_count.saturating_sub(before.zero_count);
    total.count -= before.count;
    total.sum = (total.sum - before.sum).max(0.0);
}

/// Returns a quantile, to the middle of its bucket; `None` without values.
pub(crate) fn quantile(histogram: &ExponentialHistogram, ratio: f64) -> Option<f64> {
    let rank = (histogram.count as f64 * ratio).ceil().max(1.0) as u64;
    let mut seen = histogram.zero_count;
    if histogram.count > 0 && rank <= seen {
        return Some(0.0);
    }
    (histogram.offset..).zip(&histogram.buckets).find_map(|(index, count)| {
        seen += count;
        let bounds = [index - 1, index].map(|index| histogram.upper_bound(index));
        (rank <= seen).then(|| (bounds[0] * bounds[1]).sqrt())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(values: impl IntoIterator<Item = f64>) -> ExponentialHistogram {
        let mut histogram = ExponentialHistogram::new(5);
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    fn since(total: &ExponentialHistogram, before: &ExponentialHistogram) -> ExponentialHistogram {
        let mut recorded = total.clone();
        subtract(&mut recorded, before);
        recorded
    }

    #[test]
    fn quantiles_are_those_of_the_values_since() {
        let before = recorded([0.001, 0.0, 100.0]);
        let total = recorded([0.001, 0.0, 100.0].into_iter().chain((1..=100).map(f64::from)));
        for total in [total.clone(), total.with_at_most(100)] {
            let new = since(&total, &before);
            assert_eq!((new.count, new.zero_count, new.sum.round()), (100, 0, 5050.0));
            for (ratio, expected) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
                let found = quantile(&new, ratio).unwrap();
                assert!((found / expected - 1.0).abs() < 0.15, "{ratio}: {found}");
            }
        }
        assert_eq!(quantile(&since(&before, &before), 0.5), None);
        assert_eq!(quantile(&recorded([0.0, 0.0, 1.0]), 0.5), Some(0.0));
    }

    #[test]
    fn a_source_that_started_anew_counts_from_0() {
        let (before, total) = (recorded((1..=10).map(f64::from)), recorded([2.0]));
        assert_eq!(since(&total, &before), total);
    }
}
