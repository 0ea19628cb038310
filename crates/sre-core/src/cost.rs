use serde::Serialize;

use crate::{Timestamp, Usd};

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

impl Serialize for CostScope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            scope: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            model: Option<&'a str>,
        }
        let (scope, name, model) = self.parts();
        Wire { scope, name, model }.serialize(serializer)
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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
