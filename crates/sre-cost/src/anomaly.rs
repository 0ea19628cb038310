//! Detection of unusual costs: a single one far above an agent's others, or too many in a minute.

use sre_core::{CostAlertKind, Usd};

/// An agent's most recent costs, which a new cost is compared with before it is added.
///
/// The score is the modified z-score of B. Iglewicz and D. C. Hoaglin ("How to Detect and Handle Outliers", 1993): the
/// distance from the median in standard deviations, as estimated from the median absolute deviation. So that costs which
/// hardly vary raise no alert for a trifle, a standard deviation is at least a tenth of the median.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// A cost above this is an anomaly, in nano-dollars.
    threshold: i64,
    /// The newest costs, not yet in `costs`. Stored inline, so that most charges do not touch the heap.
    newest: [f32; BATCH],
    newest_len: u8,
    /// The number of costs ever moved to `costs`; modulo `SIZE`, the index of the oldest.
    count: u16,
    costs: Box<[f32; SIZE]>,
}

const SIZE: usize = 64;
/// How many costs are moved from `newest` to `costs` at once.
const BATCH: usize = 8;
/// After how many costs the threshold is computed, for the first time and again.
const UPDATE_INTERVAL: u16 = 32;
/// A cost with a higher score is an anomaly.
const MAX_SCORE: f64 = 3.5;
/// The inverse of the 0.75 quantile of the standard normal distribution.
const MAD_TO_SIGMA: f64 = 1.0 / 0.674_489_750_196_081_7;
/// The minimum standard deviation, as a share of the median.
const MIN_SIGMA: f64 = 0.1;

impl Default for Baseline {
    fn default() -> Self {
        Self { threshold: i64::MAX, newest: [0.0; BATCH], newest_len: 0, count: 0, costs: Box::new([0.0; SIZE]) }
    }
}

impl Baseline {
    /// Returns whether a cost is an anomaly.
    #[inline]
    pub(crate) fn is_exceeded_by(&self, cost: Usd) -> bool {
        cost.nanos() > self.threshold
    }

    #[inline]
    pub(crate) fn add(&mut self, cost: Usd) {
        self.newest[usize::from(self.newest_len) % BATCH] = cost.as_dollars() as f32;
        self.newest_len += 1;
        if usize::from(self.newest_len) == BATCH {
            self.add_batch();
        }
    }

    #[cold]
    fn add_batch(&mut self) {
        let start = usize::from(self.count) % SIZE;
        self.costs[start..start + BATCH].copy_from_slice(&self.newest);
        self.newest_len = 0;
        self.count += BATCH as u16;
        // Once `costs` is full, only the count modulo `SIZE` matters.
        if usize::from(self.count) == 2 * SIZE {
            self.count = SIZE as u16;
        }
        if self.count.is_multiple_of(UPDATE_INTERVAL) {
            let (median, sigma) = self.median_and_sigma();
            self.threshold = ((median + MAX_SCORE * sigma) * 1e9).min(i64::MAX as f64) as i64;
        }
    }

    /// Returns the alert for a cost that exceeds the threshold, before it is added.
    pub(crate) fn alert(&self, cost: Usd) -> CostAlertKind {
        let (median, sigma) = self.median_and_sigma();
        let score = (sigma > 0.0).then(|| (cost.as_dollars() - median) / sigma);
        CostAlertKind::Anomaly { cost_usd: cost, score, median_usd: rounded(median) }
    }

    fn median_and_sigma(&self) -> (f64, f64) {
        let mut costs = *self.costs;
        let costs = &mut costs[..usize::from(self.count).min(SIZE)];
        let center = median(costs);
        costs.iter_mut().for_each(|cost| *cost = (*cost - center as f32).abs());
        (center, (median(costs) * MAD_TO_SIGMA).max(center * MIN_SIGMA))
    }
}

/// Returns the median of non-negative values, or 0 if there are none. Reorders them.
fn median(values: &mut [f32]) -> f64 {
    let half = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let is_even = values.len().is_multiple_of(2);
    // The bits of non-negative floats compare like the floats, as integers and faster.
    let (below, middle, _) = values.select_nth_unstable_by_key(half, |value| value.to_bits());
    let middle = f64::from(*middle);
    if is_even { (middle + f64::from(below.iter().copied().fold(f32::MIN, f32::max))) / 2.0 } else { middle }
}

/// Rounds to seven digits, the precision of an `f32`.
fn rounded(dollars: f64) -> Usd {
    format!("{dollars:.6e}").parse().unwrap_or_default()
}

/// What an agent spends per minute, compared with its other active minutes: an agent in a loop shows within a minute, not only
/// at its daily limit. The comparison is with a median of 30 active minutes, so a loop counts as usual only after 15.
#[derive(Debug, Default)]
pub(crate) struct SpendRate {
    minute: i64,
    spent: i64,
    is_reported: bool,
    /// What was spent in the most recent active minutes, in dollars.
    minutes: Box<[f32; MINUTES]>,
    count: u32,
    /// Spending more than this in a minute is a runaway, in nano-dollars.
    threshold: i64,
}

