//! Composite objectives: error budgets over the events of other objectives.

use serde::{Deserialize, Serialize};
use sre_core::{
    AgentEvent, ComponentSnapshot, CompositeMethod, Counts, ExhaustionAction, StateError, StateReader, StateWriter,
    Timestamp, Window,
};

use crate::evaluation::{BudgetReading, Observed, WindowCounts};
use crate::{BudgetConfig, ErrorBudget, InvalidSpec, Slo, SloSpec};

/// The specification of what a composite objective combines.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompositeSpec {
    /// The objectives.
    pub objectives: Vec<ComponentSpec>,
    /// How they are combined.
    pub method: CompositeMethod,
}

/// An objective that is part of a composite one.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComponentSpec {
    /// The name of an objective that is not a composite.
    pub name: String,
    /// Its weight, above 0. Default: 1.
    pub weight: f64,
}

impl Default for ComponentSpec {
    fn default() -> Self {
        Self { name: String::new(), weight: 1.0 }
    }
}

impl SloSpec {
    /// Returns the objectives of a composite, found in `all`; an empty list for another objective.
    pub(crate) fn components<'a>(&self, all: &'a [Self]) -> Result<Vec<&'a Self>, InvalidSpec> {
        let Some(composite) = &self.composite else { return Ok(Vec::new()) };
        self.check_composite(composite)?;
        (0..composite.objectives.len()).map(|index| self.component(composite, index, all)).collect()
    }

    /// Returns every error of a composite. If it `is_complete`, no field is missing because of another error.
    pub(crate) fn composite_errors(&self, all: &[Self], is_complete: bool) -> Vec<InvalidSpec> {
        let Some(composite) = &self.composite else { return Vec::new() };
        let own = self.check_composite(composite).err().filter(|_| is_complete);
        let named = composite.objectives.iter().enumerate().filter(|(_, component)| !component.name.is_empty());
        own.into_iter().chain(named.filter_map(|(index, _)| self.component(composite, index, all).err())).collect()
    }

    fn check_composite(&self, composite: &CompositeSpec) -> Result<(), InvalidSpec> {
        for (field, is_given) in [
            ("indicators", !self.indicators.is_empty()),
            ("good_when", self.good_when.is_some()),
            ("time_slices", self.time_slices.is_some()),
            ("target", self.target.is_some() && composite.method == CompositeMethod::Worst),
        ] {
            if is_given {
                let found = format!("`{field}` beside `composite`, method {}", composite.method);
                return Err(InvalidSpec::new(field, found, "none, since its objectives have their own"));
            }
        }
        if self.target.is_none() && composite.method == CompositeMethod::Weighted {
            return Err(InvalidSpec::new("target", "nothing", "the target of the weighted mean"));
        }
        if composite.objectives.is_empty() {
            return Err(InvalidSpec::new("composite.objectives", "an empty list", "at least one objective"));
        }
        let action = self.exhaustion_action();
        if self.service().is_none() && matches!(action, ExhaustionAction::CircuitBreak | ExhaustionAction::Throttle) {
            let expected = "alert or freeze_deployments, or the `service` of one agent, since it is over all agents";
            return Err(InvalidSpec::new("error_budget_policy.exhaustion_action", action.to_string(), expected));
        }
        Ok(())
    }

    /// Returns the objective at `index` of a composite.
    fn component<'a>(&self, composite: &CompositeSpec, index: usize, all: &'a [Self]) -> Result<&'a Self, InvalidSpec> {
        let ComponentSpec { name, weight } = &composite.objectives[index];
        let error = |field: &str, found: &str, expected: &str| {
            Err(InvalidSpec::new(format!("composite.objectives[{index}].{field}"), found, expected))
        };
        if !(*weight > 0.0 && weight.is_finite()) {
            return error("weight", &weight.to_string(), "a number above 0");
        }
        if composite.objectives[..index].iter().any(|other| other.name == *name) {
            return error("name", &format!("`{name}` for the second time"), "each objective once");
        }
        let Some(found) = all.iter().find(|spec| spec.name == *name) else {
            let known: Vec<&str> = all.iter().filter(|spec| spec.composite.is_none()).map(|spec| &*spec.name).collect();
            return error("name", &format!("`{name}`"), &format!("one of {}", known.join(", ")));
        };
        if found.composite.is_some() {
            return error("name", &format!("the composite `{name}`"), "an objective that is none");
        }
        match (self.service(), found.service()) {
            (Some(own), Some(other)) if own != other => {
                error("name", &format!("`{name}` of agent {other}"), &format!("an objective of agent {own}"))
            }
            _ => Ok(found),
        }
    }
}

/// The objectives of a composite, with counts over its windows.
pub(crate) struct Composite {
    pub(crate) method: CompositeMethod,
    pub(crate) components: Vec<Component>,
}

pub(crate) struct Component {
    pub(crate) weight: f64,
    /// Counts the events that count for the objective, of all agents that the composite covers.
    pub(crate) slo: Slo,
}

impl Composite {
    pub(crate) fn observe(&self, event: &AgentEvent) {
        self.components.iter().for_each(|component| component.slo.observe(event));
    }

