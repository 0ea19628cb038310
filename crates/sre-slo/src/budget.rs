use std::fmt;
use std::sync::Arc;

use sre_core::{
    BurnAlert, BurnRate, Clock, Counts, ErrorBudgetSnapshot, ExhaustionAction, RollingCounts, RollingView, Severity,
    StateError, StateReader, StateWriter, Status, SystemClock, Timestamp, Window,
};

use crate::calendar::PeriodCounts;
use crate::time_slices::OpenSlice;
use crate::{BurnPolicy, Calendar, TimeSlices};

/// How much may go wrong, over which time, and when to say that it does.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    /// The share of events that may be bad, 0 to below 1; `None` counts events and judges nothing.
    pub total: Option<f64>,
    /// The time that the share is about.
    pub window: Window,
    /// Where the budget begins anew by the calendar: its periods, instead of a window that rolls.
    pub calendar: Option<Calendar>,
    /// Where slices of time are counted instead of events.
    pub time_slices: Option<TimeSlices>,
    /// When it burns too fast.
    pub policy: BurnPolicy,
    /// What should be done once it is spent.
    pub exhaustion_action: ExhaustionAction,
    /// Below so many events in the window nothing fires and nothing is called spent; by default as many as it takes for
    /// one bad event to be within the budget, `ceil(1 / total)`, and 1 for a total of 0.
    pub min_events: Option<u64>,
    /// How many events the window will have, where that is known: until there are as many, the budget is theirs.
    pub expected_events: Option<u64>,
    /// The share of the budget that was spent before anything was counted here.
    pub consumed: f64,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            total: None,
            window: Window::MONTH,
            calendar: None,
            time_slices: None,
            policy: BurnPolicy::standard(),
            exhaustion_action: ExhaustionAction::Alert,
            min_events: None,
            expected_events: None,
            consumed: 0.0,
        }
    }
}

/// A budget that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
pub struct InvalidBudget {
    field: &'static str,
    found: String,
    expected: &'static str,
}

/// An error budget: it counts good and bad events, and says what is left and how fast it goes.
///
/// ```
/// use sre_slo::{BudgetConfig, ErrorBudget};
/// let budget = ErrorBudget::new(BudgetConfig { total: Some(0.05), ..Default::default() }).unwrap();
/// for event in 0..100 {
///     budget.record_event(event != 0);
/// }
/// assert_eq!(budget.consumed(), Some(0.2));
/// assert!(!budget.is_exhausted());
/// ```
pub struct ErrorBudget {
    config: BudgetConfig,
    counts: RollingCounts,
    period: Option<PeriodCounts>,
    slice: Option<OpenSlice>,
    clock: Arc<dyn Clock>,
}

/// The windows whose burn rates are always reported.
const REPORTED: [Window; 6] =
    [Window::FIVE_MINUTES, Window::minutes(30), Window::HOUR, Window::hours(6), Window::DAY, Window::days(3)];

/// Room for the rounding of binary fractions when a ratio is compared with a threshold.
const EPSILON: f64 = 1e-9;

/// A budget at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetReading {
    /// How the objective stands.
    pub status: Status,
    /// What was counted in the budget's window, or in the calendar's present period.
    pub counts: Counts,
    /// The budget as a report shows it.
    pub budget: ErrorBudgetSnapshot,
    /// The burn rates over 5m, 30m, 1h, 6h, 24h and 3d.
    pub burn_rates: Vec<BurnRate>,
    /// The policy's alerts, whether they fire or not.
    pub alerts: Vec<BurnAlert>,
    /// Events that came later than any bucket reaches back.
    pub dropped: u64,
}

impl ErrorBudget {
    /// A budget of which nothing is spent yet.
    pub fn new(config: BudgetConfig) -> Result<Self, InvalidBudget> {
        let invalid = |field, found: f64, expected| Err(InvalidBudget { field, found: found.to_string(), expected });
        if let Some(total) = config.total.filter(|total| !(0.0..1.0).contains(total)) {
            return invalid("total", total, "a share from 0 to below 1");
        }
        if !(0.0..f64::INFINITY).contains(&config.consumed) {
            return invalid("consumed", config.consumed, "a share of the budget, at least 0");
        }
        if let Some(threshold) =
            config.policy.0.iter().find(|threshold| threshold.rate.is_nan() || threshold.rate <= 0.0)
        {
            return invalid("rate", threshold.rate, "a burn rate above 0");
        }
        let longest = config.policy.0.iter().map(|threshold| threshold.window).fold(config.window, Window::max);
        Ok(Self {
            counts: RollingCounts::new(longest),
            period: config.calendar.clone().map(PeriodCounts::new),
            slice: config.time_slices.map(OpenSlice::new),
            config,
            clock: Arc::new(SystemClock),
        })
    }

