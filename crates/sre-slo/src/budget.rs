use std::fmt;
use std::sync::Arc;

use sre_core::{
    BurnAlert, Clock, Counts, ExhaustionAction, RollingCounts, RollingView, StateError, StateReader, StateWriter,
    Status, SystemClock, Timestamp, Window,
};

use crate::calendar::PeriodCounts;
use crate::evaluation::{BudgetReading, Observed, WindowCounts};
use crate::time_slices::OpenSlice;
use crate::{BurnPolicy, BurnThreshold, Calendar, TimeSlices};

/// Configures an error budget. Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    /// Ratio of events that may be bad, from 0 to below 1. `None` counts events without a budget.
    pub total: Option<f64>,
    /// The window of the budget.
    pub window: Window,
    /// Calendar periods at which the budget resets, instead of a rolling window.
    pub calendar: Option<Calendar>,
    /// Counts time slices instead of events.
    pub time_slices: Option<TimeSlices>,
    /// Burn-rate alerts.
    pub policy: BurnPolicy,
    /// What to do when the budget is exhausted.
    pub exhaustion_action: ExhaustionAction,
    /// How improbable bad events must be at the target for an alert to fire and for the budget to count as exhausted, above 0
    /// and below 1. Default: 0.0005.
    pub significance: f64,
    /// Least number of bad events for the same; with a budget of 0, one is enough. Default: 3.
    pub min_bad: u64,
    /// Minimum number of events in the window for alerts to fire and for the budget to count as exhausted. Replaces
    /// `significance`, `min_bad` and the longer windows under low traffic. Indicators of means need as many samples.
    pub min_events: Option<u64>,
    /// Expected number of events in the window. Until there are as many, ratios are relative to this number.
    pub expected_events: Option<u64>,
    /// Ratio of the budget consumed before this budget began to count.
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
            significance: 0.0005,
            min_bad: 3,
            min_events: None,
            expected_events: None,
            consumed: 0.0,
        }
    }
}

impl BudgetConfig {
    /// Returns the shortest and the longest window of the budget and its alerts.
    pub(crate) fn windows(&self) -> (Window, Window) {
        let thresholds = &self.policy.thresholds;
        let longest = thresholds.iter().map(|threshold| threshold.window).fold(self.window, Window::max);
        let shortest = thresholds.iter().map(BurnThreshold::short_window).fold(self.window, Window::min);
        (shortest, longest)
    }

    /// Returns the first invalid field.
    pub(crate) fn check(&self) -> Result<(), InvalidBudget> {
        let invalid = |field, found: f64, expected| Err(InvalidBudget { field, found: found.to_string(), expected });
        if let Some(total) = self.total.filter(|total| !(0.0..1.0).contains(total)) {
            return invalid("total", total, "a ratio from 0 to below 1");
        }
        if !(0.0..f64::INFINITY).contains(&self.consumed) {
            return invalid("consumed", self.consumed, "a ratio of at least 0");
        }
        if !(self.significance > 0.0 && self.significance < 1.0) {
            return invalid("significance", self.significance, "a probability above 0 and below 1");
        }
        if self.min_bad == 0 {
            return invalid("min_bad", 0.0, "a number of events above 0");
        }
        if let Some(threshold) =
            self.policy.thresholds.iter().find(|threshold| !(threshold.rate > 0.0 && threshold.rate.is_finite()))
        {
            return invalid("rate", threshold.rate, "a finite burn rate above 0");
        }
        let (shortest, _) = self.windows();
        if shortest < Window::SHORTEST_COUNTED {
            let expected = "at least 1s, also of an alert's short window, a twelfth of its window";
            return Err(InvalidBudget { field: "window", found: shortest.to_string(), expected });
        }
        Ok(())
    }

    /// Returns the fields of [`ErrorBudget::to_dict`].
    pub(crate) fn to_dict(&self, reading: &BudgetReading) -> serde_json::Value {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let remaining = reading.budget.remaining.map(|remaining| remaining.max(0.0));
        let firing = reading.alerts.iter().filter(|alert| alert.firing);
        serde_json::json!({
            "total": reading.budget.total,
            "consumed": finite(reading.budget.consumed),
            "remaining_percent": remaining.map(|remaining| remaining * 100.0),
            "is_exhausted": reading.status == Status::Exhausted,
            "burn_rate": finite(reading.burn_rates.iter().find(|burn| burn.window == Window::DAY).and_then(|burn| burn.rate)),
            "exhaustion_action": self.exhaustion_action,
            "firing_alerts": firing.map(|alert| format!("burn_rate_{}", alert.severity)).collect::<Vec<_>>(),
        })
    }
}

/// An invalid field of a [`BudgetConfig`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
pub struct InvalidBudget {
    field: &'static str,
    found: String,
    expected: &'static str,
}

