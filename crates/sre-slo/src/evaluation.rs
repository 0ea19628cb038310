use sre_core::stats::binomial_tail;
use sre_core::{BurnAlert, BurnRate, Counts, ErrorBudgetSnapshot, Severity, Status, Timestamp, Window};

use crate::target::round_to_12_decimals;
use crate::{BudgetConfig, BurnThreshold};

/// The state of an error budget at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BudgetReading {
    /// The status.
    pub status: Status,
    /// Why the status is unknown, if there are events: `2 of 10 bad: too few to tell from 90 %`.
    pub reason: Option<String>,
    /// Events in the budget's window, or in the current calendar period.
    pub counts: Counts,
    /// The budget, for reports.
    pub budget: ErrorBudgetSnapshot,
    /// Burn rates over 5m, 30m, 1h, 6h, 24h and 3d.
    pub burn_rates: Vec<BurnRate>,
    /// All alerts of the policy, firing or not.
    pub alerts: Vec<BurnAlert>,
    /// Number of events dropped because they were older than every bucket.
    pub dropped: u64,
}

/// Counts of good and bad events in any window: of a budget, or of an indicator.
pub(crate) trait WindowCounts {
    /// Returns the counts of the window that ends at `end`.
    fn sum(&self, window: Window, end: Timestamp) -> Counts;

    /// Returns the end of the last event.
    fn latest(&self, now: Timestamp) -> Option<Timestamp>;
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
    counts: Counts,
}

impl BudgetConfig {
    /// Evaluates the budget: `counts` are those of its window or period, and `windows` has those of all others.
    pub(crate) fn reading(&self, counts: Counts, windows: &dyn WindowCounts, now: Timestamp) -> BudgetReading {
        let consumed = self.total.filter(|_| counts.total() > 0).map(|total| {
            let events = counts.total().max(self.expected_events.unwrap_or(0));
            self.consumed + over_budget(counts.bad as f64 / events as f64, total)
        });
        let judged: Vec<Judged> =
            self.policy.0.iter().map(|threshold| self.judge(threshold, counts, windows, now)).collect();
        let burn_rates: Vec<BurnRate> = REPORTED
            .iter()
            .map(|&window| {
                let counts = windows.sum(window, now);
                BurnRate::new(window, self.burn(counts), counts.good, counts.bad)
            })
            .collect();
        let remaining = consumed.map(|consumed| 1.0 - consumed);
        let present = burn_rates.iter().find(|rate| rate.window == Window::HOUR).and_then(|rate| rate.rate);
        let mut budget = ErrorBudgetSnapshot::default();
        (budget.total, budget.consumed, budget.remaining) = (self.total, consumed, remaining);
        budget.spent_in_s = remaining.and_then(|remaining| self.spent_in(remaining, present));
        let (status, reason) = self.status(counts, consumed, &judged);
        let alerts = judged.into_iter().map(|judged| judged.alert).collect();
        BudgetReading { status, reason, counts, budget, burn_rates, alerts, dropped: 0 }
    }

    /// Returns the error ratio divided by the budget. With a budget of 0 it is 0 without bad events, and infinite otherwise.
    pub(crate) fn burn(&self, counts: Counts) -> Option<f64> {
        Some(over_budget(counts.error_ratio()?, self.total?))
    }

    fn judge(
        &self,
        threshold: &BurnThreshold,
        in_window: Counts,
        windows: &dyn WindowCounts,
        now: Timestamp,
    ) -> Judged {
        let (own, short) = (threshold.window, threshold.short_window());
        let mut end = now;
        let mut recent = windows.sum(short, now);
        let mut long = (own, windows.sum(own, now));
        if self.min_events.is_none() {
            if recent.total() == 0
                && let Some(latest) = windows.latest(now).filter(|latest| now.since(*latest) <= self.window.duration())
            {
                end = latest.min(now);
                recent = windows.sum(short, end);
                long.1 = windows.sum(own, end);
            }
            let longer = LOW_TRAFFIC.into_iter().filter(|window| own < *window && *window <= self.window);
            for window in longer {
                if long.1.total() >= ENOUGH {
                    break;
                }
                long = (window, windows.sum(window, end));
            }
        }
        let (window, counts) = long;
        let rate = self.burn(counts);
        let burns = |rate: Option<f64>| rate.is_some_and(|rate| rate >= threshold.rate - EPSILON);
        let is_reached = burns(rate) && burns(self.burn(recent));
        let has_evidence = match self.min_events {
            Some(least) => in_window.total() >= least,
            None => self.has_evidence(counts, threshold.rate),
        };
        let mut alert = BurnAlert::new(threshold.severity, threshold.rate, own, short);
        alert.firing = is_reached && has_evidence;
        (alert.judged_window, alert.judged_until) = (Some(window), (end < now).then_some(end));
        (alert.rate, alert.good, alert.bad) = (rate, counts.good, counts.bad);
        Judged { alert, is_reached, counts }
    }

    /// Returns whether chance does not explain the bad events: at an error ratio of the budget times `min(1, rate / 2)`, as many
    /// or more would be less likely than [`significance`](BudgetConfig::significance).
    fn has_evidence(&self, counts: Counts, rate: f64) -> bool {
        match self.total {
            Some(total) if total > 0.0 => {
                counts.bad >= self.min_bad
                    && binomial_tail(counts.bad, counts.total(), total * (rate / 2.0).min(1.0)) < self.significance
            }
            _ => counts.bad > 0,
        }
    }

    fn status(&self, counts: Counts, consumed: Option<f64>, alerts: &[Judged]) -> (Status, Option<String>) {
        let is_spent = consumed.is_some_and(|consumed| consumed >= 1.0 - EPSILON);
        let is_proven = match self.min_events {
            Some(least) => counts.total() >= least,
            None => counts.bad >= CLEAR || self.has_evidence(counts, 2.0),
        };
        let fires = |severity| alerts.iter().any(|judged| judged.alert.firing && judged.alert.severity == severity);
        if counts.total() == 0 {
            return (Status::Unknown, None);
        }
        if is_spent && is_proven {
            return (Status::Exhausted, None);
        }
        if fires(Severity::Critical) {
            return (Status::Critical, None);
        }
        if fires(Severity::Warning) {
            return (Status::Warning, None);
        }
        let unproven = match self.min_events {
            Some(_) => (!is_proven && counts.bad > 0).then_some(counts),
            None => {
                let reached = alerts.iter().find(|judged| judged.is_reached).map(|judged| judged.counts);
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
