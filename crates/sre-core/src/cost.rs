use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Metric, MetricUnit, Timestamp, Usd};

/// Whose spending something is about.
///
/// As JSON `scope` (`agent`, `agent_on_model`, `team`, `model`, `org`), and if need be `name` and `model`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CostScope {
    /// An agent's, a day.
    Agent(String),
    /// An agent's on a model, a day.
    AgentOnModel {
        /// Which agent.
        agent: String,
        /// On which model.
        model: String,
    },
    /// A team's, a day: that of all its agents.
    Team(String),
    /// A model's, a day: that of all who call it.
    Model(String),
    /// Everybody's, a month.
    Org,
}

impl CostScope {
    /// The agent it is about; empty for what is none.
    pub fn agent_name(&self) -> &str {
        match self {
            Self::Agent(agent) | Self::AgentOnModel { agent, .. } => agent,
            Self::Team(_) | Self::Model(_) | Self::Org => "",
        }
    }

    /// What kind it is, its name (empty for the organisation), and the model where it is an agent's on one.
    pub fn parts(&self) -> (&'static str, &str, Option<&str>) {
        match self {
            Self::Agent(name) => ("agent", name, None),
            Self::AgentOnModel { agent, model } => ("agent_on_model", agent, Some(model)),
            Self::Team(name) => ("team", name, None),
            Self::Model(name) => ("model", name, None),
            Self::Org => ("org", "", None),
        }
    }
}

/// The JSON form of a scope.
#[derive(Serialize, Deserialize)]
struct ScopeFields<'a> {
    scope: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
}

impl Serialize for CostScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (scope, name, model) = self.parts();
        ScopeFields { scope: scope.into(), name: name.into(), model: model.map(Cow::from) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CostScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ScopeFields { scope, name, model } = ScopeFields::deserialize(deserializer)?;
        let name = name.into_owned();
        match (&*scope, model) {
            ("agent", None) => Ok(Self::Agent(name)),
            ("agent_on_model", Some(model)) => Ok(Self::AgentOnModel { agent: name, model: model.into_owned() }),
            ("team", None) => Ok(Self::Team(name)),
            ("model", None) => Ok(Self::Model(name)),
            ("org", None) => Ok(Self::Org),
            _ => Err(de::Error::custom(format!(
                "`scope`: found {scope}, expected agent, agent_on_model (with `model`), team, model or org"
            ))),
        }
    }
}

impl std::fmt::Display for CostScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::AgentOnModel { agent, model } => write!(f, "agent {agent} on model {model}"),
            Self::Team(name) => write!(f, "team {name}"),
            Self::Model(name) => write!(f, "model {name}"),
            Self::Org => f.write_str("organisation"),
        }
    }
}

/// Something about costs that somebody should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostAlert {
    /// When it came to be so.
    pub at: Timestamp,
    /// Whose spending it is about.
    #[serde(flatten)]
    pub scope: CostScope,
    /// What they have spent in the day or month; for a task, what the task has.
    pub spent_usd: Usd,
    /// What they may spend.
    pub limit_usd: Usd,
    /// What it is.
    #[serde(flatten)]
    pub kind: CostAlertKind,
}

/// What there is to know about costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "alert", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CostAlertKind {
    /// So much of the limit is spent, as a share; told once a day or month.
    Threshold {
        /// The share that was reached.
        threshold: f64,
    },
    /// The agent is slowed down from now on.
    Throttled,
    /// The agent is refused from now on.
    Killed,
    /// A new day, or somebody's order, lets the agent work freely again.
    Freed,
    /// More than the limit is spent: an actual cost outran its estimate, or nobody had asked.
    Exceeded {
        /// By how much.
        excess_usd: Usd,
    },
    /// A task has cost more than a task may.
    TaskExceeded {
        /// Which.
        task: String,
    },
    /// One cost is far outside of what the agent's costs are.
    Anomaly {
        /// The cost.
        cost_usd: Usd,
        /// How many standard deviations it lies above the median, estimated robustly; `None` where all were the same.
        score: Option<f64>,
        /// The median.
        median_usd: Usd,
    },
    /// The agent spends so much a minute, against its own history, that it may be caught in a loop.
    Runaway {
        /// What it has spent in the last minute.
        minute_usd: Usd,
        /// What it spends in a usual minute in which it spends at all.
        usual_usd: Usd,
    },
}