/// An error budget: counts good and bad events, and computes what remains and the burn rates (SRE Workbook, ch. 5).
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

impl ErrorBudget {
    /// Creates a budget without events.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first invalid field of `config`.
    pub fn new(config: BudgetConfig) -> Result<Self, InvalidBudget> {
        config.check()?;
        let (shortest, longest) = config.windows();
        Ok(Self {
            counts: RollingCounts::covering(shortest, longest),
            period: config.calendar.clone().map(PeriodCounts::new),
            slice: config.time_slices.map(OpenSlice::new),
            config,
            clock: Arc::new(SystemClock),
        })
    }

    /// Replaces the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the configuration.
    pub fn config(&self) -> &BudgetConfig {
        &self.config
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Records an event at the current time.
    pub fn record_event(&self, good: bool) {
        self.record(self.clock.coarse_now(), good);
    }

    /// Records an event at `time`.
    #[inline]
    pub fn record(&self, time: Timestamp, good: bool) {
        match &self.slice {
            Some(slice) => slice.record(time, good, &mut |start, good| self.count(start, good)),
            None => self.count(time, good),
        }
    }

    /// Counts the time slices that have ended by `now`. Returns the number of events that came too late for their slice.
    fn close_slices(&self, now: Timestamp) -> u64 {
        self.slice.as_ref().map_or(0, |slice| slice.close_until(now, &mut |start, good| self.count(start, good)))
    }

    #[inline]
    fn count(&self, time: Timestamp, good: bool) {
        self.counts.record(time, good);
        if let Some(period) = &self.period {
            period.record(time, good);
        }
    }

    /// Returns the ratio of the budget that remains, 0 when overspent; `None` without events or without a budget.
    pub fn remaining(&self) -> Option<f64> {
        self.reading(self.clock.now()).budget.remaining.map(|remaining| remaining.max(0.0))
    }

    /// Returns [`remaining`](Self::remaining) in percent.
    pub fn remaining_percent(&self) -> Option<f64> {
        self.remaining().map(|remaining| remaining * 100.0)
    }

    /// Returns the ratio of the budget that is consumed, above 1 when overspent; `None` without events or without a budget.
    pub fn consumed(&self) -> Option<f64> {
        self.reading(self.clock.now()).budget.consumed
    }

    /// Returns true if the budget is exhausted and has enough events as evidence.
    pub fn is_exhausted(&self) -> bool {
        self.reading(self.clock.now()).status == Status::Exhausted
    }

    /// Returns the burn rate over `window`; 1.0 consumes the budget exactly over its own window. `None` without events or
    /// without a budget.
    pub fn burn_rate(&self, window: Window) -> Option<f64> {
        let now = self.clock.now();
        self.close_slices(now);
        self.config.burn(&self.counts.view().sum(window, now).into())
    }

    /// Returns the burn alerts that are firing.
    pub fn firing_alerts(&self) -> Vec<BurnAlert> {
        let mut alerts = self.reading(self.clock.now()).alerts;
        alerts.retain(|alert| alert.firing);
        alerts
    }

    /// Returns the seconds until the budget is exhausted at the burn rate of the last hour: 0 if it already is, `None` if it
    /// never will be.
    pub fn spent_in_seconds(&self) -> Option<f64> {
        self.reading(self.clock.now()).budget.spent_in_s
    }

    /// Saves the counts.
    pub(crate) fn save(&self, state: &mut StateWriter) {
        state.put(&self.kind());
        self.counts.save(state);
        self.period.iter().for_each(|period| period.save(state));
        self.slice.iter().for_each(|slice| slice.save(state));
    }

    /// Adds saved counts. Those of a budget of another kind are ignored.
    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        if state.take::<(bool, bool)>()? != self.kind() {
            return Ok(());
        }
        self.counts.restore(state)?;
        self.period.iter().try_for_each(|period| period.restore(state))?;
        self.slice.iter().try_for_each(|slice| slice.restore(state))
    }

    /// Returns whether the budget has calendar periods, and whether it counts time slices.
    fn kind(&self) -> (bool, bool) {
        (self.period.is_some(), self.slice.is_some())
    }

    /// Returns the counts of each bucket in `window` up to `now`; see [`RollingView::time_series`].
    pub fn time_series(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        self.close_slices(now);
        self.counts.view().time_series(window, now)
    }

    /// Returns the counts of the window, or of the current period.
    pub(crate) fn present(&self, now: Timestamp) -> Counts {
        self.close_slices(now);
        match &self.period {
            Some(period) => period.counts(now),
            None => self.counts.view().sum(self.config.window, now),
        }
    }

