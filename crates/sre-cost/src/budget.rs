use std::sync::Arc;

use sre_core::{CostAlertKind, Timestamp, Usd};

/// What is spent, reserved and allowed in a period, and the next amount at which something is to be told or done.
///
/// Amounts are nano-dollars, each at most a billion dollars; sums stop at nine billion instead of wrapping.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) spent: i64,
    pub(crate) reserved: i64,
    pub(crate) limit: i64,
    /// What the next mark stands at; the largest number where none is left.
    pub(crate) next_mark: i64,
    index: usize,
    marks: Arc<[Mark]>,
    told_excess: i64,
    /// When the first amount of the period was spent.
    first: Timestamp,
}

/// An amount at which something is to be told or done, once a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark {
    at: i64,
    pub(crate) what: Marked,
}

/// What is to be told or done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Marked {
    Threshold(f64),
    Throttle,
    Kill,
}

impl Marked {
    pub(crate) fn thresholds(shares: &[f64]) -> Vec<(f64, Self)> {
        shares.iter().map(|share| (*share, Self::Threshold(*share))).collect()
    }
}

impl Budget {
    pub(crate) fn new(limit: Usd, shares: impl IntoIterator<Item = (f64, Marked)>) -> Self {
        let limit = limit.nanos();
        let mut marks: Vec<Mark> =
            shares.into_iter().map(|(share, what)| Mark { at: part_of(limit, share), what }).collect();
        marks.sort_by_key(|mark| mark.at);
        let mut budget = Self {
            spent: 0,
            reserved: 0,
            limit,
            next_mark: 0,
            index: 0,
            marks: marks.into(),
            told_excess: 0,
            first: Timestamp::default(),
        };
        budget.aim();
        budget
    }

    /// A new period: nothing is spent. What is reserved stays reserved.
    pub(crate) fn begin(&mut self) {
        (self.spent, self.index, self.told_excess, self.first) = (0, 0, 0, Timestamp::default());
        self.aim();
    }

    pub(crate) fn fits(&self, amount: i64) -> bool {
        self.used().saturating_add(amount) <= self.limit
    }

    pub(crate) fn used(&self) -> i64 {
        self.spent.saturating_add(self.reserved)
    }

    pub(crate) fn left(&self) -> Usd {
        Usd::from_nanos(self.limit.saturating_sub(self.used()).max(0))
    }

    /// Spends, and says which marks that has passed.
    #[inline]
    pub(crate) fn spend(&mut self, amount: i64, at: Timestamp) -> Vec<Mark> {
        if self.first == Timestamp::default() {
            self.first = at;
        }
        self.spent = self.spent.saturating_add(amount);
        if self.spent < self.next_mark { Vec::new() } else { self.pass() }
    }

    #[inline]
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// By how much more than was told of before the limit is exceeded.
    pub(crate) fn excess(&mut self) -> Option<CostAlertKind> {
        let excess = self.used().saturating_sub(self.limit).saturating_sub(self.told_excess);
        (excess > 0).then(|| {
            self.told_excess += excess;
            CostAlertKind::Exceeded { excess_usd: Usd::from_nanos(excess) }
        })
    }

    /// When it is used up at the pace of the period so far, if that is before `end`.
    pub(crate) fn exhausted_at(&self, now: Timestamp, end: Timestamp) -> Option<Timestamp> {
        const LEAST: f64 = 60.0;
        if self.spent <= 0 {
            return None;
        }
        let pace = self.spent as f64 / now.since(self.first).as_secs_f64().max(LEAST);
        let seconds = (self.limit - self.spent).max(0) as f64 / pace;
        let at = now.saturating_add(std::time::Duration::try_from_secs_f64(seconds).ok()?);
        (at < end).then_some(at)
    }

    #[cold]
    fn pass(&mut self) -> Vec<Mark> {
        let passed: Vec<Mark> =
            self.marks[self.index..].iter().copied().take_while(|mark| mark.at <= self.spent).collect();
        self.index += passed.len();
        self.aim();
        passed
    }

    fn aim(&mut self) {
        self.next_mark = self.marks.get(self.index).map_or(i64::MAX, |mark| mark.at);
    }
}

/// A share of an amount, in whole nano-dollars, and at least one: nothing spent has reached no threshold.
fn part_of(amount: i64, share: f64) -> i64 {
    const PARTS: i128 = 1_000_000_000;
    let parts = (share * PARTS as f64).round() as i128;
    let part = (i128::from(amount) * parts + PARTS - 1) / PARTS;
    i64::try_from(part).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_passed_once_a_period_and_at_the_nano_dollar() {
        let limit: Usd = "100".parse().unwrap();
        let marks = [0.85, 0.5].map(|share| (share, Marked::Threshold(share)));
        let mut budget = Budget::new(limit, marks);
        let now = Timestamp::from_secs(1);
        let mut spend = |nanos: i64| budget.spend(nanos, now).iter().map(|mark| mark.what).collect::<Vec<_>>();
        assert_eq!(spend(49_999_999_999), []);
        assert_eq!(spend(1), [Marked::Threshold(0.5)]);
        assert_eq!(spend(-10), [], "a correction");
        assert_eq!(spend(10), [], "once a period");
        assert_eq!(spend(35_000_000_000), [Marked::Threshold(0.85)]);
        budget.begin();
        assert_eq!(budget.spend(99_000_000_000, now).len(), 2);
    }

    #[test]
    fn a_forecast_goes_on_as_before() {
        let mut budget = Budget::new("100".parse().unwrap(), []);
        let at = |seconds: i64| Timestamp::from_secs(1_790_000_000 + seconds);
        assert_eq!(budget.exhausted_at(at(0), at(86_400)), None);
        budget.spend(10_000_000_000, at(0));
        budget.spend(10_000_000_000, at(3_600));
        // Twenty dollars an hour, eighty are left.
        assert_eq!(budget.exhausted_at(at(3_600), at(86_400)), Some(at(5 * 3_600)));
        assert_eq!(budget.exhausted_at(at(3_600), at(4 * 3_600)), None, "it lasts");
    }
}