    /// The same budget, by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How it was set up.
    pub fn config(&self) -> &BudgetConfig {
        &self.config
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Records an event of now.
    pub fn record_event(&self, good: bool) {
        self.record(self.clock.coarse_now(), good);
    }

    /// Records an event of `time`.
    #[inline]
    pub fn record(&self, time: Timestamp, good: bool) {
        match &self.slice {
            Some(slice) => slice.record(time, good, &mut |start, good| self.count(start, good)),
            None => self.count(time, good),
        }
    }

    /// Counts the slices that are over at `now`; how many events came too late for theirs.
    fn judge_slices(&self, now: Timestamp) -> u64 {
        self.slice.as_ref().map_or(0, |slice| slice.settle(now, &mut |start, good| self.count(start, good)))
    }

    #[inline]
    fn count(&self, time: Timestamp, good: bool) {
        self.counts.record(time, good);
        if let Some(period) = &self.period {
            period.record(time, good);
        }
    }

    /// The share of the budget that is left, 0 when overspent; `None` without events or without a budget.
    pub fn remaining(&self) -> Option<f64> {
        self.reading(self.clock.now()).budget.remaining.map(|remaining| remaining.max(0.0))
    }

    /// The same in percent.
    pub fn remaining_percent(&self) -> Option<f64> {
        self.remaining().map(|remaining| remaining * 100.0)
    }

    /// The share of the budget that is spent, above 1 when overspent.
    pub fn consumed(&self) -> Option<f64> {
        self.reading(self.clock.now()).budget.consumed
    }

    /// Whether it is spent, by enough events to say so.
    pub fn is_exhausted(&self) -> bool {
        self.reading(self.clock.now()).status == Status::Exhausted
    }

    /// How fast it was spent over `window`: 1.0 spends it exactly over its own. `None` without events or budget.
    pub fn burn_rate(&self, window: Window) -> Option<f64> {
        let now = self.clock.now();
        self.judge_slices(now);
        self.config.burn(self.counts.view().sum(window, now))
    }

    /// The burn alerts that fire now.
    pub fn firing_alerts(&self) -> Vec<BurnAlert> {
        let mut alerts = self.reading(self.clock.now()).alerts;
        alerts.retain(|alert| alert.firing);
        alerts
    }

    /// Seconds until it is spent at the rate of the last hour; 0 when it is, `None` when it never will be.
    pub fn spent_in_seconds(&self) -> Option<f64> {
        self.reading(self.clock.now()).budget.spent_in_s
    }

    /// Writes what was counted.
    pub(crate) fn save(&self, state: &mut StateWriter) {
        state.put(&self.kind());
        self.counts.save(state);
        self.period.iter().for_each(|period| period.save(state));
        self.slice.iter().for_each(|slice| slice.save(state));
    }

    /// Adds what was saved; what a budget of another kind has counted is no use.
    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        if state.take::<(bool, bool)>()? != self.kind() {
            return Ok(());
        }
        self.counts.restore(state)?;
        self.period.iter().try_for_each(|period| period.restore(state))?;
        self.slice.iter().try_for_each(|slice| slice.restore(state))
    }

    /// Whether it begins anew by the calendar, and whether it counts slices of time.
    fn kind(&self) -> (bool, bool) {
        (self.period.is_some(), self.slice.is_some())
    }

    /// What was counted over `window` up to `now`, bucket by bucket; see [`RollingView::course`].
    pub fn course(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        self.judge_slices(now);
        self.counts.view().course(window, now)
    }

    /// Everything about the budget at `now`.
    pub fn reading(&self, now: Timestamp) -> BudgetReading {
        let late = self.judge_slices(now);
        let view = self.counts.view();
        let in_window = match &self.period {
            Some(period) => period.counts(now),
            None => view.sum(self.config.window, now),
        };
        let mut reading = self.config.reading(in_window, &view, now);
        reading.dropped += late;
        reading
    }
}

impl fmt::Debug for ErrorBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBudget").field("config", &self.config).finish_non_exhaustive()
    }
}

impl BudgetConfig {
    /// The number of events from which on the budget speaks up.
    pub fn effective_min_events(&self) -> u64 {
        self.min_events.unwrap_or(match self.total {
            Some(total) if total > 0.0 => (1.0 / total - EPSILON).ceil() as u64,
            _ => 1,
        })
    }