    /// Returns the counts of the window that ends at `end`.
    pub(crate) fn sum(&self, window: Window, end: Timestamp) -> Counts {
        self.counts.view().sum(window, end)
    }

    /// Returns the counts since the start of the process, whatever their age.
    pub(crate) fn recorded(&self, now: Timestamp) -> Counts {
        self.close_slices(now);
        self.counts.view().recorded()
    }

    /// Returns the time of the last event.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.counts.view().latest()
    }

    /// Returns the fields of `ErrorBudget.to_dict` in the Python package `agent-sre`: `consumed` is the ratio of the budget, and
    /// `burn_rate` that over a day.
    pub fn to_dict(&self) -> serde_json::Value {
        self.config.to_dict(&self.reading(self.clock.now()))
    }

    /// Returns the state at `now`.
    pub fn reading(&self, now: Timestamp) -> BudgetReading {
        let late = self.close_slices(now);
        let present = self.present(now).into();
        let view = self.counts.view();
        let mut reading = self.config.reading(&present, &view, now);
        reading.dropped = late + view.dropped();
        reading
    }
}

impl fmt::Debug for ErrorBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBudget").field("config", &self.config).finish_non_exhaustive()
    }
}

impl WindowCounts for RollingView<'_> {
    fn sum(&self, window: Window, end: Timestamp) -> Observed {
        self.sum(window, end).into()
    }

    fn latest(&self, _now: Timestamp) -> Option<Timestamp> {
        self.latest()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use sre_core::{ManualClock, Severity};

    use super::*;
    use crate::evaluation::REPORTED;

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
        record(&budget, 950, 50);
        for window in REPORTED {
            assert_eq!(budget.burn_rate(window), Some(1.0));
        }
        assert_eq!((budget.consumed(), budget.remaining()), (Some(1.0), Some(0.0)));
        assert!(budget.is_exhausted());
        assert_eq!(budget.spent_in_seconds(), Some(0.0));
    }

    #[test]
    fn nothing_is_said_without_evidence() {
        let status = |total, bad, events| {
            let (budget, _) = budget(BudgetConfig { total: Some(total), ..Default::default() });
            record(&budget, events - bad, bad);
            let reading = budget.reading(START);
            assert_eq!(reading.reason.is_some(), reading.status == Status::Unknown, "{reading:?}");
            reading
        };
        for (total, bad, events) in [(0.05, 1, 1), (0.05, 3, 20), (0.05, 10, 100), (0.1, 2, 10), (0.001, 2, 2)] {
            let reading = status(total, bad, events);
            assert_eq!(reading.status, Status::Unknown, "{bad} of {events} at {total}: {reading:?}");
            assert!(reading.alerts.iter().all(|alert| !alert.firing));
        }
        assert_eq!(status(0.1, 2, 10).reason.unwrap(), "2 of 10 bad: too few to tell from 90 %");
        for (total, bad, events) in [(0.1, 5, 5), (0.001, 3, 3), (0.001, 999, 999), (0.05, 30, 590)] {
            let reading = status(total, bad, events);
            assert_eq!(reading.status, Status::Exhausted, "{bad} of {events} at {total}: {reading:?}");
        }
    }

    #[test]
    fn a_few_events_that_are_all_bad_fire() {
        for (total, bad) in [(0.1, 5), (0.001, 3), (0.001, 999)] {
            let (budget, _) = budget(BudgetConfig { total: Some(total), ..Default::default() });
            record(&budget, 0, bad);
            let severities: Vec<_> = budget.firing_alerts().iter().map(|alert| alert.severity).collect();
            assert_eq!(severities, [Severity::Warning, Severity::Critical], "{bad} of {bad} at {total}");
        }
    }

    #[test]
    fn under_low_traffic_the_shortest_window_with_five_events_counts_else_the_longest_that_the_budget_has() {
        let judged = |window, hours: &[u64]| {
            let (budget, _) = budget(BudgetConfig { total: Some(0.1), window, ..Default::default() });
            hours.iter().for_each(|age| budget.record(START.saturating_sub(Duration::from_secs(3600 * age)), false));
            let alert = budget.reading(START).alerts[0];
            (alert.judged_window.unwrap(), alert.bad)
        };
        // An event now, so that the windows end now.
        assert_eq!(judged(Window::MONTH, &[0, 0, 0, 0, 0, 5]), (Window::HOUR, 5));
        assert_eq!(judged(Window::MONTH, &[0, 2, 3, 4, 5, 20]), (Window::hours(6), 5));
        assert_eq!(judged(Window::MONTH, &[0, 2, 3, 4, 20]), (Window::DAY, 5));
        assert_eq!(judged(Window::MONTH, &[0, 2, 3, 40, 60]), (Window::days(3), 5));
        assert_eq!(judged(Window::MONTH, &[0, 2, 3]), (Window::days(3), 3), "the longest, however little it holds");
        assert_eq!(judged(Window::DAY, &[0, 2, 3, 30]), (Window::DAY, 3), "none is longer than the budget's window");
        assert_eq!(judged(Window::HOUR, &[0, 2, 3]), (Window::HOUR, 1));
    }

    #[test]
    fn a_written_minimum_replaces_the_evidence() {
        let (budget, _) = budget(BudgetConfig { min_events: Some(20), ..five_percent() });
        record(&budget, 0, 19);
        assert_eq!(budget.reading(START).status, Status::Unknown);
        record(&budget, 1, 0);
        assert_eq!(budget.reading(START).status, Status::Exhausted);
    }

    #[test]
    fn one_failing_task_an_hour_is_found_and_stays_until_a_good_one() {
        for total in [0.05, 0.01, 0.001] {
            let (budget, clock) = budget(BudgetConfig { total: Some(total), ..Default::default() });
            // A month of good tasks, one an hour, leaves most of the budget.
            (0..700).rev().for_each(|hour| budget.record(START.saturating_sub(Duration::from_secs(3600 * hour)), true));
            let fires =
                |budget: &ErrorBudget| budget.firing_alerts().iter().any(|alert| alert.severity == Severity::Critical);
            let mut hours = 0;
            while !fires(&budget) {
                hours += 1;
                assert!(hours <= 5, "{total}: {:?}", budget.reading(clock.now()));
                clock.advance(Duration::from_secs(3600));
                record(&budget, 0, 1);
            }
            for minute in 1..=24 * 60 {
                clock.advance(Duration::from_secs(60));
                if minute % 60 == 0 {
                    record(&budget, 0, 1);
                }
                assert!(fires(&budget), "{total}, minute {minute}: {:?}", budget.reading(clock.now()));
            }
            for _ in 0..200 {
                clock.advance(Duration::from_secs(600));
                assert!(fires(&budget), "{total}: silence resolves nothing: {:?}", budget.reading(clock.now()));
            }
            record(&budget, 1, 0);
            assert!(!fires(&budget) || total < 0.01, "{total}: {:?}", budget.reading(clock.now()));
        }
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
    fn without_events_there_is_no_ratio() {
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
        assert_eq!(budget.consumed(), Some(0.1), "10 bad of 2,000 events, of which 100 are within the budget");
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
    fn exhaustion_is_extrapolated_from_the_last_hour() {
        let (budget, clock) = budget(five_percent());
        record(&budget, 980, 0);
        clock.advance(Duration::from_secs(86_400));
        record(&budget, 10, 10);
        // 1 % of all failed, a fifth of the budget; the last hour burns at 0.5 / 0.05 = 10.
        let expected = 0.8 * 30.0 * 86_400.0 / 10.0;
        assert!((budget.spent_in_seconds().unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn an_invalid_field_is_named() {
        for (config, field) in [
            (BudgetConfig { total: Some(1.0), ..Default::default() }, "total"),
            (BudgetConfig { total: Some(f64::NAN), ..Default::default() }, "total"),
            (BudgetConfig { consumed: -1.0, ..Default::default() }, "consumed"),
            (BudgetConfig { policy: BurnPolicy::with_rates(0.0, 1.0), ..Default::default() }, "rate"),
            (BudgetConfig { policy: BurnPolicy::with_rates(2.0, f64::INFINITY), ..Default::default() }, "rate"),
        ] {
            assert!(ErrorBudget::new(config).unwrap_err().to_string().contains(field));
        }
    }

    proptest! {
        /// Nothing changes until the last event leaves the budget's window.
        #[test]
        fn silence_neither_raises_nor_resolves(
            events in prop::collection::vec((0u64..100_000, any::<bool>()), 1..60),
            silence in prop::collection::vec(1u64..6 * 86_400, 2..5),
        ) {
            let config = BudgetConfig { total: Some(0.1), window: Window::WEEK, ..Default::default() };
            let (budget, _) = budget(config);
            let last = START.saturating_add(Duration::from_secs(events.iter().map(|(second, _)| *second).max().unwrap()));
            for (second, good) in &events {
                budget.record(START.saturating_add(Duration::from_secs(*second)), *good);
            }
            let alerts = |seconds: u64| budget.reading(last.saturating_add(Duration::from_secs(seconds))).alerts;
            let first = alerts(0);
            for seconds in silence {
                let mut later = alerts(seconds);
                later.iter_mut().for_each(|alert| alert.judged_until = None);
                prop_assert_eq!(&later, &first, "after {} s", seconds);
            }
            prop_assert!(alerts(8 * 86_400).iter().all(|alert| !alert.firing), "it left the budget's window");
        }

        /// Computes the Workbook's definitions from the list of events.
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
