//! Costs that are unlike an agent's others: one that is far too high, and too many in a minute.

use sre_core::{CostAlertKind, Usd};

/// An agent's last costs. A new one is judged by those before it, never by itself.
///
/// The score is the modified z-score of B. Iglewicz and D. C. Hoaglin ("How to Detect and Handle Outliers", 1993): the
/// distance from the median, in standard deviations as the median absolute deviation estimates them. Where costs hardly vary
/// that would cry out at trifles, so a deviation is at least a tenth of the median.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// A cost above this is an anomaly, in nano-dollars.
    above: i64,
    /// The newest costs, which are not among the others yet: these lie where the account lies, the others somewhere else.
    newest: [f32; STEP],
    count: u8,
    /// How many of `costs` there are, and which is the oldest.
    known: u16,
    costs: Box<[f32; SIZE]>,
}

const SIZE: usize = 64;
/// Costs are moved to the others so many at a time.
const STEP: usize = 8;
/// The threshold is made anew with every so many costs, and for the first time when there are so many.
const LEARN: u16 = 32;
/// The score from which on it is one.
const SCORE: f64 = 3.5;
/// 0.6745 is the 0.75 quantile of the standard normal distribution: a deviation is the median one divided by it.
const MAD_TO_SIGMA: f64 = 1.0 / 0.674_489_750_196_081_7;
const LEAST_SIGMA: f64 = 0.1;

impl Default for Baseline {
    fn default() -> Self {
        Self { above: i64::MAX, newest: [0.0; STEP], count: 0, known: 0, costs: Box::new([0.0; SIZE]) }
    }
}

impl Baseline {
    /// Whether a cost is far above those before it.
    #[inline]
    pub(crate) fn is_exceeded_by(&self, cost: Usd) -> bool {
        cost.nanos() > self.above
    }

    /// Adds a cost to those that later ones are judged by.
    #[inline]
    pub(crate) fn add(&mut self, cost: Usd) {
        self.newest[usize::from(self.count) % STEP] = cost.as_dollars() as f32;
        self.count += 1;
        if usize::from(self.count) == STEP {
            self.learn();
        }
    }

    #[cold]
    fn learn(&mut self) {
        let place = usize::from(self.known) % SIZE;
        self.costs[place..place + STEP].copy_from_slice(&self.newest);
        self.count = 0;
        self.known += STEP as u16;
        // From there on it only says where the next ones go.
        if usize::from(self.known) == 2 * SIZE {
            self.known = SIZE as u16;
        }
        if self.known.is_multiple_of(LEARN) {
            let (median, sigma) = self.shape();
            self.above = ((median + SCORE * sigma) * 1e9).min(i64::MAX as f64) as i64;
        }
    }

    /// What to tell of a cost that exceeds it, before it is added.
    pub(crate) fn alert(&self, cost: Usd) -> CostAlertKind {
        let (median, sigma) = self.shape();
        let score = (sigma > 0.0).then(|| (cost.as_dollars() - median) / sigma);
        CostAlertKind::Anomaly { cost_usd: cost, score, median_usd: rounded(median) }
    }

    /// The median, and the standard deviation as estimated.
    fn shape(&self) -> (f64, f64) {
        let mut sorted = *self.costs;
        let known = &mut sorted[..usize::from(self.known).min(SIZE)];
        let middle = median(known);
        known.iter_mut().for_each(|cost| *cost = (*cost - middle as f32).abs());
        (middle, (median(known) * MAD_TO_SIGMA).max(middle * LEAST_SIGMA))
    }
}

/// The middle of the values, or the mean of the two in the middle; 0 without any. Puts them in another order.
fn median(values: &mut [f32]) -> f64 {
    let half = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let is_even = values.len().is_multiple_of(2);
    // As the bits of numbers that are not negative are in order, they can be compared as integers, which is faster.
    let (below, middle, _) = values.select_nth_unstable_by_key(half, |value| value.to_bits());
    let middle = f64::from(*middle);
    if is_even { (middle + f64::from(below.iter().copied().fold(f32::MIN, f32::max))) / 2.0 } else { middle }
}

/// To the seven digits that are known of it.
fn rounded(dollars: f64) -> Usd {
    format!("{dollars:.6e}").parse().unwrap_or_default()
}

