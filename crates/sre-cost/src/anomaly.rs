//! Detection of unusual costs: a single one far above an agent's others, or too many in a minute.

use sre_core::{CostAlertKind, Timestamp, Usd};

/// Compares each cost of an agent, and what it spends in a minute, with its usual ones.
///
/// *A cost* is an anomaly if two conditions hold. Its modified z-score is high (B. Iglewicz and D. C. Hoaglin, "How to Detect and
/// Handle Outliers", 1993): the distance from the median in standard deviations, as estimated from the median absolute deviation.
/// So that costs which hardly vary raise no alert for a trifle, a standard deviation is at least a tenth of the median. And it is
/// more than twice the largest cost of the last four to eight weeks. Costs are skewed, and those of an agent that calls two models have
/// two peaks, so the score alone is often high. But whatever their distribution and rate, of n + 1 independent costs the last is the
/// largest with a probability of 1 / (n + 1): about once in the time that is looked back.
///
/// *A minute* is a runaway compared with the agent's other active minutes: an agent in a loop shows within a minute, not only at
/// its daily limit. The comparison is with a median of 30 active minutes, so a loop counts as usual only after 15.
///
/// This is what every charge reads and writes; [`UsualCosts`] is updated in batches.
#[derive(Debug)]
pub(crate) struct AnomalyDetector {
    /// A cost above this is an anomaly, in nano-dollars; `i64::MAX` while too little is known.
    max_cost: i64,
    /// Spending more than this in the rest of the minute is a runaway, in nano-dollars.
    left_in_minute: i64,
    /// Minutes since the Unix epoch.
    minute: u32,
    /// The number of costs; from 2 × `SIZE` it continues at `SIZE`.
    count: u16,
    /// The last `count % BATCH` costs, which are not in [`UsualCosts`] yet.
    newest: [f32; BATCH],
}

/// An agent's most recent costs, and what it spent in its most recent active minutes, in dollars.
#[derive(Debug)]
pub(crate) struct UsualCosts {
    /// Cost number `n` is at `n % SIZE`.
    costs: [f32; SIZE],
    minutes: [f32; MINUTES],
    minute_count: u32,
    /// Spending more than this in the current minute is a runaway, in nano-dollars; `i64::MAX` once it was reported.
    max_in_minute: i64,
    /// The largest cost of the current period, and of the one before.
    largest: [f32; 2],
    /// The number of the current period since the Unix epoch.
    period: u32,
    /// The minute in which the first costs were added.
    since: Option<u32>,
}

const SIZE: usize = 64;
/// How many costs are moved to [`UsualCosts`] at once.
const BATCH: usize = 4;
/// After how many costs the threshold is computed again.
const UPDATE_INTERVAL: u16 = 32;
/// A cost with a higher score is an anomaly …
const MAX_SCORE: f64 = 3.5;
/// … if it is more than this multiple of the largest …
const MAX_INCREASE: f64 = 2.0;
/// … once this number of costs is known, over this time in minutes: costs of a day have its hours' differences.
const MIN_COSTS: u16 = SIZE as u16;
const MIN_AGE: u32 = 24 * 60;
/// The inverse of the 0.75 quantile of the standard normal distribution.
const MAD_TO_SIGMA: f64 = 1.0 / 0.674_489_750_196_081_7;
/// The minimum standard deviation, as a share of the median.
const MIN_SIGMA: f64 = 0.1;

const MINUTE: i64 = 60_000_000_000;
/// How long the largest cost is kept at least, in minutes.
const PERIOD: u32 = 28 * 24 * 60;
const MINUTES: usize = 30;
/// How many active minutes must be known.
const MIN_MINUTES: u32 = 5;
/// A runaway spends at least this multiple of the median per minute …
const RUNAWAY_FACTOR: f64 = 10.0;
/// … and the daily limit divided by this.
const RUNAWAY_DIVISOR: i64 = 200;

impl Default for AnomalyDetector {
    fn default() -> Self {
        Self { max_cost: i64::MAX, left_in_minute: i64::MAX, minute: 0, count: 0, newest: [0.0; BATCH] }
    }
}

