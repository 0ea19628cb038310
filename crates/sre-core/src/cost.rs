use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::names::names;
use crate::{Timestamp, Usd};

/// The scope of a budget.
///
/// In JSON: `scope` (`agent`, `agent_on_model`, `team`, `model` or `org`), `name`, and for an agent on a model, `model`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CostScope {
    /// The daily budget of an agent.
    Agent(String),
    /// The daily budget of an agent on one model.
    AgentOnModel {
        /// The agent.
        agent: String,
        /// The model.
        model: String,
    },
    /// The daily budget of a team, shared by its agents.
    Team(String),
    /// The daily budget of a model, shared by all agents.
    Model(String),
    /// The monthly budget of the organisation.
    Org,
}

impl CostScope {
    /// Returns the agent's name, or an empty string if the scope is not an agent's.
    pub fn agent_name(&self) -> &str {
        match self {
            Self::Agent(agent) | Self::AgentOnModel { agent, .. } => agent,
            Self::Team(_) | Self::Model(_) | Self::Org => "",
        }
    }

    /// Returns the kind of scope as in JSON, the name (empty for the organisation), and the model of an agent on a model.
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = CostScope, description = "Scope of a budget."))]
struct ScopeFields<'a> {
    /// What has the budget.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^(agent|agent_on_model|team|model|org)$"))]
    scope: Cow<'a, str>,
    /// The name of the agent, team or model; left out for the organisation.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    name: Cow<'a, str>,
    /// The model, for an agent on a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for CostScope {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        ScopeFields::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for CostScope {}

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

/// An alert about costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct CostAlert {
    /// Time of detection.
    pub at: Timestamp,
    /// The budget.
    #[serde(flatten)]
    pub scope: CostScope,
    /// The amount spent in the day or month; for [`CostAlertKind::TaskExceeded`], by the task.
    pub spent_usd: Usd,
    /// The limit of the budget or task.
    pub limit_usd: Usd,
    /// The kind of alert.
    #[serde(flatten)]
    pub kind: CostAlertKind,
}

impl CostAlert {
    /// Creates an alert.
    pub fn new(at: Timestamp, scope: CostScope, spent_usd: Usd, limit_usd: Usd, kind: CostAlertKind) -> Self {
        Self { at, scope, spent_usd, limit_usd, kind }
    }

    /// Returns the fields of `CostAlert.to_dict` in the Python package `agent-sre`: `current_value` and `threshold` are amounts in US
    /// dollars.
    pub fn to_dict(&self) -> serde_json::Value {
        let share = |threshold: f64| Usd::from_nanos((self.limit_usd.nanos() as f64 * threshold).round() as i64);
        let (current_value, threshold) = match self.kind {
            CostAlertKind::Threshold { threshold } => (self.spent_usd, share(threshold)),
            CostAlertKind::Anomaly { cost_usd, median_usd, .. } => (cost_usd, median_usd),
            CostAlertKind::Runaway { minute_usd, usual_usd } => (minute_usd, usual_usd),
            _ => (self.spent_usd, self.limit_usd),
        };
        let action = match self.kind {
            CostAlertKind::Throttled { .. } => "throttle",
            CostAlertKind::Killed => "kill",
            _ => "alert",
        };
        serde_json::json!({
            "severity": self.clone().into_signal().severity,
            "message": self.kind.to_string(),
            "agent_id": self.scope.agent_name(),
            "current_value": current_value,
            "threshold": threshold,
            "action": action,
        })
    }
}

