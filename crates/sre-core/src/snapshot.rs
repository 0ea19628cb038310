use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    AgentEvent, BreakerSnapshot, CascadeReport, CostsSnapshot, Direction, Event, Percentiles, Severity, Signal,
    SignalKind, SliReading, SliSpec, StateError, StateReader, StateWriter, Status, TaskCosts, Timestamp, Unit, Usd,
    Window,
};

/// What an engine is at a moment, for whoever publishes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "snapshot", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Snapshot {
    /// An objective of an agent.
    Slo(Box<SloSnapshot>),
    /// What was counted of all events.
    Totals(Totals),
    /// How alerts get through.
    Alerts(AlertsSnapshot),
    /// A circuit breaker.
    Breaker(BreakerSnapshot),
    /// A cascade that goes on.
    Cascade(CascadeReport),
    /// Budgets of money.
    Costs(CostsSnapshot),
}

/// An objective of an agent at a moment. As JSON, an entry of `sre check --output json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SloSnapshot {
    /// The objective's name.
    pub name: String,
    /// The agent.
    pub agent: String,
    /// How it stands.
    pub status: Status,
    /// The share of good events to reach; `None` where the objective has no budget.
    pub target: Option<f64>,
    /// The budget's window.
    pub window: Window,
    /// Good events in the window.
    pub good: u64,
    /// Bad events in the window.
    pub bad: u64,
    /// The share of good events.
    pub sli: Option<f64>,
    /// Its Wilson 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The error budget.
    pub error_budget: ErrorBudgetSnapshot,
    /// Burn rates over 5m, 30m, 1h, 6h, 24h and 3d.
    pub burn_rates: Vec<BurnRate>,
    /// The policy's alerts.
    pub alerts: Vec<BurnAlert>,
    /// The indicators.
    pub indicators: Vec<IndicatorSnapshot>,
    /// Indicators of other systems, which cannot be evaluated here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_evaluable: Vec<String>,
    /// The objective's labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Events that came later than any bucket reaches back.
    pub dropped: u64,
}

impl SloSnapshot {
    /// The signal that the objective's status changed to what it is here.
    pub fn status_changed(&self, from: Status, exhaustion_action: String, at: Timestamp) -> Signal {
        let alert = self.alerts.iter().filter(|alert| alert.firing).max_by_key(|alert| alert.severity).copied();
        let window = alert.map_or(Window::HOUR, |alert| alert.long_window);
        let kind = SignalKind::SloStatusChanged {
            slo: self.name.clone(),
            from,
            to: self.status,
            consumed: self.error_budget.consumed,
            exhaustion_action,
            burn: self.burn_rates.iter().find(|burn| burn.window == window).copied(),
            alert,
            spent_in_s: self.error_budget.spent_in_s,
            labels: self.labels.clone(),
        };
        Signal { time: at, agent: self.agent.clone(), kind }
    }
}

/// An error budget at a moment. Ratios; `None` is a number that does not exist, infinity too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ErrorBudgetSnapshot {
    /// The share of events that may be bad.
    pub total: Option<f64>,
    /// The share of the budget that is spent; above 1 when overspent.
    #[serde(serialize_with = "finite")]
    pub consumed: Option<f64>,
    /// What is left of it; below 0 when overspent.
    #[serde(serialize_with = "finite")]
    pub remaining: Option<f64>,
    /// Seconds until it is spent at the rate of the last hour; 0 when it is spent, `None` when it never will be.
    #[serde(serialize_with = "finite")]
    pub spent_in_s: Option<f64>,
}

/// How fast a budget was spent over a window: 1.0 spends it exactly over its own window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BurnRate {
    /// Over which time.
    pub window: Window,
    /// The rate; infinite for anything bad against a target of 1.0.
    #[serde(serialize_with = "finite")]
    pub rate: Option<f64>,
    /// Good events in the window.
    pub good: u64,
    /// Bad events in the window.
    pub bad: u64,
}

/// A multi-window burn alert: it fires while both windows burn at the threshold or above.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BurnAlert {
    /// What it means when it fires.
    pub severity: Severity,
    /// The burn rate that both windows must reach.
    pub threshold: f64,
    /// The window that shows it matters.
    pub long_window: Window,
    /// The window that shows it still goes on: a twelfth of the long one.
    pub short_window: Window,
    /// Whether it fires.
    pub firing: bool,
}

