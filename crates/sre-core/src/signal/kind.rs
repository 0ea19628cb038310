use serde::{Deserialize, Serialize};

use super::{ExhaustionAction, Status};
use crate::{BreakerChange, BurnAlert, BurnRate, CascadeReport, CostAlert, Target};

/// The typed details of a [`Signal`](super::Signal). As JSON, tagged by `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignalKind {
    /// An objective's status changed.
    SloStatusChanged {
        /// The status before.
        from: Status,
        /// The status now.
        to: Status,
        /// The share of the error budget that is spent; above 1 when overspent.
        consumed: Option<f64>,
        /// What the objective asks for once its budget is spent.
        exhaustion_action: ExhaustionAction,
        /// The burn rate over the long window of the worst alert that fires, else over the last hour.
        burn: Option<BurnRate>,
        /// The worst burn alert that fires.
        alert: Option<BurnAlert>,
        /// Seconds until the budget is spent at the rate of the last hour; 0 when it is, `None` when it never will be.
        spent_in_s: Option<f64>,
    },
    /// A circuit breaker changed its state.
    BreakerChanged(BreakerChange),
    /// Failures spread along the call graph, or many circuits are open at once.
    Cascade(CascadeReport),
    /// A cascade is over.
    CascadeOver {
        /// Where it had begun.
        origin: Target,
    },
    /// A threshold, a limit or an anomaly of costs, or an agent that is throttled or denied.
    Cost(CostAlert),
    /// Details of an engine that this crate does not know.
    Custom {
        /// Anything.
        data: serde_json::Value,
    },
}
