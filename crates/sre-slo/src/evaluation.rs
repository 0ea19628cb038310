use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use sre_core::stats::binomial_tail;
use sre_core::{
    BurnAlert, BurnRate, Counts, ErrorBudgetSnapshot, Severity, Status, Timestamp, Window, wilson_interval,
};

use crate::target::round_to_12_decimals;
use crate::{BudgetConfig, BurnThreshold};

/// The state of an error budget at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BudgetReading {
    /// The status.
    pub status: Status,
    /// Why the status is unknown, if there are events: `2 of 10 bad: too few to tell from 90 %`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Events in the budget's window, or in the current calendar period.
    pub counts: Counts,
    /// The share of them that is good; of a composite objective, the weighted mean.
    pub sli: Option<f64>,
    /// Its Wilson 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The budget, for reports.
    pub budget: ErrorBudgetSnapshot,
    /// Burn rates over 5m, 30m, 1h, 6h, 24h and 3d.
    pub burn_rates: Vec<BurnRate>,
    /// All alerts of the policy, firing or not.
    pub alerts: Vec<BurnAlert>,
    /// Number of events dropped because they were older than every bucket.
    pub dropped: u64,
}

/// What is known of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) counts: Counts,
    /// The error ratio: that of the counts, or a weighted one.
    pub(crate) error_ratio: Option<f64>,
    /// The number of events, or the effective sample size.
    pub(crate) sample_size: f64,
    /// Equivalent binomial counts of a weighted ratio; evidence in any of them suffices. Empty if the ratio is that of the counts.
    pub(crate) equivalent: Vec<Counts>,
}

impl From<Counts> for Observed {
    fn from(counts: Counts) -> Self {
        let (error_ratio, sample_size) = (counts.error_ratio(), counts.total() as f64);
        Self { counts, error_ratio, sample_size, equivalent: Vec::new() }
    }
}

impl Observed {
    /// Returns the share of good events, or the weighted one, and its Wilson 95 % interval.
    fn success_ratio(&self) -> (Option<f64>, Option<(f64, f64)>) {
        if self.equivalent.is_empty() {
            return (
                self.counts.success_ratio(),
                wilson_interval((self.counts.good as f64).min(self.sample_size), self.sample_size),
            );
        }
        let ratio = self.error_ratio.map(|ratio| round_to_12_decimals(1.0 - ratio));
        (ratio, wilson_interval(ratio.unwrap_or(0.0) * self.sample_size, self.sample_size))
    }

    /// Returns whether any of the counts that are evidence satisfies a condition.
    fn shows(&self, is_proof: impl Fn(Counts) -> bool) -> bool {
        if self.equivalent.is_empty() { is_proof(self.counts) } else { self.equivalent.iter().copied().any(is_proof) }
    }
}

/// Good and bad events in any window: of a budget, of an indicator, or of the objectives of a composite.
pub(crate) trait WindowCounts {
    /// Returns what is known of the window that ends at `end`.
    fn sum(&self, window: Window, end: Timestamp) -> Observed;

    /// Returns the end of the last event.
    fn latest(&self, now: Timestamp) -> Option<Timestamp>;
}

/// Counts of windows, each summed once: alerts and reported burn rates share most of them.
struct SummedOnce<'a> {
    windows: &'a dyn WindowCounts,
    known: RefCell<Vec<(Window, Timestamp, Observed)>>,
}

impl WindowCounts for SummedOnce<'_> {
    fn sum(&self, window: Window, end: Timestamp) -> Observed {
        let mut known = self.known.borrow_mut();
        if let Some((.., observed)) = known.iter().find(|(summed, until, _)| (*summed, *until) == (window, end)) {
            return observed.clone();
        }
        let observed = self.windows.sum(window, end);
        known.push((window, end, observed.clone()));
        observed
    }

    fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        self.windows.latest(now)
    }
}

/// Windows of the reported burn rates.
pub(crate) const REPORTED: [Window; 6] =
    [Window::FIVE_MINUTES, Window::minutes(30), Window::HOUR, Window::hours(6), Window::DAY, Window::days(3)];

