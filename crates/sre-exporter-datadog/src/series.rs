use serde::Serialize;
use sre_core::{ExponentialHistogram, Metric, MetricUnit, MetricValue, Timestamp};

use crate::histogram::{quantile, since};
use crate::names;
use crate::origin::{HostResource, Origin};
use crate::totals::{Change, Totals};

/// A series with one point, as `/api/v2/series` accepts it.
///
/// Source: <https://docs.datadoghq.com/api/latest/metrics/#submit-metrics>.
#[derive(Serialize)]
pub(crate) struct Series<'a> {
    metric: String,
    r#type: u8,
    points: [Point; 1],
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<[HostResource<'a>; 1]>,
}

#[derive(Serialize)]
struct Point {
    timestamp: i64,
    value: f64,
}

const COUNT: u8 = 1;
const GAUGE: u8 = 3;

/// The totals of all counters and histograms.
#[derive(Debug)]
pub(crate) struct AllTotals {
    pub(crate) counters: Totals<f64>,
    pub(crate) histograms: Totals<ExponentialHistogram>,
}

/// Converts the metrics of a batch to series.
pub(crate) struct SeriesBatch<'a> {
    origin: &'a Origin,
    at: Timestamp,
    interval: u64,
    pub(crate) series: Vec<Series<'a>>,
    counters: Vec<Change<f64>>,
    histograms: Vec<Change<ExponentialHistogram>>,
}

impl<'a> SeriesBatch<'a> {
    pub(crate) fn new(origin: &'a Origin, at: Timestamp, interval: u64) -> Self {
        Self { origin, at, interval, series: Vec::new(), counters: Vec::new(), histograms: Vec::new() }
    }

    /// Adds a metric. Returns false if it has no value in Datadog: NaN, or infinite.
    pub(crate) fn add(&mut self, metric: &Metric<'_>, totals: &AllTotals) -> bool {
        let name = names::metric(&metric.name);
        let tags = self.origin.tags_with(metric.labels.iter().map(|(key, value)| (&**key, &**value)));
        let unit = unit(metric.unit);
        match &metric.value {
            MetricValue::Gauge(value) if value.is_finite() => self.push(name, GAUGE, *value, tags, unit),
            MetricValue::Counter(total) if total.is_finite() => {
                let key = key(&name, &tags);
                let before = totals.counters.before(&key, total, self.at);
                // Less than before is a counter that started anew.
                let change = if *total < before { *total } else { total - before };
                self.push(name, COUNT, change, tags, unit);
                self.counters.push(Change { key, before, total: *total });
            }
            MetricValue::Histogram(total) if total.sum.is_finite() => {
                let key = key(&name, &tags);
                let before = totals.histograms.before(&key, total, self.at);
                self.push_histogram(&name, &since(total, &before), &tags, unit);
                self.histograms.push(Change { key, before, total: total.clone() });
            }
            _ => return false,
        }
        true
    }

    /// Remembers the totals, once Datadog has accepted the series.
    pub(crate) fn accept(self, totals: &mut AllTotals) {
        totals.counters.accept(self.counters, self.at);
        totals.histograms.accept(self.histograms, self.at);
    }

    /// Source of the names: <https://docs.datadoghq.com/metrics/types/?tab=histogram>.
    fn push_histogram(
        &mut self,
        name: &str,
        values: &ExponentialHistogram,
        tags: &[String],
        unit: Option<&'static str>,
    ) {
        self.push(format!("{name}.count"), COUNT, values.count as f64, tags.to_vec(), None);
        self.push(format!("{name}.sum"), COUNT, values.sum, tags.to_vec(), unit);
        let average = (values.count > 0).then(|| values.sum / values.count as f64);
        for (suffix, value) in [
            ("avg", average),
            ("median", quantile(values, 0.5)),
            ("95percentile", quantile(values, 0.95)),
            ("99percentile", quantile(values, 0.99)),
        ] {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                self.push(format!("{name}.{suffix}"), GAUGE, value, tags.to_vec(), unit);
            }
        }
    }

    fn push(&mut self, metric: String, kind: u8, value: f64, tags: Vec<String>, unit: Option<&'static str>) {
        self.series.push(Series {
            metric,
            r#type: kind,
            points: [Point { timestamp: self.at.as_secs(), value }],
            tags,
            interval: (kind == COUNT).then_some(self.interval),
            unit,
            resources: self.origin.resources(),
        });
    }
}

fn key(name: &str, tags: &[String]) -> String {
    let mut key = name.to_owned();
    for tag in tags {
        key.push(',');
        key.push_str(tag);
    }
    key
}

/// Source: <https://docs.datadoghq.com/metrics/units/>.
const fn unit(unit: MetricUnit) -> Option<&'static str> {
    match unit {
        MetricUnit::Ratio => Some("fraction"),
        MetricUnit::Seconds => Some("second"),
        MetricUnit::Bytes => Some("byte"),
        MetricUnit::Dollars => Some("dollar"),
        _ => None,
    }
}
