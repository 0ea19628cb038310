use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

impl Status {
    /// Every status, from best to worst.
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Unknown, Self::Warning, Self::Critical, Self::Exhausted];

    /// Returns the lower-case name.
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

impl ExhaustionAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Alert, Self::FreezeDeployments, Self::CircuitBreak, Self::Throttle];

    /// Returns the name in snake_case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::FreezeDeployments => "freeze_deployments",
            Self::CircuitBreak => "circuit_break",
            Self::Throttle => "throttle",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for ExhaustionAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| InvalidName::new(text, Self::ALL.map(Self::as_str)))
    }
}

impl FromStr for ExhaustionAction {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| InvalidName::new(text, Self::ALL.map(Self::as_str)))
    }
}
