use serde::{Deserialize, Serialize};

use crate::{
    AgentEvent, Counts, ExponentialHistogram, IndicatorSnapshot, StateError, StateReader, StateWriter, Timestamp,
    Window,
};

/// A service level indicator: a measurement of an agent, compared with a target.
///
/// Recording takes `&self`, cannot fail, and takes constant time. An indicator is one of the series
/// ([`RatioSeries`](crate::RatioSeries), [`PercentileSeries`](crate::PercentileSeries), [`MeanSeries`](crate::MeanSeries))
/// and the events that it records:
///
/// ```
/// # use sre_core::{AgentEvent, Counts, Event, RatioSeries, Sli, SliReading, SliSpec, StateError, StateReader, StateWriter};
/// # use sre_core::{Timestamp, Window};
/// /// Ratio of tasks that the model refused.
/// struct RefusalRate(RatioSeries);
///
/// impl Sli for RefusalRate {
///     fn spec(&self) -> &SliSpec { self.0.spec() }
///
///     fn reading(&self, now: Timestamp) -> SliReading { self.0.reading(now) }
///
///     fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> { Some(self.0.counts(window, now)) }
///
///     fn observe(&self, event: &AgentEvent) {
///         if let Event::TaskFinished(task) = &event.event {
///             self.0.record(event.time, task.error.as_deref() == Some("refused"));
///         }
///     }
///
///     fn save(&self, state: &mut StateWriter) { self.0.save(state); }
///
///     fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> { self.0.restore(state) }
/// }
/// # let refusals = RefusalRate(RatioSeries::new(SliSpec::ratio_at_most("refusal_rate", 0.02, "24h".parse().unwrap())));
/// # let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":false,"error":"refused"}"#;
/// # let event = AgentEvent::from_json(line).unwrap();
/// # refusals.observe(&event);
/// # assert_eq!(refusals.reading(event.time).value, Some(1.0));
/// ```
pub trait Sli: Send + Sync {
    /// Returns the specification: name, target, unit and window.
    fn spec(&self) -> &SliSpec;

    /// Returns the reading of the window that ends at `now`.
    fn reading(&self, now: Timestamp) -> SliReading;

    /// Records an event. Events that the indicator does not measure are ignored.
    fn observe(&self, event: &AgentEvent);

    /// Returns the numbers of good and bad samples in any window that ends at `now`, or `None` if samples are neither, as those of
    /// a mean. An indicator with counts has an error budget of its own.
    fn counts(&self, _window: Window, _now: Timestamp) -> Option<Counts> {
        None
    }

    /// Returns the distribution of all samples since the indicator began, in base units, or `None` if it keeps none.
    fn histogram(&self) -> Option<ExponentialHistogram> {
        None
    }

    /// Saves the samples, so that they survive a restart. By default nothing is saved.
    fn save(&self, _state: &mut StateWriter) {}

    /// Adds saved samples.
    ///
    /// # Errors
    ///
    /// Returns an error if the saved state is damaged.
    fn restore(&self, _state: &mut StateReader<'_>) -> Result<(), StateError> {
        Ok(())
    }

    /// Returns the reading together with the specification, for reports and exporters.
    fn snapshot(&self, now: Timestamp) -> IndicatorSnapshot {
        IndicatorSnapshot::new(self.spec(), self.reading(now))
    }
}

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

/// Whether a target is a lower or an upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

/// A reading of an indicator over its window. Without data, values are `None`, never 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SliReading {
    /// The measured value: the ratio, the mean or the percentile.
    pub value: Option<f64>,
    /// Ratio of samples that met the target.
    pub compliance: Option<f64>,
    /// Number of samples.
    pub samples: u64,
    /// 95 % Wilson interval of a ratio, by effective sample size if samples are weighted.
    pub interval: Option<(f64, f64)>,
    /// The largest sample, if the indicator keeps it.
    pub maximum: Option<f64>,
    /// Percentiles, if the indicator keeps a distribution.
    pub percentiles: Option<Percentiles>,
    /// Number of samples dropped since the start because they were older than the window.
    pub dropped: u64,
}

/// Percentiles of a distribution, in the unit of its indicator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
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
