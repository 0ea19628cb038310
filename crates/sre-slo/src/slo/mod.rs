mod build;
mod indicator;
mod state;

pub use build::BuildError;
pub(crate) use state::{end_of_removed, open_incident, signals_of};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use sre_core::private::lock;
use sre_core::{
    AgentEvent, Collect, Counts, EventKind, Exemplar, IndicatorSnapshot, Metric, MetricUnit, Observe, Phase, Signal,
    Sli, SloSnapshot, Snapshot, Status, TaskCosts, Timestamp, Unit, Window,
};

use self::build::strictest_budget;
use self::indicator::Indicator;
use self::state::Transition;
use crate::GoodWhen;
use crate::budget::{BudgetConfig, ErrorBudget, InvalidBudget};
use crate::composite::Composite;
use crate::evaluation::BudgetReading;
use crate::indicator_policy::MissPolicy;
use crate::target::round_to_12_decimals;

/// A service level objective of one agent: indicators and an error budget.
///
/// Time per [`Slo::observe`] and memory do not grow with the number of events: at most 64 KiB, and per indicator
/// 20 KiB, or 60 KiB for a percentile, whatever the windows.
pub struct Slo {
    name: String,
    agent: String,
    description: String,
    labels: BTreeMap<String, String>,
    indicators: Vec<Indicator>,
    not_evaluable: Vec<String>,
    budget: ErrorBudget,
    /// `None` if all indicators belong to another system, whose events are not observed.
    good_when: Option<GoodWhen>,
    costs: Option<Mutex<TaskCosts>>,
    /// What a composite objective combines, instead of events of its own.
    composite: Option<Composite>,
    transition: Mutex<Transition>,
    last_bad: Mutex<Option<Exemplar>>,
}

/// Windows that the counts of every indicator cover.
const COVERED_FROM: Window = Window::minutes(1);
const COVERED_TO: Window = Window::days(31);

impl Slo {
    /// Creates an objective whose budget comes from the strictest ratio target among the `indicators` that count its own events, such
    /// as a `TaskSuccessRate`, or else among all: `1 - target`, or the target itself if lower is better. Without a ratio indicator
    /// there is no budget.
    ///
    /// # Errors
    ///
    /// Returns an error if the target leaves no valid budget.
    pub fn new(name: impl Into<String>, indicators: Vec<Box<dyn Sli>>) -> Result<Self, InvalidBudget> {
        let good_when = GoodWhen::default();
        let total = strictest_budget(indicators.iter().map(|indicator| &**indicator), &good_when);
        let budget = ErrorBudget::new(BudgetConfig { total, ..Default::default() })?;
        let unnamed = indicators.into_iter().map(|sli| (sli, None, false));
        let slo = Self {
            name: name.into(),
            agent: String::new(),
            description: String::new(),
            labels: BTreeMap::new(),
            indicators: Indicator::of_objective(unnamed),
            not_evaluable: Vec::new(),
            budget,
            good_when: Some(good_when),
            costs: None,
            composite: None,
            transition: Mutex::default(),
            last_bad: Mutex::default(),
        };
        Ok(slo.with_policies())
    }

    /// Derives each indicator's error budget and status rule, from the objective's budget and what the indicator counts.
    fn with_policies(mut self) -> Self {
        let (config, good_when) = (self.budget.config(), self.good_when.as_ref());
        let (shortest, longest) = config.windows();
        // Every series covers these.
        let is_covered = shortest >= COVERED_FROM && longest <= COVERED_TO;
        for indicator in &mut self.indicators {
            indicator.policy = match indicator.is_informational {
                true => MissPolicy::None,
                false => MissPolicy::of(&*indicator.sli, config, good_when),
            };
            if !is_covered && matches!(indicator.policy, MissPolicy::Budget(_)) {
                indicator.sli.cover(shortest, longest);
            }
        }
        self
    }

    /// Sets the agent.
    #[must_use]
    pub fn for_agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Replaces the error budget.
    #[must_use]
    pub fn with_budget(mut self, budget: ErrorBudget) -> Self {
        self.budget = budget;
        self.with_policies()
    }

    /// Sets which events the budget counts, and when one is good.
    #[must_use]
    pub fn with_good_when(mut self, good_when: GoodWhen) -> Self {
        let needs_costs = good_when.event == EventKind::TaskFinished && good_when.max_cost_usd.is_some();
        self.costs = needs_costs.then(Mutex::default);
        self.good_when = Some(good_when);
        self.with_policies()
    }

    /// Sets the labels, which filters and exporters read.
    #[must_use]
    pub fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Sets the description.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the agent; empty if the objective is not bound to one.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Returns the description.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the error budget. That of a composite objective counts no events: [`snapshot_at`](Self::snapshot_at) has its state.
    pub fn budget(&self) -> &ErrorBudget {
        &self.budget
    }

