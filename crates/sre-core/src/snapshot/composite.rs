use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::InvalidName;

/// How a composite objective combines other objectives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CompositeMethod {
    /// The weighted mean of their error ratios, against a target of its own.
    #[default]
    Weighted,
    /// The highest of their burn rates, each against its own budget.
    Worst,
}

/// An objective that is part of a composite one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct ComponentSnapshot {
    /// The objective's name.
    pub name: String,
    /// Its weight.
    pub weight: f64,
    /// Its good events in the composite's window, of all agents that the composite covers.
    pub good: u64,
    /// Its bad events.
    pub bad: u64,
    /// Share of its own error budget that they consume.
    pub consumed: Option<f64>,
}

impl CompositeMethod {
    /// Every method.
    pub const ALL: [Self; 2] = [Self::Weighted, Self::Worst];

    /// Returns the name in snake_case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::Worst => "worst",
        }
    }
}

impl fmt::Display for CompositeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CompositeMethod {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|method| method.as_str() == text);
        found.ok_or_else(|| InvalidName::new(text, Self::ALL.map(Self::as_str)))
    }
}

impl ComponentSnapshot {
    /// Creates the snapshot of an objective without events.
    pub fn new(name: impl Into<String>, weight: f64) -> Self {
        Self { name: name.into(), weight, good: 0, bad: 0, consumed: None }
    }
}