impl Default for UsualCosts {
    fn default() -> Self {
        let (costs, minutes, largest) = ([0.0; SIZE], [0.0; MINUTES], [0.0; 2]);
        Self { costs, minutes, minute_count: 0, max_in_minute: i64::MAX, largest, period: 0, since: None }
    }
}

impl AnomalyDetector {
    /// Returns whether a cost is an anomaly.
    #[inline]
    pub(crate) fn is_anomaly(&self, cost: Usd) -> bool {
        cost.nanos() > self.max_cost
    }

    /// Returns the alert for an anomaly, before it is added.
    pub(crate) fn alert(&self, cost: Usd, usual: &UsualCosts) -> CostAlertKind {
        let (median, sigma) = self.median_and_sigma(usual);
        let score = (sigma > 0.0).then(|| (cost.as_dollars() - median) / sigma);
        CostAlertKind::Anomaly { cost_usd: cost, score, median_usd: rounded(median) }
    }

    /// Adds a cost. Returns true once in a minute that is a runaway; `daily_limit` is in nano-dollars.
    #[inline]
    pub(crate) fn add(
        &mut self,
        cost: Usd,
        now: Timestamp,
        daily_limit: impl FnOnce() -> i64,
        usual: &mut UsualCosts,
    ) -> bool {
        let minute = (now.as_nanos() / MINUTE) as u32;
        self.newest[usize::from(self.count) % BATCH] = cost.as_dollars() as f32;
        self.count += 1;
        if self.max_cost < i64::MAX {
            // At once, so that an anomaly is reported once.
            self.max_cost = self.max_cost.max(nanos(cost.as_dollars() * MAX_INCREASE));
        }
        if usize::from(self.count).is_multiple_of(BATCH) {
            self.add_batch(minute, usual);
        }
        if minute > self.minute {
            self.start_minute(minute, daily_limit(), usual);
        }
        self.left_in_minute = self.left_in_minute.saturating_sub(cost.nanos());
        self.left_in_minute < 0 && self.report_runaway(usual)
    }

    /// Lets the rest of the minute pass without another report.
    #[cold]
    fn report_runaway(&mut self, usual: &mut UsualCosts) -> bool {
        self.left_in_minute = i64::MAX - self.spent_in_minute(usual);
        usual.max_in_minute = i64::MAX;
        true
    }

    fn spent_in_minute(&self, usual: &UsualCosts) -> i64 {
        usual.max_in_minute.saturating_sub(self.left_in_minute)
    }

    /// Returns the alert for the current minute.
    pub(crate) fn runaway_alert(&self, usual: &UsualCosts) -> CostAlertKind {
        let minute_usd = Usd::from_nanos(self.spent_in_minute(usual));
        CostAlertKind::Runaway { minute_usd, usual_usd: rounded(usual.median_minute()) }
    }

    #[cold]
    fn add_batch(&mut self, minute: u32, usual: &mut UsualCosts) {
        usual.add_costs((usize::from(self.count) - BATCH) % SIZE, &self.newest, minute);
        // Once `costs` is full, only the count modulo `SIZE` matters.
        if usize::from(self.count) == 2 * SIZE {
            self.count = SIZE as u16;
        }
        let is_known = self.count >= MIN_COSTS && usual.age(minute) >= MIN_AGE;
        if self.count.is_multiple_of(UPDATE_INTERVAL) && is_known {
            let (median, sigma) = self.median_and_sigma(usual);
            self.max_cost = nanos((median + MAX_SCORE * sigma).max(usual.largest() * MAX_INCREASE));
        }
    }

    fn median_and_sigma(&self, usual: &UsualCosts) -> (f64, f64) {
        let mut costs = usual.costs;
        let known = usize::from(self.count) / BATCH * BATCH;
        let costs = &mut costs[..known.min(SIZE)];
        let center = median(costs);
        costs.iter_mut().for_each(|cost| *cost = (*cost - center as f32).abs());
        (center, (median(costs) * MAD_TO_SIGMA).max(center * MIN_SIGMA))
    }

