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

/// An invalid bound or window of an indicator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{indicator}`: `{field}`: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct InvalidSli {
    /// The indicator's name.
    pub indicator: String,
    /// The field: `target`, `percentile`, or `window` in seconds.
    pub field: &'static str,
    /// The value found.
    pub found: f64,
    /// The valid values.
    pub expected: &'static str,
}

impl SliSpec {
    /// Creates a specification of a ratio with a lower bound, above 0 and up to 1.
    ///
    /// # Errors
    ///
    /// Returns an error for any other target. A percentage is a ratio too: 95 % is 0.95.
    pub fn ratio_at_least(name: impl Into<String>, target: f64, window: Window) -> Result<Self, InvalidSli> {
        Self::at_least(name, target, Unit::Ratio, window)
    }

    /// Creates a specification of a ratio with an upper bound, from 0 to below 1.
    ///
    /// # Errors
    ///
    /// Returns an error for any other target.
    pub fn ratio_at_most(name: impl Into<String>, target: f64, window: Window) -> Result<Self, InvalidSli> {
        Self::at_most(name, target, Unit::Ratio, window)
    }

    /// Creates a specification of a count with an upper bound.
    pub fn count_at_most(name: impl Into<String>, most: u32, window: Window) -> Self {
        let (target, direction, unit) = (f64::from(most), Direction::AtMost, Unit::Count);
        Self { name: name.into(), target, direction, unit, window, percentile: None }
    }

    /// Creates a specification of a value with a lower bound.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is possible in that unit: a ratio above 0 and up to 1, a difference from 0 to below 1,
    /// milliseconds above 0, any other finite number of at least 0.
    pub fn at_least(name: impl Into<String>, target: f64, unit: Unit, window: Window) -> Result<Self, InvalidSli> {
        Self::checked(name.into(), target, Direction::AtLeast, unit, window)
    }

    /// Creates a specification of a value with an upper bound.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is possible in that unit: a ratio or a difference from 0 to below 1, milliseconds above
    /// 0, any other finite number of at least 0.
    pub fn at_most(name: impl Into<String>, target: f64, unit: Unit, window: Window) -> Result<Self, InvalidSli> {
        Self::checked(name.into(), target, Direction::AtMost, unit, window)
    }

    fn checked(
        name: String,
        target: f64,
        direction: Direction,
        unit: Unit,
        window: Window,
    ) -> Result<Self, InvalidSli> {
        let (is_valid, expected) = match (unit, direction) {
            (Unit::Ratio, Direction::AtLeast) => (target > 0.0 && target <= 1.0, "a ratio above 0 and up to 1"),
            (Unit::Ratio | Unit::Difference, _) => ((0.0..1.0).contains(&target), "a ratio from 0 to below 1"),
            (Unit::Milliseconds, _) => (target > 0.0 && target.is_finite(), "a finite number above 0"),
            _ => ((0.0..f64::INFINITY).contains(&target), "a finite number of at least 0"),
        };
        if !is_valid {
            return Err(InvalidSli { indicator: name, field: "target", found: target, expected });
        }
        if matches!(unit, Unit::Ratio | Unit::Milliseconds) && window < Window::SHORTEST_COUNTED {
            let (found, expected) = (window.as_secs_f64(), "at least 1 second");
            return Err(InvalidSli { indicator: name, field: "window", found, expected });
        }
        Ok(Self { name, target, direction, unit, window, percentile: None })
    }

    /// Makes the value a percentile: above 0 and up to 1, 0.95 for p95.
    ///
    /// # Errors
    ///
    /// Returns an error for any other percentile.
    pub fn with_percentile(mut self, percentile: f64) -> Result<Self, InvalidSli> {
        if !(percentile > 0.0 && percentile <= 1.0) {
            let expected = "a ratio above 0 and up to 1, such as 0.95 for p95";
            return Err(InvalidSli { indicator: self.name, field: "percentile", found: percentile, expected });
        }
        self.percentile = Some(percentile);
        Ok(self)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_too_short_to_count_are_refused() {
        for (window, is_valid) in [("1ms", false), ("999ms", false), ("1s", true)] {
            let window = window.parse().unwrap();
            assert_eq!(SliSpec::ratio_at_least("success", 0.9, window).is_ok(), is_valid, "{window}");
            assert_eq!(SliSpec::at_most("latency", 1.0, Unit::Milliseconds, window).is_ok(), is_valid, "{window}");
        }
        let error = SliSpec::ratio_at_most("failures", 0.1, "1ms".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "`failures`: `window`: found 0.001, expected at least 1 second");
    }

    #[test]
    fn bounds_that_cannot_be_met_or_missed_are_refused() {
        for target in [95.0, f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let error = SliSpec::ratio_at_least("success", target, Window::DAY).unwrap_err();
            let message = format!("`success`: `target`: found {target}, expected a ratio above 0 and up to 1");
            assert_eq!(error.to_string(), message);
        }
        for target in [1.0, 5.0, -0.1, f64::NAN] {
            assert!(SliSpec::ratio_at_most("failures", target, Window::DAY).is_err(), "{target}");
            assert!(SliSpec::at_most("apart", target, Unit::Difference, Window::DAY).is_err(), "{target}");
        }
        for target in [-5.0, f64::NAN, f64::INFINITY] {
            for unit in [Unit::Milliseconds, Unit::Usd, Unit::Count] {
                assert!(SliSpec::at_most("any", target, unit, Window::DAY).is_err(), "{target}");
                assert!(SliSpec::at_least("any", target, unit, Window::DAY).is_err(), "{target}");
            }
        }
        assert!(SliSpec::at_most("latency", 0.0, Unit::Milliseconds, Window::DAY).is_err());
        assert!(SliSpec::at_least("throughput", 2.5, Unit::Count, Window::DAY).unwrap().is_met_by(2.5));
        for percentile in [95.0, 0.0, -0.5, f64::NAN] {
            let latency = SliSpec::at_most("latency", 500.0, Unit::Milliseconds, Window::HOUR).unwrap();
            assert_eq!(latency.with_percentile(percentile).unwrap_err().field, "percentile");
        }
    }
}
