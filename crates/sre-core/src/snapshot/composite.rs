use serde::{Deserialize, Serialize};

use crate::names::names;

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

names! {
    /// Every method.
    CompositeMethod { Weighted: "weighted", Worst: "worst" }
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

impl ComponentSnapshot {
    /// Creates the snapshot of an objective without events.
    pub fn new(name: impl Into<String>, weight: f64) -> Self {
        Self { name: name.into(), weight, good: 0, bad: 0, consumed: None }
    }
}