    #[cold]
    fn start_minute(&mut self, minute: u32, daily_limit: i64, usual: &mut UsualCosts) {
        let spent = self.spent_in_minute(usual);
        if spent > 0 {
            usual.add_minute(Usd::from_nanos(spent));
        }
        usual.max_in_minute = if usual.minute_count < MIN_MINUTES {
            i64::MAX
        } else {
            ((usual.median_minute() * RUNAWAY_FACTOR * 1e9) as i64).max(daily_limit / RUNAWAY_DIVISOR)
        };
        (self.minute, self.left_in_minute) = (minute, usual.max_in_minute);
    }
}

impl UsualCosts {
    fn add_costs(&mut self, start: usize, costs: &[f32; BATCH], minute: u32) {
        self.costs[start..start + BATCH].copy_from_slice(costs);
        self.since.get_or_insert(minute);
        let period = minute / PERIOD;
        if period > self.period {
            self.largest = [0.0, if period == self.period + 1 { self.largest[0] } else { 0.0 }];
            self.period = period;
        }
        self.largest[0] = costs.iter().copied().fold(self.largest[0], f32::max);
    }

    /// Returns the minutes since the first costs.
    fn age(&self, minute: u32) -> u32 {
        self.since.map_or(0, |since| minute.saturating_sub(since))
    }

    fn largest(&self) -> f64 {
        f64::from(self.largest[0].max(self.largest[1]))
    }

    fn add_minute(&mut self, spent: Usd) {
        self.minutes[self.minute_count as usize % MINUTES] = spent.as_dollars() as f32;
        self.minute_count += 1;
        if self.minute_count >= 2 * MINUTES as u32 {
            self.minute_count -= MINUTES as u32;
        }
    }