/// Windows that replace the long window of an alert if it holds too few events.
const LOW_TRAFFIC: [Window; 3] = [Window::hours(6), Window::DAY, Window::days(3)];
/// The least number of events that a long window should hold.
const ENOUGH: u64 = 5;
/// A budget with this number of bad events is exhausted without further evidence.
const CLEAR: u64 = 30;
/// Tolerance for rounding errors when a ratio is compared with a threshold.
const EPSILON: f64 = 1e-9;

/// An alert with what it was judged by.
struct Judged {
    alert: BurnAlert,
    /// Whether both windows burn at the threshold or above.
    is_reached: bool,
}

impl BudgetConfig {
    /// Evaluates the budget: `present` is its window or period, and `windows` has all others.
    pub(crate) fn reading(&self, present: &Observed, windows: &dyn WindowCounts, now: Timestamp) -> BudgetReading {
        let known = RefCell::new(Vec::with_capacity(2 * REPORTED.len()));
        let windows = &SummedOnce { windows, known };
        let counts = present.counts;
        let in_window = present.error_ratio.zip(self.total).map(|(ratio, total)| {
            let expected = counts.total().max(self.expected_events.unwrap_or(0));
            over_budget(ratio * (counts.total() as f64 / expected as f64), total)
        });
        let before = self.total.and(Some(self.consumed).filter(|before| *before > 0.0));
        let consumed = in_window.map(|consumed| consumed + self.consumed).or(before);
        let end = self.end(windows, now);
        let judge = |threshold| self.judge(threshold, counts, windows, (now, end));
        let judged: Vec<Judged> = self.policy.thresholds.iter().map(judge).collect();
        let burn_rates: Vec<BurnRate> = REPORTED
            .iter()
            .map(|&window| {
                let observed = windows.sum(window, now);
                BurnRate::new(window, self.burn(&observed), observed.counts.good, observed.counts.bad)
            })
            .collect();
        let remaining = consumed.map(|consumed| 1.0 - consumed);
        let last_hour = burn_rates.iter().find(|rate| rate.window == Window::HOUR).and_then(|rate| rate.rate);
        let mut budget = ErrorBudgetSnapshot::default();
        (budget.total, budget.consumed, budget.remaining) = (self.total, consumed, remaining);
        budget.spent_in_s = remaining.and_then(|remaining| self.spent_in(remaining, last_hour));
        let (status, reason) = self.status(present, consumed, &judged);
        let alerts = judged.into_iter().map(|judged| judged.alert).collect();
        let (sli, interval) = present.success_ratio();
        BudgetReading { status, reason, counts, sli, interval, budget, burn_rates, alerts, dropped: 0 }
    }

    /// Returns the error ratio divided by the budget. With a budget of 0 it is 0 without bad events, and infinite otherwise.
    pub(crate) fn burn(&self, observed: &Observed) -> Option<f64> {
        Some(over_budget(observed.error_ratio?, self.total?))
    }

    /// Returns the end of the windows that alerts are judged by: the last event in the budget's window, so that silence neither
    /// raises nor resolves an alert. With `min_events` it is always `now`.
    fn end(&self, windows: &dyn WindowCounts, now: Timestamp) -> Timestamp {
        if self.min_events.is_some() {
            return now;
        }
        let latest = windows.latest(now).filter(|latest| now.since(*latest) <= self.window.duration());
        latest.map_or(now, |latest| latest.min(now))
    }

