use std::time::Duration;

use sre_core::stats::mean_tail;
use sre_core::{Direction, IndicatorSnapshot, Sli, SliReading, SliSpec, Status, Timestamp, Window};

use crate::evaluation::{BudgetReading, Observed, WindowCounts};
use crate::{BudgetConfig, GoodWhen};

/// How a missed target affects the objective's status.
#[derive(Debug)]
pub(crate) enum MissPolicy {
    /// Not at all: it is for information.
    None,
    /// Shares the objective's error budget, which counts the same samples and is no larger.
    Shared,
    /// Its samples have an error budget of their own.
    Budget(BudgetConfig),
    /// A mean that chance does not explain is a warning.
    Mean(MeanTest),
}

/// When a mean misses its target by evidence: in Student's t test at a significance, with a least number of samples.
#[derive(Debug)]
pub(crate) struct MeanTest {
    significance: f64,
    min_samples: u64,
}

/// Least number of samples of a mean, unless `min_events` is more.
const ENOUGH: u64 = 10;

impl MissPolicy {
    /// Returns the policy of an indicator of an objective with the budget `config`, which counts what `good_when` selects.
    pub(crate) fn of(indicator: &dyn Sli, config: &BudgetConfig, good_when: Option<&GoodWhen>) -> Self {
        let spec = indicator.spec();
        let Some(total) = spec.error_budget().filter(|_| has_counts(indicator, config.windows().1)) else {
            let min_samples = config.min_events.unwrap_or(0).max(ENOUGH);
            return Self::Mean(MeanTest { significance: config.significance, min_samples });
        };
        // Time slices are good although some of their events failed.
        let counts_the_same =
            config.time_slices.is_none() && good_when.is_some_and(|good_when| good_when.counts_samples_of(indicator));
        if counts_the_same && config.total.is_some_and(|objective| objective <= total) {
            return Self::Shared;
        }
        Self::Budget(BudgetConfig {
            total: Some(total),
            calendar: None,
            time_slices: None,
            expected_events: None,
            consumed: 0.0,
            ..config.clone()
        })
    }

    /// Returns the status that the indicator gives its objective, at most critical; `None` if it gives none, as without samples.
    pub(crate) fn status(&self, indicator: &dyn Sli, now: Timestamp) -> Option<Status> {
        match self {
            Self::None | Self::Shared => None,
            Self::Budget(config) => {
                let reading = reading(config, indicator, now);
                Some(status_of(&reading)).filter(|_| reading.counts.total() > 0)
            }
            Self::Mean(test) => {
                let status = test.status(indicator.spec(), &indicator.reading(now));
                Some(status).filter(|status| *status != Status::Unknown)
            }
        }
    }

    /// Returns the snapshot of the indicator with its status and its budget, which may be the objective's.
    pub(crate) fn snapshot(&self, indicator: &dyn Sli, objective: &BudgetReading, now: Timestamp) -> IndicatorSnapshot {
        let mut snapshot = indicator.snapshot(now);
        match self {
            Self::None => {}
            Self::Shared => {
                snapshot.shares_budget = true;
                snapshot.error_budget = Some(objective.budget);
                (snapshot.burn_rates, snapshot.alerts) = (objective.burn_rates.clone(), objective.alerts.clone());
            }
            Self::Budget(config) => {
                let reading = reading(config, indicator, now);
                snapshot.status = Some(status_of(&reading));
                snapshot.reason = reading.reason;
                snapshot.error_budget = Some(reading.budget);
                (snapshot.burn_rates, snapshot.alerts) = (reading.burn_rates, reading.alerts);
            }
            Self::Mean(test) => {
                snapshot.status = Some(test.status(indicator.spec(), &indicator.reading(now)));
            }
        }
        snapshot
    }
}

/// Returns whether it counts good and bad samples. Requests the longest window that it will need.
fn has_counts(indicator: &dyn Sli, longest: Window) -> bool {
    indicator.counts(longest, Timestamp::default()).is_some()
}

fn reading(config: &BudgetConfig, indicator: &dyn Sli, now: Timestamp) -> BudgetReading {
    let windows = IndicatorCounts { indicator, longest: config.window };
    config.reading(&windows.sum(config.window, now), &windows, now)
}

/// Returns the status of an indicator's budget: at most critical, since only the objective's own budget can be exhausted, and unknown
/// without samples in the budget's window.
fn status_of(reading: &BudgetReading) -> Status {
    if reading.counts.total() > 0 { reading.status.min(Status::Critical) } else { Status::Unknown }
}

impl MeanTest {
    fn status(&self, spec: &SliSpec, reading: &SliReading) -> Status {
        let (Some(mean), Some(deviation)) = (reading.value, reading.deviation) else { return Status::Unknown };
        let (mean, target) = match spec.direction {
            Direction::AtMost => (mean, spec.target),
            Direction::AtLeast => (-mean, -spec.target),
        };
        if reading.samples < self.min_samples {
            return Status::Unknown;
        }
        let is_missed = mean_tail(mean, deviation, reading.samples, target) < self.significance;
        if is_missed { Status::Warning } else { Status::Healthy }
    }
}

/// The counts of an indicator.
struct IndicatorCounts<'a> {
    indicator: &'a dyn Sli,
    longest: Window,
}

impl WindowCounts for IndicatorCounts<'_> {
    fn sum(&self, window: Window, end: Timestamp) -> Observed {
        self.indicator.counts(window, end).unwrap_or_default().into()
    }

    /// Searches for the shortest window that holds a sample, from short ones on, since most indicators have recent samples.
    fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        let holds = |age: Duration| Window::try_from(age).is_ok_and(|window| self.sum(window, now).counts.total() > 0);
        let longest = self.longest.duration();
        let (mut empty, mut held) = (Duration::ZERO, Duration::from_secs(1).min(longest));
        while !holds(held) {
            if held == longest {
                return None;
            }
            (empty, held) = (held, (2 * held).min(longest));
        }
        while held - empty > Duration::from_secs(1) {
            let middle = empty + (held - empty) / 2;
            if holds(middle) {
                held = middle;
            } else {
                empty = middle;
            }
        }
        Some(now.saturating_sub(empty))
    }
}
