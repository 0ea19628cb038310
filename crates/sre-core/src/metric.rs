use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::private::float;
use crate::{AgentEvent, EventSpan, SpanId, Timestamp, TraceId};

/// A metric with everything that an exporter needs to publish it.
///
/// Names are dotted, in OpenTelemetry's style, without unit or `_total`; exporters add those if their format requires
/// them.
///
/// ```
/// use sre_core::{Metric, MetricUnit};
/// let metric = Metric::gauge("sre.slo.target", 0.95).with_unit(MetricUnit::Ratio).with_label("slo", "answers");
/// assert_eq!(metric.prometheus_name(), "sre_slo_target_ratio");
/// assert_eq!(Metric::counter("sre.tasks", 7.0).prometheus_name(), "sre_tasks_total");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metric<'a> {
    /// The dotted name, in lower case.
    pub name: Cow<'a, str>,
    /// A description in one sentence.
    pub help: Cow<'a, str>,
    /// The unit of the value.
    pub unit: MetricUnit,
    /// Label names and values, in the order they were added.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The value, which determines the kind of metric.
    pub value: MetricValue,
    /// An event that the value counts, for exporters that can link to its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemplar: Option<Box<Exemplar>>,
}

/// An event with its trace, as an example of what a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Exemplar {
    /// When the event ended.
    pub time: Timestamp,
    /// The trace, as exporters send it.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub trace_id: TraceId,
    /// The span.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub span_id: SpanId,
}

impl Exemplar {
    /// Returns the exemplar of an event; `None` if it is no [span](EventSpan::of).
    pub fn of(event: &AgentEvent) -> Option<Self> {
        let EventSpan { trace_id, span_id, .. } = EventSpan::of(event)?;
        Some(Self { time: event.time, trace_id, span_id })
    }
}

/// The unit of a metric: base units only, as OpenTelemetry and Prometheus recommend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricUnit {
    /// A plain number, such as a count.
    #[default]
    None,
    /// A ratio; 1 is the whole.
    Ratio,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// US dollars.
    Dollars,
}

/// The value of a metric, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricValue {
    /// A value that can go up and down.
    Gauge(#[serde(with = "float")] f64),
    /// A sum that only increases, from 0 when its source first started.
    Counter(#[serde(with = "float")] f64),
    /// A distribution of all values since its source first started.
    Histogram(ExponentialHistogram),
}

/// A distribution in exponential buckets: bucket `i` counts values in (base^i, base^(i+1)], base = 2^(2^-scale).
///
/// Source: OpenTelemetry metrics data model, `ExponentialHistogram`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExponentialHistogram {
    /// The resolution: 2^scale buckets for each doubling.
    pub scale: i32,
    /// Number of values that are 0, or too small to distinguish from 0.
    pub zero_count: u64,
    /// The index of the first bucket.
    pub offset: i32,
    /// The counts of the buckets, from index `offset` on.
    pub buckets: Vec<u64>,
    /// Number of values.
    pub count: u64,
    /// Sum of the values.
    #[serde(with = "float")]
    pub sum: f64,
}

impl<'a> Metric<'a> {
    /// Creates a gauge.
    pub fn gauge(name: impl Into<Cow<'a, str>>, value: f64) -> Self {
        Self::new(name.into(), MetricValue::Gauge(value))
    }

    /// Creates a counter.
    pub fn counter(name: impl Into<Cow<'a, str>>, value: f64) -> Self {
        Self::new(name.into(), MetricValue::Counter(value))
    }

    /// Creates a histogram.
    pub fn histogram(name: impl Into<Cow<'a, str>>, value: ExponentialHistogram) -> Self {
        Self::new(name.into(), MetricValue::Histogram(value))
    }

    fn new(name: Cow<'a, str>, value: MetricValue) -> Self {
        Self { name, help: Cow::Borrowed(""), unit: MetricUnit::None, labels: Vec::new(), value, exemplar: None }
    }