/// What an agent spends a minute, against what it spends in the minutes in which it spends at all: a loop shows in minutes, and
/// not only at the day's limit. The usual is a median, so that a loop becomes it only after a quarter of an hour.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    minute: i64,
    spent: i64,
    is_told: bool,
    /// The last minutes in which it spent, in dollars.
    minutes: Box<[f32; MINUTES]>,
    count: u32,
    above: i64,
}

const MINUTES: usize = 30;
/// So many such minutes must be known.
const KNOWN: u32 = 5;
/// A runaway spends this many times the usual, and at least this part of the day's limit a minute.
const TIMES: f64 = 10.0;
const LEAST_SHARE: i64 = 200;

impl Pace {
    /// Adds what was spent in a minute, counted from whenever; true once a minute where it runs away.
    #[inline]
    pub(crate) fn add(&mut self, minute: i64, cost: Usd, daily: Usd) -> bool {
        if minute > self.minute {
            self.turn(minute, daily);
        }
        self.spent = self.spent.saturating_add(cost.nanos());
        let is_new = self.spent > self.above && !self.is_told;
        self.is_told |= is_new;
        is_new
    }

    /// What to tell of a minute that runs away.
    pub(crate) fn alert(&self) -> CostAlertKind {
        CostAlertKind::Runaway { minute_usd: Usd::from_nanos(self.spent), usual_usd: rounded(self.usual()) }
    }

    #[cold]
    fn turn(&mut self, minute: i64, daily: Usd) {
        if self.spent > 0 {
            self.minutes[self.count as usize % MINUTES] = Usd::from_nanos(self.spent).as_dollars() as f32;
            self.count += 1;
            if self.count >= 2 * MINUTES as u32 {
                self.count -= MINUTES as u32;
            }
        }
        (self.minute, self.spent, self.is_told) = (minute, 0, false);
        self.above = if self.count < KNOWN {
            i64::MAX
        } else {
            ((self.usual() * TIMES * 1e9) as i64).max(daily.nanos() / LEAST_SHARE)
        };
    }

    fn usual(&self) -> f64 {
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
        let seen = costs.len() / usize::from(LEARN) * usize::from(LEARN);
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
        Some(middle + SCORE * (deviation / 0.674_489_750_196_081_7).max(middle * LEAST_SIGMA))
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
                    None => prop_assert_eq!(baseline.above, i64::MAX),
                    Some(threshold) => prop_assert!((baseline.above as f64 / 1e9 - threshold).abs() < 1e-6 * threshold.max(1.0)),
                }
            }
        }
    }

    #[test]
    fn an_outlier_is_told_and_a_trifle_is_not() {
        let mut baseline = Baseline::default();
        for number in 0..40 {
            baseline.add(usd(0.10 + 0.001 * f64::from(number % 5)));
        }
        assert!(usd(0.12).nanos() <= baseline.above, "a deviation is at least a tenth of the median");
        assert!(usd(0.20).nanos() > baseline.above);
        let CostAlertKind::Anomaly { score, median_usd, .. } = baseline.alert(usd(1.0)) else { panic!("an anomaly") };
        assert_eq!(median_usd.to_string(), "0.102");
        assert!((score.unwrap() - (1.0 - 0.102) / 0.0102).abs() < 0.01, "{score:?}");
    }

    #[test]
    fn a_loop_shows_in_a_minute() {
        let mut pace = Pace::default();
        let daily = usd(100.0);
        for minute in 1..=20 {
            for _ in 0..4 {
                assert!(!pace.add(minute * 3, usd(0.05), daily));
            }
        }
        let mut told = Vec::new();
        for _ in 0..200 {
            if pace.add(100, usd(0.05), daily) {
                told.push(pace.alert());
            }
        }
        let [CostAlertKind::Runaway { minute_usd, usual_usd }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((minute_usd.to_string(), usual_usd.to_string()), ("2.05".to_owned(), "0.2".to_owned()));
        // It is told again in the next minute, until what it does has become usual.
        let told = (101..140).filter(|minute| (0..200).any(|_| pace.add(*minute, usd(0.05), daily))).count();
        assert!((10..=15).contains(&told), "{told}");
        // An agent without history is held by its limits alone.
        assert!(!Pace::default().add(1, usd(50.0), daily));
    }
}