    /// Returns the indicators.
    pub fn indicators(&self) -> impl Iterator<Item = &dyn Sli> {
        self.indicators.iter().map(|indicator| &*indicator.sli)
    }

    /// Counts an event in the budget at the current time. Indicators are recorded with their own methods, or all at once with
    /// [`Slo::observe`].
    pub fn record_event(&self, good: bool) {
        self.budget.record_event(good);
    }

    /// Records an event in the budget and the indicators. An objective that is bound to an agent ignores other agents' events.
    #[inline]
    pub fn observe(&self, event: &AgentEvent) {
        self.record(event);
    }

    /// Records an event like [`observe`](Self::observe). Returns whether it is good; `None` if the budget does not count it. A composite
    /// objective counts none itself.
    #[inline]
    pub fn record(&self, event: &AgentEvent) -> Option<bool> {
        if self.agent.is_empty() || self.agent == event.agent { self.count(event) } else { None }
    }

    /// Records an event, whatever its agent.
    #[inline]
    pub(crate) fn count(&self, event: &AgentEvent) -> Option<bool> {
        if let Some(composite) = &self.composite {
            composite.observe(event);
            return None;
        }
        let cost = self.costs.as_ref().and_then(|costs| lock(costs).observe(event));
        let outcome = self.good_when.as_ref().and_then(|good_when| good_when.judge(event, cost));
        if let Some(good) = outcome {
            self.budget.record(event.time, good);
            if !good {
                *lock(&self.last_bad) = Exemplar::of(event);
            }
        }
        for indicator in &self.indicators {
            indicator.sli.observe(event);
        }
        outcome
    }

    /// Returns whether an event is a sample of one of the indicators of latency that takes longer than the indicator's target.
    pub(crate) fn is_slow(&self, event: &AgentEvent) -> bool {
        self.indicators.iter().any(|indicator| indicator.sli.is_slow(event))
    }

    /// Returns the status now. Reading it changes nothing: transitions are signalled by [`Slo::evaluate_at`].
    pub fn evaluate(&self) -> Status {
        self.status_at(self.budget.clock().now()).0
    }

    /// Returns the worst status of the error budget and of the indicators that miss their targets, and what remains of the budget.
    fn status_at(&self, now: Timestamp) -> (Status, Option<f64>) {
        let of_indicators = self.indicators.iter().filter_map(|indicator| indicator.status(now));
        let reading = self.budget_reading(now);
        (worst(reading.status, of_indicators), reading.budget.remaining)
    }

    /// Returns the status that the last [`evaluate_at`](Self::evaluate_at) found, and the share of the error budget that remained.
    /// Takes much less time than [`snapshot_at`](Self::snapshot_at).
    pub fn last_evaluation(&self) -> (Status, Option<f64>) {
        let transition = lock(&self.transition);
        (transition.status, transition.remaining)
    }

    fn budget_reading(&self, now: Timestamp) -> BudgetReading {
        match &self.composite {
            Some(composite) => composite.reading(self.budget.config(), now),
            None => self.budget.reading(now),
        }
    }

    /// Returns the counts of each bucket in `window` up to `now`; see [`RollingView::time_series`](sre_core::RollingView::time_series).
    pub fn time_series(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        match &self.composite {
            Some(composite) => composite.time_series(window, now),
            None => self.budget.time_series(window, now),
        }
    }

    /// Returns the status at `now`, and sends a signal where it has changed since the last call.
    pub fn evaluate_at(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) -> Status {
        let (status, remaining) = self.status_at(now);
        let before = {
            let mut transition = lock(&self.transition);
            transition.remaining = remaining;
            (transition.status != status || transition.is_unconfirmed).then_some(transition.status)
        };
        if let Some(before) = before {
            // Outside the lock: indicators may be the user's code. Events since then may have changed the status again.
            let snapshot = self.snapshot_at(now);
            let (status, remaining) = (snapshot.status, snapshot.error_budget.remaining);
            let signal = snapshot.status_changed(before, self.budget.config().exhaustion_action, now);
            let mut transition = lock(&self.transition);
            if transition.status != before || (status == before && !transition.is_unconfirmed) {
                // Another thread has signalled it in the meantime, or nothing has changed after all.
                return transition.status;
            }
            let is_incident = signal.phase == Phase::Firing || transition.signal.is_some();
            let last = is_incident.then(|| Box::new(signal.clone()));
            *transition = Transition { status, remaining, signal: last, is_unconfirmed: false };
            drop(transition);
            signals(signal);
            return status;
        }
        status
    }

    /// Returns the current reading of every indicator.
    pub fn indicator_summary(&self) -> Vec<IndicatorSnapshot> {
        let now = self.budget.clock().now();
        self.snapshots_of_indicators(&self.budget_reading(now), now)
    }

