use serde::{Deserialize, Serialize};

use crate::names::names;

/// The status of an objective, from best to worst.
///
/// Exhaustive: the order is part of its meaning, and code that reacts to a status decides about each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(description = "The status of an objective, from best to worst."))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Within the objective.
    Healthy,
    /// No data, or too little data.
    #[default]
    Unknown,
    /// A burn alert of severity warning fires.
    Warning,
    /// A burn alert of severity critical fires.
    Critical,
    /// The error budget is spent.
    Exhausted,
}

/// The action when an error budget is exhausted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExhaustionAction {
    /// An alert only.
    #[default]
    Alert,
    /// No deployments until the objective recovers.
    FreezeDeployments,
    /// The agent's circuit breaker opens.
    CircuitBreak,
    /// The agent is throttled.
    Throttle,
}

/// An unknown name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, expected one of {expected}")]
pub struct InvalidName {
    found: String,
    expected: String,
}

impl InvalidName {
    /// Creates the error for a name that is not one of `expected`.
    pub fn new<'a>(found: &str, expected: impl IntoIterator<Item = &'a str>) -> Self {
        Self { found: found.to_owned(), expected: expected.into_iter().collect::<Vec<_>>().join(", ") }
    }
}

names! {
    /// Every status, from best to worst.
    Status {
        Healthy: "healthy",
        Unknown: "unknown",
        Warning: "warning",
        Critical: "critical",
        Exhausted: "exhausted",
    }
}

names! {
    /// Every action.
    ExhaustionAction {
        Alert: "alert",
        FreezeDeployments: "freeze_deployments",
        CircuitBreak: "circuit_break",
        Throttle: "throttle",
    }
}
