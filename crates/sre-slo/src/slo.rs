use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use sre_core::private::lock;
use sre_core::{
    AgentEvent, Collect, Direction, EventKind, IndicatorSnapshot, Metric, MetricUnit, Observe, Persist, Phase, Signal,
    SignalKind, Sli, SliSpec, SloSnapshot, Snapshot, StateError, StateReader, StateWriter, Status, TaskCosts,
    Timestamp, Unit, wilson_interval,
};

use crate::budget::{BudgetConfig, ErrorBudget, InvalidBudget};
use crate::consequence::Consequence;
use crate::registry::{IndicatorError, SliRegistry};
use crate::target::round_to_12_decimals;
use crate::{GoodWhen, SloSpec};

/// A service level objective of one agent: indicators and an error budget.
///
/// Time per [`Slo::observe`] and memory do not grow with the number of events: under 64 KiB with a ratio and a latency
/// indicator.
pub struct Slo {
    name: String,
    agent: String,
    description: String,
    labels: BTreeMap<String, String>,
    indicators: Vec<Box<dyn Sli>>,
    /// Of each indicator.
    consequences: Vec<Consequence>,
    /// Of each indicator, whether it is for information only.
    informational: Vec<bool>,
    not_evaluable: Vec<String>,
    budget: ErrorBudget,
    /// `None` if all indicators belong to another system, whose events are not observed.
    good_when: Option<GoodWhen>,
    costs: Option<Mutex<TaskCosts>>,
    transition: Mutex<Transition>,
}

/// The last change of status that was signalled.
#[derive(Debug, Default)]
struct Transition {
    status: Status,
    /// The signal of it, once there was an incident.
    signal: Option<Box<Signal>>,
    /// Whether the next evaluation signals the status even if it has not changed: an incident that began after the state was
    /// saved may be over without this objective knowing of it.
    is_unconfirmed: bool,
}

impl Transition {
    fn restored(state: &mut StateReader<'_>) -> Result<Self, StateError> {
        let (status, signal): (Status, Option<String>) = state.take()?;
        let signal = signal.map(|json| serde_json::from_str(&json)).transpose();
        let signal = signal.map_err(|error| StateError::new(format!("found no signal ({error})")))?;
        let is_unconfirmed = signal.is_none();
        Ok(Self { status, signal, is_unconfirmed })
    }
}

/// An error from creating an objective.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An indicator's type or parameter is invalid.
    #[error("`{slo}`: {source}")]
    Indicator {
        /// The objective.
        slo: String,
        /// The cause.
        source: IndicatorError,
    },
    /// The error budget is invalid.
    #[error("`{slo}`: {source}")]
    Budget {
        /// The objective.
        slo: String,
        /// The cause.
        source: InvalidBudget,
    },
}

impl Slo {
    /// Creates an objective whose budget comes from the strictest ratio target among `indicators`: `1 - target`, or the target
    /// itself if lower is better. Without a ratio indicator there is no budget.
    ///
    /// # Errors
    ///
    /// Returns an error if the target leaves no valid budget.
    pub fn new(name: impl Into<String>, indicators: Vec<Box<dyn Sli>>) -> Result<Self, InvalidBudget> {
        let budget = ErrorBudget::new(BudgetConfig { total: strictest_budget(&indicators), ..Default::default() })?;
        let slo = Self {
            name: name.into(),
            agent: String::new(),
            description: String::new(),
            labels: BTreeMap::new(),
            consequences: Vec::new(),
            informational: vec![false; indicators.len()],
            indicators,
            not_evaluable: Vec::new(),
            budget,
            good_when: Some(GoodWhen::default()),
            costs: None,
            transition: Mutex::default(),
        };
        Ok(slo.with_consequences())
    }

    /// Derives what follows from each indicator, from the budget and from what it counts.
    fn with_consequences(mut self) -> Self {
        let (config, good_when) = (self.budget.config(), self.good_when.as_ref());
        let indicators = self.indicators.iter().zip(&self.informational);
        self.consequences = indicators
            .map(|(indicator, is_informational)| match is_informational {
                true => Consequence::None,
                false => Consequence::of(&**indicator, config, good_when),
            })
            .collect();
        self
    }