    /// Sets the help text.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<Cow<'a, str>>) -> Self {
        self.help = help.into();
        self
    }

    /// Sets the unit.
    #[must_use]
    pub fn with_unit(mut self, unit: MetricUnit) -> Self {
        self.unit = unit;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Adds labels.
    #[must_use]
    pub fn with_labels(mut self, labels: &[(&'a str, &'a str)]) -> Self {
        // And for a few more.
        self.labels.reserve(labels.len() + 4);
        self.labels.extend(labels.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))));
        self
    }

    /// Adds an example of what the value counts.
    #[must_use]
    pub fn with_exemplar(mut self, exemplar: Option<Exemplar>) -> Self {
        self.exemplar = exemplar.map(Box::new);
        self
    }

    /// Returns the agent that the series is about: that of the label `agent`, or the target or origin of kind `agent` of a breaker or
    /// cascade, or the budget of scope `agent`.
    ///
    /// ```
    /// use sre_core::Metric;
    /// let breaker = |kind| Metric::gauge("sre.breaker.opened", 1.0).with_labels(&[("kind", kind), ("target", "search")]);
    /// assert_eq!((breaker("agent").agent(), breaker("tool").agent()), (Some("search"), None));
    /// ```
    pub fn agent(&self) -> Option<&str> {
        let label = |name: &str| self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| &**value);
        let agent = match (label("agent"), label("kind"), label("scope")) {
            (Some(agent), ..) => Some(agent),
            (None, Some("agent"), _) => label("target").or_else(|| label("origin")),
            (None, _, Some("agent")) => label("name"),
            _ => None,
        };
        agent.filter(|agent| !agent.is_empty())
    }

    /// Returns the name in Prometheus' style: underscores, the unit, and `_total` for a counter.
    pub fn prometheus_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        if let Some(suffix) = self.unit.prometheus_suffix()
            && !name.ends_with(suffix)
        {
            name.push('_');
            name.push_str(suffix);
        }
        if matches!(self.value, MetricValue::Counter(_)) {
            name.push_str("_total");
        }
        name
    }

    /// Returns the metric with owned strings.
    pub fn into_owned(self) -> Metric<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Metric {
            name: own(self.name),
            help: own(self.help),
            unit: self.unit,
            labels: self.labels.into_iter().map(|(name, value)| (own(name), own(value))).collect(),
            value: self.value,
            exemplar: self.exemplar,
        }
    }
}

impl MetricUnit {
    /// Returns the unit in OpenTelemetry's notation (UCUM), such as `s`; empty for a plain number.
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Ratio => "1",
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Dollars => "{USD}",
        }
    }

    /// Returns the suffix of names in Prometheus, such as `seconds`.
    pub const fn prometheus_suffix(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Ratio => Some("ratio"),
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
            Self::Dollars => Some("dollars"),
        }
    }
}

impl Clone for ExponentialHistogram {
    fn clone(&self) -> Self {
        Self { buckets: self.buckets.clone(), ..*self }
    }

    /// Copies `source` without another allocation, if there is room for its buckets.
    fn clone_from(&mut self, source: &Self) {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.clone_from(&source.buckets);
        *self = Self { buckets, ..*source };
    }
}

impl ExponentialHistogram {
    /// Creates an empty histogram of that resolution.
    pub fn new(scale: i32) -> Self {
        Self { scale, ..Self::default() }
    }

    /// Counts a value. Negative, NaN and infinite values are ignored.
    pub fn record(&mut self, value: f64) {
        if !(0.0..f64::INFINITY).contains(&value) {
            return;
        }
        self.count += 1;
        self.sum += value;
        if value < f64::MIN_POSITIVE {
            self.zero_count += 1;
        } else {
            self.add(self.bucket_of(value), 1);
        }
    }

    /// Counts `times` values in the bucket at `index`. Does not change the sum.
    pub(crate) fn count_in_bucket(&mut self, index: i32, times: u64) {
        self.count += times;
        self.add(index, times);
    }

    fn add(&mut self, index: i32, times: u64) {
        if self.buckets.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let missing = (self.offset - index) as usize;
            self.buckets.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let place = (index - self.offset) as usize;
        if place >= self.buckets.len() {
            self.buckets.resize(place + 1, 0);
        }
        self.buckets[place] += times;
    }

    /// Returns the upper bound of the bucket at `index`.
    pub fn upper_bound(&self, index: i32) -> f64 {
        (f64::from(index.saturating_add(1)) * (-f64::from(self.scale)).exp2()).exp2()
    }