    fn median_minute(&self) -> f64 {
        let mut minutes = self.minutes;
        median(&mut minutes[..(self.minute_count as usize).min(MINUTES)])
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

/// Converts dollars to nano-dollars.
fn nanos(dollars: f64) -> i64 {
    (dollars * 1e9) as i64
}

/// Rounds to seven digits, the precision of an `f32`.
fn rounded(dollars: f64) -> Usd {
    format!("{dollars:.6e}").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    fn usd(dollars: f64) -> Usd {
        Usd::try_from(dollars).unwrap()
    }

    /// By the definition, over a sorted list of costs an hour apart.
    fn threshold_by_hand(costs: &[f32]) -> Option<f64> {
        let seen = costs.len() / usize::from(UPDATE_INTERVAL) * usize::from(UPDATE_INTERVAL);
        let known = &costs[seen.saturating_sub(SIZE)..seen];
        if seen < 64 {
            return None;
        }
        let middle_of = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
        };
        let middle = middle_of(known.iter().map(|cost| f64::from(*cost)).collect());
        let deviation = middle_of(known.iter().map(|cost| f64::from((*cost - middle as f32).abs())).collect());
        let unusual = middle + MAX_SCORE * (deviation / 0.674_489_750_196_081_7).max(middle * MIN_SIGMA);
        Some(unusual.max(2.0 * f64::from(costs.iter().copied().fold(0.0, f32::max))))
    }

    /// Adds a cost at the minute of that number.
    fn add(detector: &mut AnomalyDetector, usual: &mut UsualCosts, cost: Usd, minute: i64) {
        detector.add(cost, Timestamp::from_secs(60 * minute), || i64::MAX, usual);
    }

    proptest! {
        #[test]
        fn the_threshold_is_the_definitions(nanos in prop::collection::vec(0i64..5_000_000_000, 0..300)) {
            let (mut detector, mut usual) = Default::default();
            let mut costs = Vec::new();
            for (number, nanos) in (0..).zip(nanos) {
                let cost = Usd::from_nanos(nanos);
                add(&mut detector, &mut usual, cost, 60 * number);
                costs.push(cost.as_dollars() as f32);
                match threshold_by_hand(&costs) {
                    None => prop_assert_eq!(detector.max_cost, i64::MAX),
                    Some(threshold) => prop_assert!((detector.max_cost as f64 / 1e9 - threshold).abs() < 1e-6 * threshold.max(1.0)),
                }
            }
        }
    }

    #[test]
    fn an_outlier_is_an_anomaly_and_a_trifle_is_not() {
        let (mut detector, mut usual) = Default::default();
        for number in 0..40 {
            add(&mut detector, &mut usual, usd(0.10 + 0.001 * (number % 5) as f64), 2 * number);
        }
        assert!(!detector.is_anomaly(usd(1.0)), "too little is known");
        for number in 40..96 {
            add(&mut detector, &mut usual, usd(0.10 + 0.001 * (number % 5) as f64), 24 * 60 + number);
        }
        assert!(!detector.is_anomaly(usd(0.2)), "less than twice the largest");
        assert!(detector.is_anomaly(usd(0.21)));
        let CostAlertKind::Anomaly { score, median_usd, .. } = detector.alert(usd(1.0), &usual) else {
            panic!("an anomaly")
        };
        assert_eq!(median_usd.to_string(), "0.102");
        assert!((score.unwrap() - (1.0 - 0.102) / 0.0102).abs() < 0.01, "{score:?}");
        (0..4).for_each(|number| add(&mut detector, &mut usual, usd(1.0), 24 * 60 + 100 + number));
        assert!(!detector.is_anomaly(usd(1.0)), "one like that is known now");
        // After two months without one, it is unusual again.
        (0..64).for_each(|number| add(&mut detector, &mut usual, usd(0.1), 60 * 24 * 60 + number));
        assert!(detector.is_anomaly(usd(1.0)));
    }

    /// Costs are log-normal, around 1 cent with a small model and around 20 cents with a large one.
    #[test]
    fn an_agent_that_mixes_models_raises_at_most_one_false_alert_in_its_first_month() {
        let mut rng = Rng::with_seed(7);
        let cases = [0.0, 0.01, 0.1, 0.5].into_iter().flat_map(|share| [0.5, 1.0].map(|sigma| (share, sigma)));
        for (share_of_large, sigma, rate) in
            cases.flat_map(|(share, sigma)| [1, 10, 100].map(|rate| (share, sigma, rate)))
        {
            let (mut alerts, agents) = (0, if rate < 100 { 40 } else { 4 });
            for _ in 0..agents {
                let (mut detector, mut usual): (AnomalyDetector, UsualCosts) = Default::default();
                for number in 0..30 * 24 * i64::from(rate) {
                    let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
                    let median: f64 = if rng.f64() < share_of_large { 0.2 } else { 0.01 };
                    let cost = usd(median * (sigma * normal).exp());
                    alerts += u32::from(detector.is_anomaly(cost));
                    add(&mut detector, &mut usual, cost, number * 60 / i64::from(rate));
                }
            }
            let a_month = f64::from(alerts) / f64::from(agents);
            println!("{share_of_large} large, σ {sigma}, {rate} an hour: {a_month:.2} a month");
            assert!(a_month <= 1.0, "{share_of_large} large, σ {sigma}, {rate} an hour: {a_month} a month");
        }
    }

    #[test]
    fn a_loop_is_detected_within_a_minute() {
        let (mut detector, mut usual): (AnomalyDetector, UsualCosts) = Default::default();
        let daily = usd(100.0).nanos();
        let at = |minute: i64| Timestamp::from_secs(minute * 60);
        for minute in 1..=20 {
            for _ in 0..4 {
                assert!(!detector.add(usd(0.05), at(minute * 3), || daily, &mut usual));
            }
        }
        let mut alerts = Vec::new();
        for _ in 0..200 {
            if detector.add(usd(0.05), at(100), || daily, &mut usual) {
                alerts.push(detector.runaway_alert(&usual));
            }
        }
        let [CostAlertKind::Runaway { minute_usd, usual_usd }] = &alerts[..] else { panic!("{alerts:?}") };
        assert_eq!((minute_usd.to_string(), usual_usd.to_string()), ("2.05".to_owned(), "0.2".to_owned()));
        // It is reported again in each minute, until it has become usual.
        let mut is_reported = |minute| (0..200).any(|_| detector.add(usd(0.05), at(minute), || daily, &mut usual));
        let reported = (101..140).filter(|minute| is_reported(*minute)).count();
        assert!((10..=15).contains(&reported), "{reported}");
        // Without history, only the limits apply.
        assert!(!AnomalyDetector::default().add(usd(50.0), at(1), || daily, &mut UsualCosts::default()));
    }
}