    /// Creates the objective of `agent` from a spec.
    ///
    /// # Errors
    ///
    /// Returns an error if an indicator or the error budget is invalid.
    pub fn from_spec(spec: &SloSpec, agent: &str, registry: &SliRegistry) -> Result<Self, BuildError> {
        let (foreign, own): (Vec<_>, Vec<_>) = spec.indicators.iter().partition(|indicator| indicator.is_external());
        let informational = own.iter().map(|indicator| indicator.informational).collect();
        let indicators: Result<Vec<_>, _> =
            own.into_iter().map(|indicator| registry.create(&indicator.for_slo(spec.target))).collect();
        let indicators = indicators.map_err(|source| BuildError::Indicator { slo: spec.name.clone(), source })?;
        let config = spec.budget_config(strictest_budget(&indicators));
        let budget_error = |source| BuildError::Budget { slo: spec.name.clone(), source };
        let mut not_evaluable: Vec<String> = foreign.iter().map(|indicator| indicator.external_name()).collect();
        not_evaluable.extend(spec.openslo.as_ref().and_then(crate::OpenSloOrigin::not_evaluable));
        let only_foreign = !foreign.is_empty() && indicators.is_empty() && spec.good_when.is_none();
        let mut slo = Self::new(spec.name.clone(), indicators)
            .map_err(budget_error)?
            .for_agent(agent)
            .with_description(spec.description.clone().unwrap_or_default())
            .with_labels(spec.labels.clone())
            .with_budget(ErrorBudget::new(config).map_err(budget_error)?)
            .with_good_when(spec.good_when.clone().unwrap_or_default());
        slo.not_evaluable = not_evaluable;
        slo.informational = informational;
        if only_foreign {
            slo.good_when = None;
        }
        Ok(slo.with_consequences())
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
        self.with_consequences()
    }