    /// Returns the same distribution in at most `most` buckets, halving the resolution as often as needed.
    #[must_use]
    pub fn with_at_most(mut self, most: usize) -> Self {
        while self.buckets.len() > most.max(1) {
            let first = self.offset.div_euclid(2);
            let last = (self.offset + self.buckets.len() as i32 - 1).div_euclid(2);
            let mut merged = vec![0; (last - first + 1) as usize];
            for (index, count) in (self.offset..).zip(&self.buckets) {
                merged[(index.div_euclid(2) - first) as usize] += count;
            }
            (self.scale, self.offset, self.buckets) = (self.scale - 1, first, merged);
        }
        self
    }

    /// Returns the index of the bucket of a value above 0. Buckets are open below and closed above: an exact power of
    /// the base belongs to the bucket whose upper bound it is.
    pub(crate) fn bucket_of(&self, value: f64) -> i32 {
        (value.log2() * f64::from(self.scale).exp2()).ceil() as i32 - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_end_as_prometheus_wants_them() {
        for (metric, name) in [
            (Metric::gauge("sre.slo.burn_rate", 1.0), "sre_slo_burn_rate"),
            (Metric::counter("sre.cost", 1.0).with_unit(MetricUnit::Dollars), "sre_cost_dollars_total"),
            (Metric::gauge("sre.window", 1.0).with_unit(MetricUnit::Seconds), "sre_window_seconds"),
            (
                Metric::gauge("process.start_time_seconds", 1.0).with_unit(MetricUnit::Seconds),
                "process_start_time_seconds",
            ),
        ] {
            assert_eq!(metric.prometheus_name(), name);
        }
    }

    #[test]
    fn a_metric_in_json_is_the_same_metric() {
        let mut histogram = ExponentialHistogram::new(3);
        [0.0, 0.1, 2.0].into_iter().for_each(|value| histogram.record(value));
        histogram.sum = f64::INFINITY;
        let exemplar = Exemplar {
            time: Timestamp::from_secs(7),
            trace_id: TraceId::from_bytes([1; 16]).unwrap(),
            span_id: SpanId::from_bytes([2; 8]).unwrap(),
        };
        for metric in [
            Metric::gauge("a", f64::NEG_INFINITY).with_help("Ä.").with_unit(MetricUnit::Ratio),
            Metric::counter("b", 0.1 + 0.2).with_label("slo", "\"ä\"").with_exemplar(Some(exemplar)),
            Metric::histogram("c", histogram),
        ] {
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(serde_json::from_str::<Metric<'_>>(&json).unwrap(), metric, "{json}");
        }
        let json = serde_json::to_string(&Metric::gauge("a", f64::NAN)).unwrap();
        let Metric { value: MetricValue::Gauge(value), .. } = serde_json::from_str(&json).unwrap() else {
            panic!("{json}")
        };
        assert!(value.is_nan());
    }

    #[test]
    fn buckets_are_closed_above() {
        let mut histogram = ExponentialHistogram::new(0);
        for value in [1.0, 1.5, 2.0, 2.1, 4.0, 0.0] {
            histogram.record(value);
        }
        // (0.5, 1], (1, 2], (2, 4]
        assert_eq!((histogram.offset, &histogram.buckets[..], histogram.zero_count), (-1, &[1, 2, 2][..], 1));
        assert_eq!([-1, 0, 1].map(|index| histogram.upper_bound(index)), [1.0, 2.0, 4.0]);
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket_at_every_resolution(
            values in prop::collection::vec(1e-3..1e7_f64, 1..100), most in 1_usize..40,
        ) {
            let mut histogram = ExponentialHistogram::new(5);
            values.iter().for_each(|value| histogram.record(*value));
            let coarse = histogram.clone().with_at_most(most);
            prop_assert!(coarse.buckets.len() <= most.max(1) || coarse.buckets.len() == 1);
            for histogram in [histogram, coarse] {
                prop_assert_eq!(histogram.buckets.iter().sum::<u64>(), values.len() as u64);
                for (index, count) in (histogram.offset..).zip(&histogram.buckets) {
                    let bounds = (histogram.upper_bound(index - 1), histogram.upper_bound(index));
                    // Rounding of the logarithm may put a value on a bound into either bucket.
                    let slack = 1.0 + 1e-12;
                    let surely = values.iter().filter(|v| **v > bounds.0 * slack && **v <= bounds.1 / slack).count();
                    let maybe = values.iter().filter(|v| **v > bounds.0 / slack && **v <= bounds.1 * slack).count();
                    prop_assert!((surely as u64..=maybe as u64).contains(count));
                }
            }
        }
    }
}