    /// Error ratio over budget. Nothing bad against a budget of 0 burns at 0, anything else at infinity.
    fn burn(&self, counts: Counts) -> Option<f64> {
        Some(over_budget(counts.error_ratio()?, self.total?))
    }

    fn reading(&self, counts: Counts, view: &RollingView<'_>, now: Timestamp) -> BudgetReading {
        let enough = counts.total() >= self.effective_min_events();
        let consumed = self.total.filter(|_| counts.total() > 0).map(|total| {
            let events = counts.total().max(self.expected_events.unwrap_or(0));
            self.consumed + over_budget(counts.bad as f64 / events as f64, total)
        });
        let alerts: Vec<BurnAlert> = self
            .policy
            .0
            .iter()
            .map(|threshold| {
                let burns =
                    |window| self.burn(view.sum(window, now)).is_some_and(|rate| rate >= threshold.rate - EPSILON);
                BurnAlert {
                    severity: threshold.severity,
                    threshold: threshold.rate,
                    long_window: threshold.window,
                    short_window: threshold.short_window(),
                    firing: enough && burns(threshold.short_window()) && burns(threshold.window),
                }
            })
            .collect();
        let burn_rates: Vec<BurnRate> = REPORTED
            .iter()
            .map(|&window| {
                let counts = view.sum(window, now);
                BurnRate { window, rate: self.burn(counts), good: counts.good, bad: counts.bad }
            })
            .collect();
        let remaining = consumed.map(|consumed| 1.0 - consumed);
        let present = burn_rates.iter().find(|rate| rate.window == Window::HOUR).and_then(|rate| rate.rate);
        BudgetReading {
            status: self.status(counts, enough, consumed, &alerts),
            counts,
            budget: ErrorBudgetSnapshot {
                total: self.total,
                consumed,
                remaining,
                spent_in_s: remaining.and_then(|remaining| self.spent_in(remaining, present)),
            },
            burn_rates,
            alerts,
            dropped: view.dropped(),
        }
    }