    /// Sets which events the budget counts, and when one is good.
    #[must_use]
    pub fn with_good_when(mut self, good_when: GoodWhen) -> Self {
        let needs_costs = good_when.event == EventKind::TaskFinished && good_when.max_cost_usd.is_some();
        self.costs = needs_costs.then(Mutex::default);
        self.good_when = Some(good_when);
        self.with_consequences()
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

    /// Returns the error budget.
    pub fn budget(&self) -> &ErrorBudget {
        &self.budget
    }

    /// Returns the indicators.
    pub fn indicators(&self) -> &[Box<dyn Sli>] {
        &self.indicators
    }

    /// Counts an event in the budget at the current time. Indicators are recorded with their own methods, or all at once with
    /// [`Slo::observe`].
    pub fn record_event(&self, good: bool) {
        self.budget.record_event(good);
    }

    /// Records an event in the budget and the indicators. An objective that is bound to an agent ignores other agents' events.
    #[inline]
    pub fn observe(&self, event: &AgentEvent) {
        if self.agent.is_empty() || self.agent == event.agent {
            self.count(event);
        }
    }

    /// Records an event, whatever its agent.
    #[inline]
    pub(crate) fn count(&self, event: &AgentEvent) {
        let cost = self.costs.as_ref().and_then(|costs| lock(costs).observe(event));
        if let Some(good) = self.good_when.as_ref().and_then(|good_when| good_when.judge(event, cost)) {
            self.budget.record(event.time, good);
        }
        for indicator in &self.indicators {
            indicator.observe(event);
        }
    }

    /// Returns the status now. Reading it changes nothing: transitions are signalled by [`Slo::evaluate_at`].
    pub fn evaluate(&self) -> Status {
        self.status_at(self.budget.clock().now())
    }

    /// Returns the worst status of the error budget and of the indicators that miss their targets.
    fn status_at(&self, now: Timestamp) -> Status {
        let of_indicators = self.judged().filter_map(|(consequence, indicator)| consequence.status(indicator, now));
        worst(self.budget.reading(now).status, of_indicators)
    }

    fn judged(&self) -> impl Iterator<Item = (&Consequence, &dyn Sli)> {
        self.consequences.iter().zip(self.indicators.iter().map(|indicator| &**indicator))
    }

    /// Returns the status at `now`, and sends a signal where it has changed since the last call.
    pub fn evaluate_at(&self, now: Timestamp, signals: &mut dyn FnMut(Signal)) -> Status {
        let status = self.status_at(now);
        let before = {
            let transition = lock(&self.transition);
            (transition.status != status || transition.is_unconfirmed).then_some(transition.status)
        };
        if let Some(before) = before {
            // Outside the lock: indicators may be the user's code.
            let signal = self.snapshot_at(now).status_changed(before, self.budget.config().exhaustion_action, now);
            let mut transition = lock(&self.transition);
            if transition.status != before {
                // Another thread has signalled it in the meantime.
                return status;
            }
            let is_incident = signal.phase == Phase::Firing || transition.signal.is_some();
            let last = is_incident.then(|| Box::new(signal.clone()));
            *transition = Transition { status, signal: last, is_unconfirmed: false };
            drop(transition);
            signals(signal);
        }
        status
    }

    /// Returns the current reading of every indicator.
    pub fn indicator_summary(&self) -> Vec<IndicatorSnapshot> {
        let now = self.budget.clock().now();
        self.snapshots_of_indicators(now)
    }

    fn snapshots_of_indicators(&self, now: Timestamp) -> Vec<IndicatorSnapshot> {
        self.judged().map(|(consequence, indicator)| consequence.snapshot(indicator, now)).collect()
    }

    /// Returns the state at `now`.
    pub fn snapshot_at(&self, now: Timestamp) -> SloSnapshot {
        let reading = self.budget.reading(now);
        let total = self.budget.config().total;
        let mut snapshot = SloSnapshot::new(&*self.name, &*self.agent, self.budget.config().window);
        snapshot.indicators = self.snapshots_of_indicators(now);
        let of_indicators = snapshot.indicators.iter().filter_map(|indicator| indicator.status);
        snapshot.status = worst(reading.status, of_indicators);
        (snapshot.budget_status, snapshot.reason) = (reading.status, reading.reason);
        snapshot.target = total.map(|total| round_to_12_decimals(1.0 - total));
        (snapshot.good, snapshot.bad) = (reading.counts.good, reading.counts.bad);
        snapshot.sli = reading.counts.success_ratio();
        snapshot.interval = wilson_interval(reading.counts.good as f64, reading.counts.total() as f64);
        snapshot.error_budget = reading.budget;
        snapshot.burn_rates = reading.burn_rates;
        snapshot.alerts = reading.alerts;
        snapshot.not_evaluable.clone_from(&self.not_evaluable);
        snapshot.labels.clone_from(&self.labels);
        snapshot.dropped = reading.dropped;
        snapshot
    }
}

/// Returns the status of an objective: the worst of its budget's and of those of its indicators that are a warning or worse.
fn worst(budget: Status, indicators: impl Iterator<Item = Status>) -> Status {
    indicators.filter(|status| *status >= Status::Warning).fold(budget, Status::max)
}

/// Names of the saved sections that do not belong to an indicator.
const TRANSITION: &str = "transition";
const BUDGET: &str = "budget";
const COSTS: &str = "costs";

impl Slo {
    /// Saves the counts, so that they survive a restart.
    pub fn save(&self, state: &mut StateWriter) {
        let transition = lock(&self.transition);
        let signal = transition.signal.as_ref().and_then(|signal| serde_json::to_string(signal).ok());
        let status = transition.status;
        drop(transition);
        state.section(TRANSITION, |state| state.put(&(status, signal)));
        state.section(BUDGET, |state| self.budget.save(state));
        if let Some(costs) = &self.costs {
            state.section(COSTS, |state| lock(costs).save(state));
        }
        for indicator in &self.indicators {
            state.section(&section_of(indicator.spec()), |state| indicator.save(state));
        }
    }

    /// Adds saved counts, also those of an objective with other targets or indicators. An indicator that is new, or had another
    /// window, starts empty.
    ///
    /// # Errors
    ///
    /// Returns an error if the saved state is damaged.
    pub fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        for section in state.sections() {
            let (name, mut section) = section?;
            match (name, &self.costs) {
                (TRANSITION, _) => {
                    let mut transition = Transition::restored(&mut section)?;
                    // The action may have been configured since, and holds for what is exhausted already.
                    if let Some(SignalKind::SloStatusChanged(change)) =
                        transition.signal.as_mut().map(|signal| &mut signal.kind)
                    {
                        change.exhaustion_action = self.budget.config().exhaustion_action;
                    }
                    *lock(&self.transition) = transition;
                }
                (BUDGET, _) => self.budget.restore(&mut section)?,
                (COSTS, Some(costs)) => lock(costs).restore(&mut section)?,
                _ => {
                    let mut own = self.indicators.iter().filter(|own| section_of(own.spec()) == name);
                    own.next().map_or(Ok(()), |own| own.restore(&mut section))?;
                }
            }
        }
        Ok(())
    }
}

