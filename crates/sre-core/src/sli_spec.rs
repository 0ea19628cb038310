use serde::{Deserialize, Serialize};

use crate::Window;

/// The specification of an indicator.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SliSpec {
    /// The indicator's name, in snake_case.
    pub name: String,
    /// The lower or upper bound of the value, in `unit`.
    pub target: f64,
    /// Whether the target is a lower or an upper bound.
    pub direction: Direction,
    /// The unit of the value.
    pub unit: Unit,
    /// The rolling window of the value.
    pub window: Window,
    /// The percentile, above 0 and up to 1, if the value is one: 0.95 for p95.
    pub percentile: Option<f64>,
}

impl SliSpec {
    /// Creates a specification of a ratio with a lower bound.
    pub fn ratio_at_least(name: impl Into<String>, target: f64, window: Window) -> Self {
        Self { name: name.into(), target, direction: Direction::AtLeast, unit: Unit::Ratio, window, percentile: None }
    }

    /// Creates a specification of a ratio with an upper bound.
    pub fn ratio_at_most(name: impl Into<String>, target: f64, window: Window) -> Self {
        Self { name: name.into(), target, direction: Direction::AtMost, unit: Unit::Ratio, window, percentile: None }
    }

    /// Creates a specification of a value with an upper bound.
    pub fn at_most(name: impl Into<String>, target: f64, unit: Unit, window: Window) -> Self {
        Self { name: name.into(), target, direction: Direction::AtMost, unit, window, percentile: None }
    }

    /// Returns the ratio of samples that may be bad: `1 - target` of a ratio, or the target where lower is better; `1 - percentile`
    /// of a percentile (p95 within 2 s: 5 % of the samples may take longer). `None` for other values.
    pub fn error_budget(&self) -> Option<f64> {
        let budget = match (self.percentile, self.unit, self.direction) {
            (Some(percentile), ..) => 1.0 - percentile,
            (None, Unit::Ratio, Direction::AtLeast) => 1.0 - self.target,
            (None, Unit::Ratio, Direction::AtMost) => self.target,
            _ => return None,
        };
        // Without the rounding errors of a subtraction.
        let budget = (budget * 1e12).round() / 1e12;
        (0.0..1.0).contains(&budget).then_some(budget)
    }

    /// Returns true if `value` meets the target.
    pub fn is_met_by(&self, value: f64) -> bool {
        match self.direction {
            Direction::AtLeast => value >= self.target,
            Direction::AtMost => value <= self.target,
        }
    }
}

/// Whether a target is a lower or an upper bound.
///
/// Exhaustive: a bound has two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(description = "Whether a target is a lower or an upper bound."))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher is better: values of at least the target meet it.
    AtLeast,
    /// Lower is better: values of at most the target meet it.
    AtMost,
}

/// The unit of an indicator's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unit {
    /// A ratio of samples, 0 to 1. Only ratios have an interval and can define an error budget.
    Ratio,
    /// Milliseconds.
    Milliseconds,
    /// US dollars.
    Usd,
    /// A plain number.
    Count,
    /// A difference of two ratios, 0 to 1.
    Difference,
}
