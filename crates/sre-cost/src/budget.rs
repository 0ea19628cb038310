use sre_core::{CostAlert, CostAlertKind, CostScope, RateLimiter, Timestamp, Usd};

/// A limit on spending in a period, and what counts toward it.
///
/// Amounts are nano-dollars, each at most a billion dollars; sums saturate instead of wrapping.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) spent: i64,
    /// The limit less what is reserved: what may be spent without a reservation.
    unreserved: i64,
    /// The amount of the next threshold; `i64::MAX` after the last one.
    pub(crate) next_threshold: i64,
    /// Rarely read fields. Boxed, so that a charge touches fewer cache lines.
    pub(crate) details: Box<BudgetDetails>,
}

#[derive(Debug)]
pub(crate) struct BudgetDetails {
    limit: i64,
    next_index: usize,
    /// Ascending by amount.
    thresholds: Box<[Threshold]>,
    /// The excess over the limit that was last reported.
    reported_excess: i64,
    /// When the first amount of the period was spent.
    first_spent_at: Timestamp,
    /// Delays the calls of an agent while it is throttled.
    pub(crate) limiter: Option<RateLimiter>,
}

/// A spent amount that triggers an action, once per period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold {
    amount: i64,
    pub(crate) action: ThresholdAction,
}

/// What crossing a threshold does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ThresholdAction {
    /// Sends an alert for this share of the limit.
    Alert(f64),
    Throttle,
    Kill,
}

impl ThresholdAction {
    /// Pairs each share of a limit with an alert for it.
    pub(crate) fn alerts(shares: &[f64]) -> Vec<(f64, Self)> {
        shares.iter().map(|share| (*share, Self::Alert(*share))).collect()
    }
}

impl Budget {
    /// Creates a budget with thresholds at shares of its limit.
    pub(crate) fn new(limit: Usd, thresholds: impl IntoIterator<Item = (f64, ThresholdAction)>) -> Self {
        let limit = limit.nanos();
        let threshold = |(share, action)| Threshold { amount: share_of(limit, share), action };
        let mut thresholds: Vec<Threshold> = thresholds.into_iter().map(threshold).collect();
        thresholds.sort_by_key(|threshold| threshold.amount);
        let details = BudgetDetails {
            limit,
            next_index: 0,
            thresholds: thresholds.into(),
            reported_excess: 0,
            first_spent_at: Timestamp::default(),
            limiter: None,
        };
        let mut budget = Self { spent: 0, unreserved: limit, next_threshold: 0, details: Box::new(details) };
        budget.update_next_threshold();
        budget
    }

    /// Starts a new period with nothing spent. Reservations stay.
    pub(crate) fn start_period(&mut self) {
        self.spent = 0;
        (self.details.next_index, self.details.reported_excess) = (0, 0);
        self.details.first_spent_at = Timestamp::default();
        self.update_next_threshold();
    }

    pub(crate) fn limit(&self) -> i64 {
        self.details.limit
    }

    pub(crate) fn reserved(&self) -> i64 {
        self.details.limit - self.unreserved
    }

    /// Adds to what is reserved; a negative amount releases.
    pub(crate) fn add_reserved(&mut self, amount: i64) {
        self.unreserved -= amount;
    }

    #[inline]
    pub(crate) fn fits(&self, amount: i64) -> bool {
        self.spent.saturating_add(amount) <= self.unreserved
    }

    /// Returns what is neither spent nor reserved; negative beyond the limit.
    pub(crate) fn rest(&self) -> i64 {
        self.unreserved.saturating_sub(self.spent)
    }

    pub(crate) fn left(&self) -> Usd {
        Usd::from_nanos(self.rest().max(0))
    }

    /// Adds to what was spent. Returns the thresholds that this crosses.
    #[inline]
    pub(crate) fn spend(&mut self, amount: i64, at: Timestamp) -> Vec<Threshold> {
        if self.spent == 0 {
            self.begin_spending(at);
        }
        self.spent = self.spent.saturating_add(amount);
        if self.spent < self.next_threshold { Vec::new() } else { self.cross_thresholds() }
    }

    #[cold]
    fn begin_spending(&mut self, at: Timestamp) {
        // A correction may have brought what was spent back to zero.
        if self.details.first_spent_at == Timestamp::default() {
            self.details.first_spent_at = at;
        }
    }

    #[inline]
    pub(crate) fn is_exceeded(&self) -> bool {
        self.spent > self.unreserved
    }