    fn status(&self, counts: Counts, enough: bool, consumed: Option<f64>, alerts: &[BurnAlert]) -> Status {
        let fires = |severity| alerts.iter().any(|alert| alert.firing && alert.severity == severity);
        match consumed {
            _ if counts.total() == 0 => Status::Unknown,
            _ if !enough && counts.bad > 0 => Status::Unknown,
            _ if !enough => Status::Healthy,
            Some(consumed) if consumed >= 1.0 - EPSILON => Status::Exhausted,
            _ if fires(Severity::Critical) => Status::Critical,
            _ if fires(Severity::Warning) => Status::Warning,
            _ => Status::Healthy,
        }
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
    if error_ratio == 0.0 { 0.0 } else { crate::target::without_noise(error_ratio / total) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use sre_core::ManualClock;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn budget(config: BudgetConfig) -> (ErrorBudget, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(START));
        (ErrorBudget::new(config).unwrap().with_clock(clock.clone()), clock)
    }

    fn five_percent() -> BudgetConfig {
        BudgetConfig { total: Some(0.05), ..Default::default() }
    }

    fn record(budget: &ErrorBudget, good: u64, bad: u64) {
        (0..good).for_each(|_| budget.record_event(true));
        (0..bad).for_each(|_| budget.record_event(false));
    }

    #[test]
    fn burn_rate_is_one_when_errors_spend_exactly_the_budget() {
        let (budget, _) = budget(five_percent());
        record(&budget, 95, 5);
        for window in REPORTED {
            assert_eq!(budget.burn_rate(window), Some(1.0));
        }
        assert_eq!((budget.consumed(), budget.remaining()), (Some(1.0), Some(0.0)));
        assert!(budget.is_exhausted());
        assert_eq!(budget.spent_in_seconds(), Some(0.0));
    }

    #[test]
    fn one_failed_task_does_not_shout() {
        let (budget, _) = budget(five_percent());
        record(&budget, 0, 1);
        let reading = budget.reading(START);
        assert_eq!(reading.status, Status::Unknown);
        assert!(reading.alerts.iter().all(|alert| !alert.firing));
        record(&budget, 19, 0);
        assert_eq!(budget.reading(START).status, Status::Exhausted, "at 20 events one in twenty is the whole budget");
    }

    #[test]
    fn the_guard_is_free_of_float_noise() {
        for (target, events) in [(0.9, 10), (0.99, 100), (0.999, 1000), (0.995, 200), (0.95, 20), (0.7, 4)] {
            let total = Some(crate::Target::try_from(target).unwrap().budget());
            assert_eq!(BudgetConfig { total, ..Default::default() }.effective_min_events(), events, "{target}");
        }
        assert_eq!(BudgetConfig { total: Some(0.0), ..Default::default() }.effective_min_events(), 1);
    }

    #[test]
    fn a_target_of_one_burns_at_zero_or_at_infinity() {
        let (budget, _) = budget(BudgetConfig { total: Some(0.0), ..Default::default() });
        record(&budget, 10, 0);
        assert_eq!((budget.burn_rate(Window::HOUR), budget.consumed()), (Some(0.0), Some(0.0)));
        assert_eq!(budget.reading(START).status, Status::Healthy);
        record(&budget, 0, 1);
        assert_eq!(budget.burn_rate(Window::HOUR), Some(f64::INFINITY));
        assert_eq!(budget.reading(START).status, Status::Exhausted);
    }

    #[test]
    fn no_events_are_no_number() {
        let (budget, _) = budget(five_percent());
        assert_eq!((budget.remaining(), budget.burn_rate(Window::HOUR)), (None, None));
        assert_eq!(budget.reading(START).status, Status::Unknown);
    }

    #[test]
    fn expected_events_stretch_the_budget() {
        let (budget, _) = budget(BudgetConfig { expected_events: Some(1000), ..five_percent() });
        record(&budget, 90, 10);
        assert_eq!(budget.consumed(), Some(0.2));
        record(&budget, 1900, 0);
        assert_eq!(budget.consumed(), Some(0.1), "10 bad of 2,000, where 100 may be");
    }

    #[test]
    fn an_alert_needs_both_windows_and_stops_with_the_short_one() {
        let (budget, clock) = budget(five_percent());
        record(&budget, 1000, 0);
        clock.advance(Duration::from_secs(3 * 3600));
        record(&budget, 80, 20);
        let severities = |budget: &ErrorBudget| -> Vec<_> {
            budget.firing_alerts().into_iter().map(|alert| alert.severity).collect()
        };
        assert_eq!(severities(&budget), [Severity::Warning], "burns at 4");
        assert_eq!(budget.reading(clock.now()).status, Status::Warning);
        clock.advance(Duration::from_secs(10 * 60));
        record(&budget, 50, 0);
        assert!(severities(&budget).is_empty(), "the long window still burns at 2.7, the short one at 0");
        assert!(budget.burn_rate(Window::HOUR).unwrap() > 2.0);
    }

    #[test]
    fn what_is_left_goes_at_the_present_rate() {
        let (budget, clock) = budget(five_percent());
        record(&budget, 980, 0);
        clock.advance(Duration::from_secs(86_400));
        record(&budget, 10, 10);
        // 1 % of all failed, a fifth of the budget; the last hour burns at 0.5 / 0.05 = 10.
        let expected = 0.8 * 30.0 * 86_400.0 / 10.0;
        assert!((budget.spent_in_seconds().unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (config, field) in [
            (BudgetConfig { total: Some(1.0), ..Default::default() }, "total"),
            (BudgetConfig { total: Some(f64::NAN), ..Default::default() }, "total"),
            (BudgetConfig { consumed: -1.0, ..Default::default() }, "consumed"),
            (BudgetConfig { policy: BurnPolicy::with_rates(0.0, 1.0), ..Default::default() }, "rate"),
        ] {
            assert!(ErrorBudget::new(config).unwrap_err().to_string().contains(field));
        }
    }

    proptest! {
        /// The Workbook's definitions, computed from the plain list of events.
        #[test]
        fn every_number_agrees_with_its_definition(good in 0u64..500, bad in 0u64..50, total in 1u32..50) {
            let total = f64::from(total) / 100.0;
            let (budget, _) = budget(BudgetConfig { total: Some(total), min_events: Some(0), ..Default::default() });
            record(&budget, good, bad);
            let reading = budget.reading(START);
            prop_assert_eq!(reading.counts, Counts { good, bad });
            if good + bad > 0 {
                let rate = bad as f64 / (good + bad) as f64 / total;
                prop_assert!((reading.budget.consumed.unwrap() - rate).abs() < 1e-9);
                for burn in &reading.burn_rates {
                    prop_assert!((burn.rate.unwrap() - rate).abs() < 1e-9);
                }
                for alert in &reading.alerts {
                    prop_assert!(alert.firing == (rate >= alert.threshold) || (rate - alert.threshold).abs() < 1e-8);
                }
            }
        }
    }
}