    /// Evaluates the composite's budget. Objectives without events count for nothing.
    pub(crate) fn reading(&self, config: &BudgetConfig, now: Timestamp) -> BudgetReading {
        let dropped = self.budgets().map(|budget| budget.reading(now).dropped).sum();
        let mut reading = match self.method {
            CompositeMethod::Worst => {
                let readings = self.budgets().map(|budget| budget.reading(now));
                readings.filter(has_events).reduce(worse)
            }
            _ => Some(config.reading(&self.combine(|budget| budget.present(now)), self, now)),
        }
        .unwrap_or_else(|| config.reading(&Observed::default(), self, now));
        reading.dropped = dropped;
        reading
    }

    pub(crate) fn snapshots(&self, now: Timestamp) -> Vec<ComponentSnapshot> {
        let snapshot = |component: &Component| {
            let reading = component.slo.budget().reading(now);
            let mut snapshot = ComponentSnapshot::new(component.slo.name(), component.weight);
            (snapshot.good, snapshot.bad) = (reading.counts.good, reading.counts.bad);
            snapshot.consumed = reading.budget.consumed;
            snapshot
        };
        self.components.iter().map(snapshot).collect()
    }

    fn budgets(&self) -> impl Iterator<Item = &ErrorBudget> {
        self.components.iter().map(|component| component.slo.budget())
    }

    /// Returns the weighted mean of the error ratios, Σ wᵢ·ratioᵢ / Σ wᵢ.
    ///
    /// A bad event of objective i adds wᵢ / (nᵢ·Σ w) to it. It is worth no more as evidence than that share of a binomial sample
    /// all of whose events add as much as the heaviest of those that were bad (Hoeffding, 1963). Leaving out the heavier ones may
    /// prove more, since what remains is still a lower bound of the mean.
    fn combine(&self, counts_of: impl Fn(&ErrorBudget) -> Counts) -> Observed {
        let counted = self.components.iter().map(|component| (component.weight, counts_of(component.slo.budget())));
        let counted: Vec<(f64, Counts)> = counted.filter(|(_, counts)| counts.total() > 0).collect();
        let weights: f64 = counted.iter().map(|(weight, _)| weight).sum();
        let mut observed = Observed::default();
        // Of each objective with bad events: what one of them adds, and what all add.
        let mut parts: Vec<(f64, f64)> = Vec::new();
        let mut squares = 0.0;
        for (weight, counts) in &counted {
            let (share, total) = (weight / weights, counts.total() as f64);
            observed.counts += *counts;
            squares += share * share / total;
            if counts.bad > 0 {
                parts.push((share / total, share * counts.bad as f64 / total));
            }
        }
        observed.error_ratio = (weights > 0.0).then(|| parts.iter().map(|(_, ratio)| ratio).sum());
        observed.sample_size = if squares > 0.0 { 1.0 / squares } else { 0.0 };
        parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ratio = 0.0;
        observed.equivalent = parts
            .into_iter()
            .map(|(step, part)| {
                ratio += part;
                let (total, bad) = ((1.0 / step).ceil() as u64, (ratio / step + 1e-6).floor() as u64);
                Counts { good: total.saturating_sub(bad), bad }
            })
            .collect();
        observed
    }

    pub(crate) fn time_series(&self, window: Window, now: Timestamp) -> Vec<(Timestamp, Counts)> {
        let mut all = self.budgets().map(|budget| budget.time_series(window, now));
        let mut sum = all.next().unwrap_or_default();
        for series in all {
            // The series of one window have the same buckets.
            sum.iter_mut().zip(series).for_each(|((_, sum), (_, counts))| *sum += counts);
        }
        sum
    }

    pub(crate) fn save(&self, state: &mut StateWriter) {
        for component in &self.components {
            state.section(component.slo.name(), |state| component.slo.save(state));
        }
    }

    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        for section in state.sections() {
            let (name, mut state) = section?;
            if let Some(component) = self.components.iter().find(|component| component.slo.name() == name) {
                component.slo.restore(&mut state)?;
            }
        }
        Ok(())
    }
}

impl WindowCounts for Composite {
    fn sum(&self, window: Window, end: Timestamp) -> Observed {
        self.combine(|budget| budget.sum(window, end))
    }

    fn latest(&self, _now: Timestamp) -> Option<Timestamp> {
        self.budgets().filter_map(ErrorBudget::latest).max()
    }
}

/// Returns whether a reading has events: in its window or period, or in the windows of its alerts, which reach into the period before.
fn has_events(reading: &BudgetReading) -> bool {
    reading.counts.total() > 0 || reading.alerts.iter().any(|alert| alert.good + alert.bad > 0)
}

/// Returns the worse reading, with the higher burn rate of each window, the worse of each alert and the earlier exhaustion.
fn worse(a: BudgetReading, b: BudgetReading) -> BudgetReading {
    let rank = |reading: &BudgetReading| (reading.status, reading.budget.consumed);
    let (mut worse, other) = if rank(&b) > rank(&a) { (b, a) } else { (a, b) };
    let spent_in = [worse.budget.spent_in_s, other.budget.spent_in_s].into_iter().flatten();
    worse.budget.spent_in_s = spent_in.min_by(f64::total_cmp);
    for (rate, other) in worse.burn_rates.iter_mut().zip(other.burn_rates) {
        if other.rate > rate.rate {
            *rate = other;
        }
    }
    for (alert, other) in worse.alerts.iter_mut().zip(other.alerts) {
        if (other.firing, other.rate) > (alert.firing, alert.rate) {
            *alert = other;
        }
    }
    worse
}