fn section_of(spec: &SliSpec) -> String {
    format!("{} over {}", spec.name, spec.window)
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
        self.snapshot_at(now).metrics(emit);
        for indicator in &self.indicators {
            let Some(histogram) = indicator.histogram() else { continue };
            let spec = indicator.spec();
            let unit = match spec.unit {
                Unit::Milliseconds => MetricUnit::Seconds,
                Unit::Usd => MetricUnit::Dollars,
                Unit::Ratio | Unit::Difference => MetricUnit::Ratio,
                _ => MetricUnit::None,
            };
            let metric = Metric::histogram("sre.indicator.distribution", histogram).with_unit(unit);
            let labels = [("slo", &*self.name), ("agent", &*self.agent), ("indicator", &*spec.name)];
            emit(metric.with_labels(&labels).with_help("Distribution of the indicator's samples."));
        }
    }
}

impl Persist for Slo {
    fn name(&self) -> Cow<'_, str> {
        if self.agent.is_empty() { (&*self.name).into() } else { format!("{}/{}", self.name, self.agent).into() }
    }

    fn save(&self, state: &mut StateWriter) {
        Self::save(self, state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        Self::restore(self, state)
    }
}

impl fmt::Debug for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slo").field("name", &self.name).field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// Returns the smallest budget among the ratio indicators. Other units have no budget.
fn strictest_budget(indicators: &[Box<dyn Sli>]) -> Option<f64> {
    indicators
        .iter()
        .map(|indicator| indicator.spec())
        .filter(|spec| spec.unit == Unit::Ratio)
        .map(|spec| {
            round_to_12_decimals(if spec.direction == Direction::AtLeast { 1.0 - spec.target } else { spec.target })
        })
        .filter(|budget| (0.0..1.0).contains(budget))
        .min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sre_core::event::TaskFinished;
    use sre_core::{Clock, ManualClock, Usd};

    use super::*;
    use crate::{CostPerTask, HallucinationRate, ResponseLatency, TaskSuccessRate};

    fn finished(time: Timestamp, success: bool) -> AgentEvent {
        let mut finished = TaskFinished::new(success);
        finished.duration_ms = Some(10.0);
        AgentEvent::new(time, "support", finished)
    }

    #[test]
    fn the_budget_comes_from_the_strictest_ratio_and_never_from_a_latency_or_a_cost() {
        let budget = |indicators| Slo::new("x", indicators).unwrap().budget().config().total;
        assert_eq!(budget(vec![Box::new(TaskSuccessRate::new(0.9)), Box::new(TaskSuccessRate::new(0.99))]), Some(0.01));
        assert_eq!(
            budget(vec![Box::new(TaskSuccessRate::new(0.9)), Box::new(HallucinationRate::new(0.02))]),
            Some(0.02)
        );
        assert_eq!(budget(vec![Box::new(ResponseLatency::default()), Box::new(CostPerTask::default())]), None);
    }

    #[test]
    fn every_transition_is_signalled_once() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let budget = ErrorBudget::new(BudgetConfig { total: Some(0.05), ..Default::default() }).unwrap();
        let slo =
            Slo::new("answers", vec![]).unwrap().for_agent("support").with_budget(budget.with_clock(clock.clone()));
        let mut seen = Vec::new();
        let mut evaluate = |slo: &Slo| {
            let mut signals = Vec::new();
            slo.evaluate_at(clock.now(), &mut |signal| signals.push(signal));
            for signal in signals {
                let SignalKind::SloStatusChanged(change) = signal.kind else { panic!("{signal:?}") };
                seen.push((change.from, change.to));
            }
        };
        evaluate(&slo);
        (0..1000).for_each(|_| slo.record_event(true));
        evaluate(&slo);
        evaluate(&slo);
        clock.advance(Duration::from_secs(7200));
        (0..30).for_each(|_| slo.record_event(false));
        evaluate(&slo);
        evaluate(&slo);
        clock.advance(Duration::from_secs(7200));
        evaluate(&slo);
        // Silence says nothing; a good event ends the alert.
        slo.record_event(true);
        evaluate(&slo);
        assert_eq!(
            seen,
            [
                (Status::Unknown, Status::Healthy),
                (Status::Healthy, Status::Critical),
                (Status::Critical, Status::Healthy)
            ]
        );
    }

    #[test]
    fn reading_the_status_by_hand_swallows_no_transition_and_an_incident_is_asserted_again_as_it_was() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let budget = ErrorBudget::new(BudgetConfig { total: Some(0.05), ..Default::default() }).unwrap();
        let slo = Slo::new("answers", vec![]).unwrap().with_budget(budget.with_clock(clock.clone()));
        let signals = |slo: &Slo, call: fn(&Slo, Timestamp, &mut dyn FnMut(Signal))| {
            let mut signals = Vec::new();
            call(slo, clock.now(), &mut |signal| signals.push(signal));
            signals
        };
        let (evaluate, reassert) = (
            |slo: &Slo, now, signals: &mut dyn FnMut(Signal)| Observe::evaluate(slo, now, signals),
            |slo: &Slo, _, signals: &mut dyn FnMut(Signal)| slo.reassert(signals),
        );
        assert_eq!(signals(&slo, reassert), [], "nothing has ever fired");
        (0..30).for_each(|_| slo.record_event(false));
        assert_eq!(slo.evaluate(), Status::Exhausted);
        let begun = signals(&slo, evaluate);
        assert_eq!((begun.len(), begun[0].phase), (1, Phase::Firing));
        clock.advance(Duration::from_secs(60));
        assert_eq!(signals(&slo, reassert), begun);
        let mut state = StateWriter::default();
        slo.save(&mut state);
        let restored = Slo::new("answers", vec![]).unwrap();
        restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        assert_eq!(signals(&restored, reassert), begun, "after a restart too");
        clock.advance(Duration::from_secs(40 * 86_400));
        let over = signals(&slo, evaluate);
        assert_eq!((over.len(), over[0].phase), (1, Phase::Resolved));
        assert_eq!(signals(&slo, reassert), over, "so is its end");
    }

    #[test]
    fn an_incident_that_began_and_ended_after_the_state_was_saved_is_ended() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9))]).unwrap();
        slo.observe(&finished(clock.now(), true));
        slo.evaluate_at(clock.now(), &mut |_| {});
        let mut state = StateWriter::default();
        slo.save(&mut state);
        let restored = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9))]).unwrap();
        restored.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        let mut phases = Vec::new();
        (0..3).for_each(|_| {
            restored.evaluate_at(clock.now(), &mut |signal| phases.push(signal.phase));
        });
        assert_eq!(phases, [Phase::Resolved], "once, for whoever still has it open");
    }

    #[test]
    fn an_objective_of_an_agent_ignores_the_events_of_others() {
        let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.9))]).unwrap().for_agent("other");
        slo.observe(&finished(Timestamp::from_secs(1_790_000_000), false));
        assert_eq!(slo.snapshot_at(Timestamp::from_secs(1_790_000_000)).bad, 0);
    }

    #[test]
    fn one_event_reaches_the_budget_and_every_indicator() {
        let slo = Slo::new(
            "all",
            vec![
                Box::new(TaskSuccessRate::new(0.9)),
                Box::new(ResponseLatency::default()),
                Box::new(CostPerTask::default()),
            ],
        )
        .unwrap();
        let now = Timestamp::from_secs(1_790_000_000);
        slo.observe(&finished(now, true));
        slo.observe(&finished(now, false));
        let snapshot = slo.snapshot_at(now);
        assert_eq!((snapshot.good, snapshot.bad, snapshot.sli, snapshot.target), (1, 1, Some(0.5), Some(0.9)));
        let samples: Vec<_> = snapshot.indicators.iter().map(|indicator| indicator.samples).collect();
        assert_eq!(samples, [2, 2, 0]);
    }

    #[test]
    fn a_cost_condition_knows_the_calls_of_the_task() {
        let good_when = GoodWhen { max_cost_usd: Some(Usd::from_nanos(100)), ..Default::default() };
        let slo = Slo::new("cheap", vec![Box::new(TaskSuccessRate::new(0.5))]).unwrap().with_good_when(good_when);
        let now = Timestamp::from_secs(1_790_000_000);
        for (task, nanos) in [("a", 60), ("a", 60), ("b", 60)] {
            let json = format!(
                r#"{{"event":"llm_call","time":1790000000,"task":"{task}","cost_usd":"{}"}}"#,
                Usd::from_nanos(nanos)
            );
            slo.observe(&AgentEvent::from_json(json.as_bytes()).unwrap());
        }
        for task in ["a", "b"] {
            let mut event = finished(now, true).of_task(task);
            event.agent = "default".into();
            slo.observe(&event);
        }
        let snapshot = slo.snapshot_at(now);
        assert_eq!((snapshot.good, snapshot.bad), (1, 1));
    }
}