    fn judge(
        &self,
        threshold: &BurnThreshold,
        in_window: Counts,
        windows: &dyn WindowCounts,
        (now, end): (Timestamp, Timestamp),
    ) -> Judged {
        let is_by_evidence = self.min_events.is_none();
        // What is older than the budget's window counts for nothing.
        let own = if is_by_evidence { threshold.window.min(self.window) } else { threshold.window };
        let short = threshold.short_window().min(own);
        let recent = windows.sum(short, end);
        let mut long = (own, windows.sum(own, end));
        if is_by_evidence {
            let longer = LOW_TRAFFIC.into_iter().filter(|window| own < *window && *window <= self.window);
            for window in longer {
                if long.1.counts.total() >= ENOUGH {
                    break;
                }
                long = (window, windows.sum(window, end));
            }
        }
        let (window, long) = long;
        let rate = self.burn(&long);
        let burns = |rate: Option<f64>| rate.is_some_and(|rate| rate >= threshold.rate - EPSILON);
        let is_reached = burns(rate) && burns(self.burn(&recent));
        let has_evidence = || match self.min_events {
            Some(least) => in_window.total() >= least,
            None => self.has_evidence(&long, threshold.rate),
        };
        let mut alert = BurnAlert::new(threshold.severity, threshold.rate, threshold.window, threshold.short_window());
        alert.firing = is_reached && has_evidence();
        (alert.judged_window, alert.judged_until) = (Some(window), (end < now).then_some(end));
        (alert.rate, alert.good, alert.bad) = (rate, long.counts.good, long.counts.bad);
        Judged { alert, is_reached }
    }

    /// Returns whether chance does not explain the bad events: at an error ratio of the budget times `min(1, rate / 2)`, as many
    /// or more would be less likely than [`significance`](BudgetConfig::significance).
    fn has_evidence(&self, observed: &Observed, rate: f64) -> bool {
        observed.shows(|counts| match self.total {
            Some(total) if total > 0.0 => {
                counts.bad >= self.min_bad
                    && binomial_tail(counts.bad, counts.total(), total * (rate / 2.0).min(1.0)) < self.significance
            }
            _ => counts.bad > 0,
        })
    }

    /// Returns whether the bad events alone spend the budget, and are enough to need no further evidence.
    fn is_clear(&self, observed: &Observed) -> bool {
        observed.shows(|counts| {
            let spent = counts.error_ratio().zip(self.total).map(|(ratio, total)| over_budget(ratio, total));
            counts.bad >= CLEAR && spent.is_some_and(|spent| spent + self.consumed >= 1.0 - EPSILON)
        })
    }

    fn status(&self, present: &Observed, consumed: Option<f64>, alerts: &[Judged]) -> (Status, Option<String>) {
        let counts = present.counts;
        let is_spent = consumed.is_some_and(|consumed| consumed >= 1.0 - EPSILON);
        if self.consumed >= 1.0 && is_spent {
            return (Status::Exhausted, None);
        }
        let is_proven = || match self.min_events {
            Some(least) => counts.total() >= least,
            None => self.is_clear(present) || self.has_evidence(present, 2.0),
        };
        let fires = |severity| alerts.iter().any(|judged| judged.alert.firing && judged.alert.severity == severity);
        if is_spent && counts.total() > 0 && is_proven() {
            return (Status::Exhausted, None);
        }
        // Also in a new period that has no events yet: the windows of alerts reach into the one before.
        if fires(Severity::Critical) {
            return (Status::Critical, None);
        }
        if fires(Severity::Warning) {
            return (Status::Warning, None);
        }
        if counts.total() == 0 {
            return (Status::Unknown, None);
        }
        let unproven = match self.min_events {
            Some(_) => (counts.bad > 0 && !is_proven()).then_some(counts),
            None => {
                let reached = alerts.iter().find(|judged| judged.is_reached);
                let reached = reached.map(|Judged { alert, .. }| Counts { good: alert.good, bad: alert.bad });
                if is_spent { Some(counts) } else { reached }
            }
        };
        match unproven {
            Some(counts) => (Status::Unknown, Some(self.too_few(counts))),
            None => (Status::Healthy, None),
        }
    }

    fn too_few(&self, counts: Counts) -> String {
        let target = round_to_12_decimals((1.0 - self.total.unwrap_or(0.0)) * 100.0);
        format!("{} of {} bad: too few to tell from {target} %", counts.bad, counts.total())
    }

    fn spent_in(&self, remaining: f64, rate: Option<f64>) -> Option<f64> {
        if remaining <= EPSILON {
            return Some(0.0);
        }
        let rate = rate.filter(|rate| *rate > 0.0)?;
        Some(remaining * self.window.as_secs_f64() / rate)
    }
}

fn over_budget(error_ratio: f64, total: f64) -> f64 {
    if error_ratio == 0.0 { 0.0 } else { round_to_12_decimals(error_ratio / total) }
}