/// The kind of a [`CostAlert`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "alert", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CostAlertKind {
    /// A share of the limit is spent. Reported once per day or month.
    Threshold {
        /// The share, from 0 to 1.
        threshold: f64,
    },
    /// The agent is throttled from now on.
    Throttled {
        /// The objective whose error budget is exhausted; `None` if the agent's own limit is nearly spent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slo: Option<String>,
    },
    /// The agent is blocked from now on.
    Killed,
    /// The agent is neither throttled nor blocked any more: a new day began, the day was reset, or the objective that
    /// throttled it recovered.
    #[serde(rename = "freed")]
    Unblocked,
    /// More than the limit is spent: an actual cost was above its estimate, or was recorded without a check. Sent at first, when the
    /// excess reaches a tenth of the limit, and each time it has doubled.
    Exceeded {
        /// By how much.
        excess_usd: Usd,
    },
    /// A task has cost more than the limit per task.
    TaskExceeded {
        /// The task.
        task: String,
    },
    /// A single cost is far above the median of the agent's recent costs, and twice the largest of the last weeks.
    Anomaly {
        /// The cost.
        cost_usd: Usd,
        /// The modified z-score: standard deviations above the median, estimated from the median absolute deviation. `None`
        /// if the standard deviation is 0.
        score: Option<f64>,
        /// The median of the agent's recent costs.
        median_usd: Usd,
    },
    /// The agent spends far more per minute than usual, possibly in a loop.
    Runaway {
        /// The amount spent in the current minute.
        minute_usd: Usd,
        /// The median of the minutes with any spending.
        usual_usd: Usd,
    },
}

impl std::fmt::Display for CostAlertKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Threshold { threshold } => write!(f, "{} % of the limit spent", threshold * 100.0),
            Self::Throttled { slo: None } => f.write_str("throttled: the limit is nearly spent"),
            Self::Throttled { slo: Some(slo) } => write!(f, "throttled: the error budget of {slo} is exhausted"),
            Self::Killed => f.write_str("blocked: the limit is nearly spent"),
            Self::Unblocked => f.write_str("no longer throttled or blocked"),
            Self::Exceeded { excess_usd } => write!(f, "limit exceeded by ${excess_usd}"),
            Self::TaskExceeded { task } => write!(f, "task {task} exceeded the limit per task"),
            Self::Anomaly { cost_usd, score, median_usd } => {
                write!(f, "cost of ${cost_usd} is unusual: the median of recent costs is ${median_usd}")?;
                score.map_or(Ok(()), |score| write!(f, " (modified z-score {score:.1})"))
            }
            Self::Runaway { minute_usd, usual_usd } => {
                write!(f, "runaway spending: ${minute_usd} in a minute, ${usual_usd} is usual; check for a loop")
            }
        }
    }
}

/// The restrictions on an agent because of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CostStatus {
    /// No restrictions within its limits.
    #[default]
    Ok,
    /// One call or task per interval is allowed.
    Throttled,
    /// No call or task is allowed until the next day or a reset.
    Killed,
}

names! {
    /// Every status.
    CostStatus { Ok: "ok", Throttled: "throttled", Killed: "killed" }
}

/// A budget at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// The scope.
    #[serde(flatten)]
    pub scope: CostScope,
    /// The amount spent in the day or month.
    pub spent_usd: Usd,
    /// The amount reserved for calls in progress.
    pub reserved_usd: Usd,
    /// The limit.
    pub limit_usd: Usd,
    /// The amount neither spent nor reserved, at least 0.
    pub remaining_usd: Usd,
    /// The spent part of the limit in percent; `None` if the limit is 0.
    pub utilization_percent: Option<f64>,
    /// The mean cost of the agent's tasks of the day; `None` without tasks, and for budgets other than an agent's overall one.
    pub avg_cost_per_task: Option<Usd>,
    /// Whether the agent is throttled or blocked; `ok` for shared budgets.
    pub status: CostStatus,
    /// When the budget will be spent at the rate of the period so far; `None` if it lasts until the end of the period.
    pub exhausted_at: Option<Timestamp>,
}

impl BudgetSnapshot {
    /// Creates a snapshot of a budget with nothing spent or reserved.
    pub fn new(scope: CostScope, limit_usd: Usd) -> Self {
        Self {
            scope,
            spent_usd: Usd::ZERO,
            reserved_usd: Usd::ZERO,
            limit_usd,
            remaining_usd: limit_usd,
            utilization_percent: Usd::ZERO.percent_of(limit_usd),
            avg_cost_per_task: None,
            status: CostStatus::Ok,
            exhausted_at: None,
        }
    }
}

/// All budgets at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CostsSnapshot {
    /// By scope: agents, teams and models by name, the organisation last.
    pub budgets: Vec<BudgetSnapshot>,
    /// Signals that were dropped because too many were pending.
    pub lost_signals: u64,
    /// Writes to the ledger store that failed.
    pub store_failures: u64,
    /// Charges of agents beyond the maximum number of agents, which have no budget of their own.
    pub overflow: u64,
}