/// What is to be told, in a sentence.
impl std::fmt::Display for CostAlertKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Threshold { threshold } => write!(f, "{} % of the limit is spent", threshold * 100.0),
            Self::Throttled => f.write_str("slowed down, as too much of the limit is spent"),
            Self::Killed => f.write_str("refused from now on, as too much of the limit is spent"),
            Self::Freed => f.write_str("works freely again"),
            Self::Exceeded { excess_usd } => write!(f, "${excess_usd} more than the limit is spent"),
            Self::TaskExceeded { task } => write!(f, "task {task} costs more than a task may"),
            Self::Anomaly { cost_usd, score, median_usd } => {
                write!(f, "a cost of ${cost_usd} where half are below ${median_usd}")?;
                score.map_or(Ok(()), |score| write!(f, " (z = {score:.1})"))
            }
            Self::Runaway { minute_usd, usual_usd } => {
                write!(f, "${minute_usd} within a minute, where ${usual_usd} is usual: is it caught in a loop?")
            }
        }
    }
}

/// What an agent may do as far as its budget goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostStatus {
    /// Whatever fits its limits.
    #[default]
    Ok,
    /// One task every so often.
    Throttled,
    /// Nothing, until the next day or somebody's order.
    Killed,
}

impl CostStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Throttled, Self::Killed];

    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Killed => "killed",
        }
    }
}

impl std::fmt::Display for CostStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A budget at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetSnapshot {
    /// Whose.
    #[serde(flatten)]
    pub scope: CostScope,
    /// What is spent in the day, or month.
    pub spent_usd: Usd,
    /// What is reserved for calls that go on.
    pub reserved_usd: Usd,
    /// What may be spent.
    pub limit_usd: Usd,
    /// What its owner may do.
    pub status: CostStatus,
    /// When it is spent at the rate of the period so far; `None` when it lasts.
    pub exhausted_at: Option<Timestamp>,
}

/// All budgets at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostsSnapshot {
    /// Agents', teams' and models', by name, and the organisation's last.
    pub budgets: Vec<BudgetSnapshot>,
    /// Signals that nobody took in time.
    pub lost_signals: u64,
    /// Times that the ledger could not be written.
    pub store_failures: u64,
    /// Amounts of agents that found no room, and counted for the organisation alone.
    pub overflow: u64,
}

impl CostsSnapshot {
    /// Emits the metrics of every budget, labelled with its `scope`, `name` and, of an agent on a model, `model`.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for budget in &self.budgets {
            let (scope, name, model) = budget.scope.parts();
            let of = [("scope", scope), ("name", name), ("model", model.unwrap_or_default())];
            let of = if model.is_some() { &of[..] } else { &of[..2] };
            for (metric, amount, help) in [
                ("sre.cost.spent", budget.spent_usd, "Spent in the day, or in the organisation's month."),
                ("sre.cost.reserved", budget.reserved_usd, "Reserved for calls in flight."),
                ("sre.cost.limit", budget.limit_usd, "Limit of the budget."),
            ] {
                let metric = Metric::gauge(metric, amount.as_dollars()).with_unit(MetricUnit::Dollars);
                emit(metric.with_labels(of).with_help(help));
            }
            if !budget.scope.agent_name().is_empty() {
                for status in CostStatus::ALL {
                    let is = f64::from(u8::from(budget.status == status));
                    let metric = Metric::gauge("sre.cost.status", is).with_labels(of);
                    emit(metric.with_label("status", status.as_str()).with_help("1 for the agent's current status."));
                }
            }
            if let Some(at) = budget.exhausted_at {
                let metric = Metric::gauge("sre.cost.exhausted_timestamp", at.as_unix_seconds());
                let help = "Forecast time at which the budget is spent, in Unix time.";
                emit(metric.with_unit(MetricUnit::Seconds).with_labels(of).with_help(help));
            }
        }
        for (name, count, help) in [
            ("sre.cost.signals_lost", self.lost_signals, "Signals dropped because nothing took them."),
            ("sre.cost.store_failures", self.store_failures, "Failed writes of the cost ledger."),
            ("sre.cost.overflow", self.overflow, "Costs of agents beyond the agent limit."),
        ] {
            emit(Metric::counter(name, count as f64).with_help(help));
        }
    }
}
