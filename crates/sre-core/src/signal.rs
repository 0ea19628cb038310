use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{BreakerChange, BurnAlert, BurnRate, CascadeReport, CostAlert, Severity, Target, Timestamp};

/// What an engine concluded: the only thing that engines say to each other, and never directly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// When it came to be so.
    pub time: Timestamp,
    /// The agent it is about.
    pub agent: String,
    /// What came to be so.
    #[serde(flatten)]
    pub kind: SignalKind,
}

/// What can come to be so.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "signal", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignalKind {
    /// An objective's status changed, for worse or for better. Sent once a change.
    SloStatusChanged {
        /// The objective's name.
        slo: String,
        /// The status before.
        from: Status,
        /// The status now.
        to: Status,
        /// The share of the error budget that is spent; above 1 when overspent.
        consumed: Option<f64>,
        /// What should be done once the budget is spent: `alert`, `freeze_deployments`, `circuit_break`, `throttle`.
        exhaustion_action: String,
        /// How fast it burns: over the long window of the worst alert that fires, else over the last hour.
        burn: Option<BurnRate>,
        /// The worst burn alert that fires.
        alert: Option<BurnAlert>,
        /// Seconds until the budget is spent at the rate of the last hour; 0 when it is, `None` when it never will be.
        spent_in_s: Option<f64>,
        /// The objective's labels.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    },
    /// A circuit breaker turned to another state.
    BreakerChanged(BreakerChange),
    /// Failures spread along the call graph, or so many circuits are open that they might as well.
    Cascade(CascadeReport),
    /// The cascade is over.
    CascadeOver {
        /// Where it had begun.
        origin: Target,
    },
    /// Something about costs: a threshold, a limit, an anomaly, an agent that is slowed down or refused.
    Cost(CostAlert),
    /// A conclusion of an engine that this version does not know.
    Custom {
        /// The engine's name for it.
        name: String,
        /// How bad it is.
        severity: Severity,
        /// What a person should read.
        message: String,
    },
}

/// How an objective stands, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Within the objective, as far as anybody can tell.
    Healthy,
    /// No data, or too little of it with something bad in it.
    #[default]
    Unknown,
    /// A burn alert of severity warning fires.
    Warning,
    /// A burn alert of severity critical fires.
    Critical,
    /// The error budget is spent.
    Exhausted,
}

impl Status {
    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Exhausted => "exhausted",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Healthy, Self::Unknown, Self::Warning, Self::Critical, Self::Exhausted]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(())
    }
}