const MINUTES: usize = 30;
/// How many active minutes must be known.
const MIN_MINUTES: u32 = 5;
/// A runaway spends at least this multiple of the median per minute …
const RUNAWAY_FACTOR: f64 = 10.0;
/// … and the daily limit divided by this.
const RUNAWAY_DIVISOR: i64 = 200;

impl SpendRate {
    /// Adds what was spent in a minute, numbered from any epoch. Returns true once per minute if it is a runaway.
    #[inline]
    pub(crate) fn add(&mut self, minute: i64, cost: Usd, daily_limit: Usd) -> bool {
        if minute > self.minute {
            self.start_minute(minute, daily_limit);
        }
        self.spent = self.spent.saturating_add(cost.nanos());
        let is_new = self.spent > self.threshold && !self.is_reported;
        self.is_reported |= is_new;
        is_new
    }

    /// Returns the alert for the current minute.
    pub(crate) fn alert(&self) -> CostAlertKind {
        CostAlertKind::Runaway { minute_usd: Usd::from_nanos(self.spent), usual_usd: rounded(self.median()) }
    }

    #[cold]
    fn start_minute(&mut self, minute: i64, daily_limit: Usd) {
        if self.spent > 0 {
            self.minutes[self.count as usize % MINUTES] = Usd::from_nanos(self.spent).as_dollars() as f32;
            self.count += 1;
            if self.count >= 2 * MINUTES as u32 {
                self.count -= MINUTES as u32;
            }
        }
        (self.minute, self.spent, self.is_reported) = (minute, 0, false);
        self.threshold = if self.count < MIN_MINUTES {
            i64::MAX
        } else {
            ((self.median() * RUNAWAY_FACTOR * 1e9) as i64).max(daily_limit.nanos() / RUNAWAY_DIVISOR)
        };
    }

    fn median(&self) -> f64 {
        let mut minutes = *self.minutes;
        median(&mut minutes[..(self.count as usize).min(MINUTES)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(dollars: f64) -> Usd {
        Usd::try_from(dollars).unwrap()
    }

    /// By the definition, over a sorted list.
    fn threshold_by_hand(costs: &[f32]) -> Option<f64> {
        let seen = costs.len() / usize::from(UPDATE_INTERVAL) * usize::from(UPDATE_INTERVAL);
        let known = &costs[seen.saturating_sub(SIZE)..seen];
        if seen == 0 {
            return None;
        }
        let middle_of = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
        };
        let middle = middle_of(known.iter().map(|cost| f64::from(*cost)).collect());
        let deviation = middle_of(known.iter().map(|cost| f64::from((*cost - middle as f32).abs())).collect());
        Some(middle + MAX_SCORE * (deviation / 0.674_489_750_196_081_7).max(middle * MIN_SIGMA))
    }

    proptest! {
        #[test]
        fn the_threshold_is_the_definitions(nanos in prop::collection::vec(0i64..5_000_000_000, 0..300)) {
            let mut baseline = Baseline::default();
            let mut costs = Vec::new();
            for nanos in nanos {
                let cost = Usd::from_nanos(nanos);
                baseline.add(cost);
                costs.push(cost.as_dollars() as f32);
                match threshold_by_hand(&costs) {
                    None => prop_assert_eq!(baseline.threshold, i64::MAX),
                    Some(threshold) => prop_assert!((baseline.threshold as f64 / 1e9 - threshold).abs() < 1e-6 * threshold.max(1.0)),
                }
            }
        }
    }

    #[test]
    fn an_outlier_is_an_anomaly_and_a_trifle_is_not() {
        let mut baseline = Baseline::default();
        for number in 0..40 {
            baseline.add(usd(0.10 + 0.001 * f64::from(number % 5)));
        }
        assert!(usd(0.12).nanos() <= baseline.threshold, "a deviation is at least a tenth of the median");
        assert!(usd(0.20).nanos() > baseline.threshold);
        let CostAlertKind::Anomaly { score, median_usd, .. } = baseline.alert(usd(1.0)) else { panic!("an anomaly") };
        assert_eq!(median_usd.to_string(), "0.102");
        assert!((score.unwrap() - (1.0 - 0.102) / 0.0102).abs() < 0.01, "{score:?}");
    }

    #[test]
    fn a_loop_is_detected_within_a_minute() {
        let mut rate = SpendRate::default();
        let daily = usd(100.0);
        for minute in 1..=20 {
            for _ in 0..4 {
                assert!(!rate.add(minute * 3, usd(0.05), daily));
            }
        }
        let mut alerts = Vec::new();
        for _ in 0..200 {
            if rate.add(100, usd(0.05), daily) {
                alerts.push(rate.alert());
            }
        }
        let [CostAlertKind::Runaway { minute_usd, usual_usd }] = &alerts[..] else { panic!("{alerts:?}") };
        assert_eq!((minute_usd.to_string(), usual_usd.to_string()), ("2.05".to_owned(), "0.2".to_owned()));
        // It is reported again in each minute, until it has become usual.
        let reported = (101..140).filter(|minute| (0..200).any(|_| rate.add(*minute, usd(0.05), daily))).count();
        assert!((10..=15).contains(&reported), "{reported}");
        // Without history, only the limits apply.
        assert!(!SpendRate::default().add(1, usd(50.0), daily));
    }
}
