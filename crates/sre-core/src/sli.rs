use serde::Serialize;

use crate::{AgentEvent, IndicatorSnapshot, StateError, StateReader, StateWriter, Timestamp, Window};

/// A service level indicator: something measured about an agent, against a target.
///
/// Recording takes `&self`, cannot fail, and costs the same whatever has been seen. The crate's front page has a
/// custom indicator in a dozen lines.
pub trait Sli: Send + Sync {
    /// What is measured, and the target.
    fn spec(&self) -> &SliSpec;

    /// What was measured in the indicator's window up to `now`.
    fn reading(&self, now: Timestamp) -> SliReading;

    /// Takes from `event` what it measures, and passes over every other event.
    fn observe(&self, event: &AgentEvent);

    /// Writes what was measured, so that it outlives a restart. An indicator that does not begins anew.
    fn save(&self, _state: &mut StateWriter) {}

    /// Adds what was saved.
    fn restore(&self, _state: &mut StateReader<'_>) -> Result<(), StateError> {
        Ok(())
    }

    /// The reading with the spec beside it, as reports and exporters show it.
    fn snapshot(&self, now: Timestamp) -> IndicatorSnapshot {
        IndicatorSnapshot::new(self.spec(), self.reading(now))
    }
}

/// What an indicator measures, and the target it is held against.
#[derive(Clone, Debug, PartialEq)]
pub struct SliSpec {
    /// The indicator's name, in snake_case.
    pub name: String,
    /// The value to reach or not to exceed, in `unit`.
    pub target: f64,
    /// Which side of the target is good.
    pub direction: Direction,
    /// What the value is.
    pub unit: Unit,
    /// The span of time that the value is about.
    pub window: Window,
}

/// Which side of a target is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher is better: the target is met from it upwards.
    AtLeast,
    /// Lower is better: the target is met up to it.
    AtMost,
}

/// The unit of an indicator's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share of samples, 0 to 1. Only these have an interval, and an error budget can come from them.
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

/// What an indicator measured in its window. No data is `None`, never 0 and never 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SliReading {
    /// The measured value: the ratio, the mean or the percentile.
    pub value: Option<f64>,
    /// The share of samples that met the target.
    pub compliance: Option<f64>,
    /// How many samples there were.
    pub samples: u64,
    /// The Wilson 95 % interval of a ratio; by effective sample size where samples are weighted.
    pub interval: Option<(f64, f64)>,
    /// The largest sample, where the indicator keeps it.
    pub maximum: Option<f64>,
    /// The usual percentiles, where the indicator keeps a distribution.
    pub percentiles: Option<Percentiles>,
    /// Samples that came later than the indicator's window reaches back, since it began.
    pub dropped: u64,
}

/// The usual percentiles of a distribution, in `unit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the samples are at most this.
    pub p50: f64,
    /// 95 % are.
    pub p95: f64,
    /// 99 % are.
    pub p99: f64,
}

impl SliSpec {
    /// A ratio to reach.
    pub fn ratio_at_least(name: impl Into<String>, target: f64, window: Window) -> Self {
        Self { name: name.into(), target, direction: Direction::AtLeast, unit: Unit::Ratio, window }
    }

    /// A ratio not to exceed.
    pub fn ratio_at_most(name: impl Into<String>, target: f64, window: Window) -> Self {
        Self { name: name.into(), target, direction: Direction::AtMost, unit: Unit::Ratio, window }
    }

    /// A value not to exceed.
    pub fn at_most(name: impl Into<String>, target: f64, unit: Unit, window: Window) -> Self {
        Self { name: name.into(), target, direction: Direction::AtMost, unit, window }
    }

    /// Whether `value` meets the target.
    pub fn is_met_by(&self, value: f64) -> bool {
        match self.direction {
            Direction::AtLeast => value >= self.target,
            Direction::AtMost => value <= self.target,
        }
    }
}