    fn snapshots_of_indicators(&self, budget: &BudgetReading, now: Timestamp) -> Vec<IndicatorSnapshot> {
        self.indicators.iter().map(|indicator| indicator.snapshot(budget, now)).collect()
    }

    /// Returns the fields of `SLO.to_dict` in the Python package `agent-sre`, with those of
    /// [`ErrorBudget::to_dict`] and [`IndicatorSnapshot::to_dict`].
    pub fn to_dict(&self) -> serde_json::Value {
        let now = self.budget.clock().now();
        let (reading, indicators) = (self.budget_reading(now), self.indicator_summary());
        serde_json::json!({
            "name": self.name,
            "description": self.description,
            "status": self.status_at(now).0,
            "labels": self.labels,
            "error_budget": self.budget.config().to_dict(&reading),
            "indicators": indicators.iter().map(IndicatorSnapshot::to_dict).collect::<Vec<_>>(),
        })
    }

    /// Returns the state at `now`.
    pub fn snapshot_at(&self, now: Timestamp) -> SloSnapshot {
        let reading = self.budget_reading(now);
        let mut snapshot = SloSnapshot::new(&*self.name, &*self.agent, self.budget.config().window);
        snapshot.description.clone_from(&self.description);
        snapshot.indicators = self.snapshots_of_indicators(&reading, now);
        let of_indicators = snapshot.indicators.iter().filter_map(IndicatorSnapshot::status_for_objective);
        snapshot.status = worst(reading.status, of_indicators);
        (snapshot.budget_status, snapshot.reason) = (reading.status, reading.reason);
        snapshot.target = reading.budget.total.map(|total| round_to_12_decimals(1.0 - total));
        (snapshot.good, snapshot.bad) = (reading.counts.good, reading.counts.bad);
        (snapshot.sli, snapshot.interval) = (reading.sli, reading.interval);
        snapshot.error_budget = reading.budget;
        snapshot.burn_rates = reading.burn_rates;
        snapshot.alerts = reading.alerts;
        if let Some(composite) = &self.composite {
            (snapshot.method, snapshot.objectives) = (Some(composite.method), composite.snapshots(now));
        }
        snapshot.not_evaluable.clone_from(&self.not_evaluable);
        snapshot.labels.clone_from(&self.labels);
        snapshot.dropped = reading.dropped;
        snapshot.last_bad = *lock(&self.last_bad);
        snapshot
    }
}

/// Returns the status of an objective: the worst of its budget's and of its indicators'.
fn worst(budget: Status, indicators: impl Iterator<Item = Status>) -> Status {
    indicators.fold(budget, Status::max)
}

impl Observe for Slo {
    fn observe(&self, event: &AgentEvent, _signals: &mut dyn FnMut(Signal)) {
        Self::observe(self, event);
    }

    fn evaluate(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) {
        self.evaluate_at(now, signals);
    }

    fn reassert(&self, signals: &mut dyn FnMut(Signal)) {
        let signal = lock(&self.transition).signal.clone();
        signal.into_iter().for_each(|signal| signals(*signal));
    }
}

impl Collect for Slo {
    fn snapshots(&self, now: Timestamp) -> Vec<Snapshot> {
        vec![Snapshot::Slo(Box::new(self.snapshot_at(now)))]
    }

    fn metrics(&self, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        self.emit_metrics(&self.snapshot_at(now), now, emit);
    }
}

impl Slo {
    /// Emits the metrics of a snapshot, and those that are no part of it.
    pub(crate) fn emit_metrics(&self, snapshot: &SloSnapshot, now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        snapshot.metrics(emit);
        if self.composite.is_none() && self.good_when.is_some() {
            let recorded = self.budget.recorded(now);
            for (outcome, count) in [("good", recorded.good), ("bad", recorded.bad)] {
                let labels = [("slo", &*self.name), ("agent", &*self.agent), ("outcome", outcome)];
                let events = Metric::counter("sre.slo.events", count as f64).with_labels(&labels);
                emit(events.with_help("Events of the error budget, by outcome."));
            }
        }
        for indicator in &self.indicators {
            let Some(histogram) = indicator.sli.histogram() else { continue };
            let unit = match indicator.sli.spec().unit {
                Unit::Milliseconds => MetricUnit::Seconds,
                Unit::Usd => MetricUnit::Dollars,
                Unit::Ratio | Unit::Difference => MetricUnit::Ratio,
                _ => MetricUnit::None,
            };
            let metric = Metric::histogram("sre.indicator.distribution", histogram).with_unit(unit);
            let labels = [("slo", &*self.name), ("agent", &*self.agent), ("indicator", &*indicator.name)];
            emit(metric.with_labels(&labels).with_help("Distribution of the indicator's samples."));
        }
    }
}

impl fmt::Debug for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slo").field("name", &self.name).field("agent", &self.agent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