/// An indicator at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndicatorSnapshot {
    /// The indicator's name.
    pub name: String,
    /// The measured value, in `unit`.
    pub value: Option<f64>,
    /// The value to reach or not to exceed.
    pub target: f64,
    /// The share of samples that met the target.
    pub compliance: Option<f64>,
    /// How many samples there were.
    pub samples: u64,
    /// The Wilson 95 % interval of a ratio.
    pub interval: Option<(f64, f64)>,
    /// The largest sample, where it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// The usual percentiles, where a distribution is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentiles: Option<Percentiles>,
    /// Which side of the target is good.
    #[serde(rename = "goal")]
    pub direction: Direction,
    /// The unit.
    #[serde(rename = "measure")]
    pub unit: Unit,
    /// The span of time that the value is about.
    pub window: Window,
    /// Samples that came later than the window reaches back.
    pub dropped: u64,
}

impl IndicatorSnapshot {
    /// Joins what is measured with what was measured.
    pub fn new(spec: &SliSpec, reading: SliReading) -> Self {
        Self {
            name: spec.name.clone(),
            value: reading.value,
            target: spec.target,
            compliance: reading.compliance,
            samples: reading.samples,
            interval: reading.interval,
            maximum: reading.maximum,
            percentiles: reading.percentiles,
            direction: spec.direction,
            unit: spec.unit,
            window: spec.window,
            dropped: reading.dropped,
        }
    }

    /// Whether the value meets the target; `None` without a value.
    pub fn is_met(&self) -> Option<bool> {
        self.value.map(|value| match self.direction {
            Direction::AtLeast => value >= self.target,
            Direction::AtMost => value <= self.target,
        })
    }
}

/// How alerts get through, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AlertsSnapshot {
    /// Alerts that were sent on.
    pub sent: u64,
    /// Those that repeated what was sent within the dedup window.
    pub deduplicated: u64,
    /// Those that a silence or a maintenance window held.
    pub silenced: u64,
    /// Those that no channel wanted.
    pub unrouted: u64,
    /// `resolved` ones of which no trigger had been sent.
    pub not_open: u64,
    /// Repeats of incidents that went on.
    pub repeated: u64,
    /// Incidents that nobody acknowledged in time.
    pub escalated: u64,
    /// Incidents that are open now.
    pub open: u64,
    /// Open incidents that were forgotten, by age or because there were too many.
    pub forgotten: u64,
    /// Times that the store could not be written or read.
    pub store_failures: u64,
    /// Each channel.
    pub channels: Vec<ChannelSnapshot>,
}

/// How a channel gets on, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelSnapshot {
    /// Its name.
    pub name: String,
    /// Messages that wait, now.
    pub queued: u64,
    /// Alerts that wait in a group or behind the rate limit, now.
    pub held: u64,
    /// Messages that it took.
    pub delivered: u64,
    /// Messages that were given up.
    pub failed: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Alerts that found the queue full.
    pub dropped: u64,
    /// Alerts that went out within a group or a summary.
    pub summarised: u64,
    /// Why the last attempt failed; empty where none has.
    pub last_error: String,
}

/// What all events add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Tasks that ended, well or not, or were closed as incomplete.
    pub tasks: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed, the incomplete ones included.
    pub failed: u64,
    /// Those whose end never came.
    pub incomplete: u64,
    /// Calls of tools.
    pub tool_calls: u64,
    /// Those that failed.
    pub tool_errors: u64,
    /// Calls of language models.
    pub llm_calls: u64,
    /// Those that failed.
    pub llm_errors: u64,
    /// Tokens that went into them.
    pub input_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// What the tasks cost: each by its own figure, else by its model calls.
    pub cost_usd: Usd,
}

/// Adds events up to [`Totals`].
#[derive(Debug, Default)]
pub struct Tally {
    totals: Totals,
    costs: TaskCosts,
}

impl Tally {
    /// Counts one event.
    pub fn observe(&mut self, event: &AgentEvent) {
        let totals = &mut self.totals;
        match &event.event {
            Event::TaskFinished { success, .. } => {
                totals.tasks += 1;
                totals.succeeded += u64::from(*success);
                totals.failed += u64::from(!success);
                totals.incomplete += u64::from(event.is_incomplete());
            }
            Event::ToolCall { success, .. } => {
                totals.tool_calls += 1;
                totals.tool_errors += u64::from(!success);
            }
            Event::LlmCall { success, input_tokens, output_tokens, .. } => {
                totals.llm_calls += 1;
                totals.llm_errors += u64::from(!success);
                totals.input_tokens = totals.input_tokens.saturating_add(*input_tokens);
                totals.output_tokens = totals.output_tokens.saturating_add(*output_tokens);
            }
            _ => return,
        }
        totals.cost_usd += self.costs.change(event);
    }

    /// Writes the sums.
    pub fn save(&self, state: &mut StateWriter) {
        state.put(&self.totals);
        self.costs.save(state);
    }

    /// Takes up what was saved.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.totals = state.take()?;
        self.costs.restore(state)
    }

    /// The sums so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}

/// JSON has no infinity; a number that does not exist is `null`.
fn finite<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.filter(|value| value.is_finite()).serialize(serializer)
}