    /// Returns an alert for an excess over the limit: once at first, then when it reaches a tenth of the limit, and each time it has
    /// doubled, so that an agent that goes on spending sends a handful.
    pub(crate) fn new_excess(&mut self) -> Option<CostAlertKind> {
        let excess = self.spent.saturating_sub(self.unreserved);
        let next = match self.details.reported_excess {
            0 => 1,
            reported => reported.saturating_mul(2).max(self.limit() / 10),
        };
        (excess >= next).then(|| {
            self.details.reported_excess = excess;
            CostAlertKind::Exceeded { excess_usd: Usd::from_nanos(excess) }
        })
    }

    pub(crate) fn alert(&self, scope: CostScope, kind: CostAlertKind, at: Timestamp) -> CostAlert {
        let [spent_usd, limit_usd] = [self.spent, self.limit()].map(Usd::from_nanos);
        CostAlert::new(at, scope, spent_usd, limit_usd, kind)
    }

    /// Returns when the budget is spent at the rate of the period so far, if that is before `end`.
    pub(crate) fn exhausted_at(&self, now: Timestamp, end: Timestamp) -> Option<Timestamp> {
        const MIN_SECONDS: f64 = 60.0;
        if self.spent <= 0 {
            return None;
        }
        let rate = self.spent as f64 / now.since(self.details.first_spent_at).as_secs_f64().max(MIN_SECONDS);
        let seconds = (self.limit() - self.spent).max(0) as f64 / rate;
        let at = now.saturating_add(std::time::Duration::try_from_secs_f64(seconds).ok()?);
        (at < end).then_some(at)
    }

    #[cold]
    fn cross_thresholds(&mut self) -> Vec<Threshold> {
        let rest = self.details.thresholds[self.details.next_index..].iter().copied();
        let crossed: Vec<Threshold> = rest.take_while(|threshold| threshold.amount <= self.spent).collect();
        self.details.next_index += crossed.len();
        self.update_next_threshold();
        crossed
    }

    fn update_next_threshold(&mut self) {
        let next = self.details.thresholds.get(self.details.next_index);
        self.next_threshold = next.map_or(i64::MAX, |threshold| threshold.amount);
    }
}

/// Returns a share of an amount in nano-dollars, rounded up, at least 1: a budget with nothing spent has crossed no threshold.
fn share_of(amount: i64, share: f64) -> i64 {
    const SCALE: i128 = 1_000_000_000;
    let scaled = (share * SCALE as f64).round() as i128;
    let part = (i128::from(amount) * scaled + SCALE - 1) / SCALE;
    i64::try_from(part).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_crossed_once_a_period_and_at_the_nano_dollar() {
        let limit: Usd = "100".parse().unwrap();
        let thresholds = ThresholdAction::alerts(&[0.85, 0.5]);
        let mut budget = Budget::new(limit, thresholds);
        let now = Timestamp::from_secs(1);
        let mut spend = |nanos: i64| budget.spend(nanos, now).iter().map(|crossed| crossed.action).collect::<Vec<_>>();
        assert_eq!(spend(49_999_999_999), []);
        assert_eq!(spend(1), [ThresholdAction::Alert(0.5)]);
        assert_eq!(spend(-10), [], "a correction");
        assert_eq!(spend(10), [], "once a period");
        assert_eq!(spend(35_000_000_000), [ThresholdAction::Alert(0.85)]);
        budget.start_period();
        assert_eq!(budget.spend(99_000_000_000, now).len(), 2);
    }

    #[test]
    fn an_excess_is_reported_again_when_it_is_a_tenth_of_the_limit_and_each_time_it_has_doubled() {
        let mut budget = Budget::new("10".parse().unwrap(), []);
        let mut reported = Vec::new();
        for _ in 0..1_000 {
            budget.spend(100_000_000, Timestamp::from_secs(1));
            if let Some(CostAlertKind::Exceeded { excess_usd }) = budget.new_excess() {
                reported.push(excess_usd.to_string());
            }
        }
        assert_eq!(reported, ["0.1", "1", "2", "4", "8", "16", "32", "64"]);
        budget.start_period();
        budget.spend(10_000_000_001, Timestamp::from_secs(1));
        assert!(budget.new_excess().is_some(), "in each period");
    }

    #[test]
    fn exhaustion_is_forecast_from_the_rate_so_far() {
        let mut budget = Budget::new("100".parse().unwrap(), []);
        let at = |seconds: i64| Timestamp::from_secs(1_790_000_000 + seconds);
        assert_eq!(budget.exhausted_at(at(0), at(86_400)), None);
        budget.spend(10_000_000_000, at(0));
        budget.spend(10_000_000_000, at(3_600));
        // Twenty dollars an hour, with eighty left.
        assert_eq!(budget.exhausted_at(at(3_600), at(86_400)), Some(at(5 * 3_600)));
        assert_eq!(budget.exhausted_at(at(3_600), at(4 * 3_600)), None, "lasts until the end of the period");
    }
}
