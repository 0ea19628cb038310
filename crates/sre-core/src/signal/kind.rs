use serde::{Deserialize, Serialize};

use super::{ExhaustionAction, Status};
use crate::{BreakerChange, BurnAlert, BurnRate, CascadeReport, CostAlert, Target};

/// The typed details of a [`Signal`](super::Signal). As JSON, tagged by `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignalKind {
    /// An objective's status changed.
    SloStatusChanged(SloStatusChange),
    /// A circuit breaker changed its state.
    BreakerChanged(BreakerChange),
    /// Failures propagated along the call graph, or many circuits are open at once.
    Cascade(CascadeReport),
    /// A cascade is over.
    CascadeOver(CascadeEnd),
    /// An alert about costs: a threshold, a limit, an anomaly, or an agent that is throttled or blocked.
    Cost(CostAlert),
    /// Details of a custom engine.
    Custom {
        /// Any JSON value.
        data: serde_json::Value,
    },
}

/// A change of an objective's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SloStatusChange {
    /// The status before.
    pub from: Status,
    /// The status now.
    pub to: Status,
    /// Share of the error budget consumed; above 1 when overspent.
    pub consumed: Option<f64>,
    /// The objective's action when its error budget is exhausted.
    pub exhaustion_action: ExhaustionAction,
    /// The burn rate over the long window of the worst firing alert, or over the last hour if no alert fires.
    pub burn: Option<BurnRate>,
    /// The worst firing burn alert.
    pub alert: Option<BurnAlert>,
    /// Seconds until the budget is spent at the rate of the last hour; 0 if it is spent, `None` if it never will be.
    pub spent_in_s: Option<f64>,
    /// The indicator to which `burn`, `alert` and `spent_in_s` belong: the worst one if indicators alone changed the status, or else one
    /// that shares the objective's error budget. `None` if that budget is the objective's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indicator: Option<String>,
}

impl SloStatusChange {
    /// Creates a change with only the required fields.
    pub const fn new(from: Status, to: Status, exhaustion_action: ExhaustionAction) -> Self {
        Self { from, to, consumed: None, exhaustion_action, burn: None, alert: None, spent_in_s: None, indicator: None }
    }
}

/// The end of a cascade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CascadeEnd {
    /// The origin of the cascade.
    pub origin: Target,
}

impl CascadeEnd {
    /// Creates the end of the cascade from `origin`.
    pub const fn new(origin: Target) -> Self {
        Self { origin }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Signals are stored and sent as JSON, so these fields and their order must never change.
    #[test]
    fn the_details_of_a_signal_have_their_fields_beside_the_type() {
        let mut change = SloStatusChange::new(Status::Critical, Status::Exhausted, ExhaustionAction::Throttle);
        change.consumed = Some(1.5);
        for (kind, expected) in [
            (
                SignalKind::SloStatusChanged(change),
                r#"{"type":"slo_status_changed","from":"critical","to":"exhausted","consumed":1.5,"exhaustion_action":"throttle","burn":null,"alert":null,"spent_in_s":null}"#,
            ),
            (
                SignalKind::CascadeOver(CascadeEnd::new(Target::agent("planner"))),
                r#"{"type":"cascade_over","origin":{"kind":"agent","name":"planner"}}"#,
            ),
            (SignalKind::Custom { data: json!({"depth": 3}) }, r#"{"type":"custom","data":{"depth":3}}"#),
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), expected);
            assert_eq!(serde_json::from_str::<SignalKind>(expected).unwrap(), kind);
        }
    }
}
