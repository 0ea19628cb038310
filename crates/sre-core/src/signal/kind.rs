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
        /// Share of the error budget consumed; above 1 when overspent.
        consumed: Option<f64>,
        /// The objective's action when its error budget is exhausted.
        exhaustion_action: ExhaustionAction,
        /// The burn rate over the long window of the worst firing alert, or over the last hour if no alert fires.
        burn: Option<BurnRate>,
        /// The worst firing burn alert.
        alert: Option<BurnAlert>,
        /// Seconds until the budget is spent at the rate of the last hour; 0 if it is spent, `None` if it never will
        /// be.
        spent_in_s: Option<f64>,
    },
    /// A circuit breaker changed its state.
    BreakerChanged(BreakerChange),
    /// Failures spread along the call graph, or many circuits are open at once.
    Cascade(CascadeReport),
    /// A cascade is over.
    CascadeOver {
        /// The origin of the cascade.
        origin: Target,
    },
    /// An alert about costs: a threshold, a limit, an anomaly, or an agent that is throttled or blocked.
    Cost(CostAlert),
    /// Details of a custom engine.
    Custom {
        /// Any JSON value.
        data: serde_json::Value,
    },
}
