use serde::Serialize;
use sre_core::{ExponentialHistogram, Metric, MetricUnit, MetricValue, Timestamp};

use crate::histogram::{quantile, subtract};
use crate::names::{Tags, push_metric};
use crate::origin::{HostResource, Origin};
use crate::settings::InitialCounts;
use crate::totals::Totals;

/// A series with one point, as `/api/v2/series` accepts it.
///
/// Source: <https://docs.datadoghq.com/api/latest/metrics/#submit-metrics>.
#[derive(Serialize)]
struct Series<'a> {
    metric: &'a str,
    r#type: u8,
    points: [Point; 1],
    tags: &'a Tags,
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

/// Converts metrics to series. The texts of one series are written over those of the one before, and what is remembered of a
/// series is changed in place, so that a batch of the same series as the last one allocates nothing for them.
#[derive(Debug)]
pub(crate) struct SeriesWriter {
    counters: Totals<f64>,
    histograms: Totals<ExponentialHistogram>,
    name: String,
    tags: Tags,
    /// The values of a histogram since the last batch.
    recorded: ExponentialHistogram,
}

/// The series of a batch: the body of its request.
pub(crate) struct SeriesBatch<'a> {
    writer: &'a mut SeriesWriter,
    origin: &'a Origin,
    at: Timestamp,
    interval: u64,
    body: Vec<u8>,
}

/// The size that most series stay below, in bytes.
const TYPICAL_SERIES: usize = 256;
const BEGIN: &[u8] = br#"{"series":["#;

impl SeriesWriter {
    pub(crate) fn new(initial: InitialCounts) -> Self {
        Self {
            counters: Totals::new(initial),
            histograms: Totals::new(initial),
            name: String::new(),
            tags: Tags::default(),
            recorded: ExponentialHistogram::default(),
        }
    }

    /// Begins a batch of about `expected` metrics.
    pub(crate) fn batch<'a>(
        &'a mut self,
        origin: &'a Origin,
        at: Timestamp,
        interval: u64,
        expected: usize,
    ) -> SeriesBatch<'a> {
        self.counters.begin();
        self.histograms.begin();
        let mut body = Vec::with_capacity(BEGIN.len() + expected * TYPICAL_SERIES);
        body.extend_from_slice(BEGIN);
        SeriesBatch { writer: self, origin, at, interval, body }
    }

    /// Remembers the totals of the last batch, once Datadog has accepted its series.
    pub(crate) fn accept(&mut self, at: Timestamp) {
        self.counters.accept(at);
        self.histograms.accept(at);
    }
}

impl SeriesBatch<'_> {
    /// Adds a metric. Returns false if it has no value in Datadog: NaN, or infinite.
    pub(crate) fn add(&mut self, metric: &Metric<'_>) -> Result<bool, serde_json::Error> {
        let SeriesWriter { counters, histograms, name, tags, recorded } = &mut *self.writer;
        name.clear();
        push_metric(name, &metric.name);
        tags.clear();
        metric.labels.iter().for_each(|(key, value)| tags.push(key, value));
        self.origin.tags.iter().for_each(|tag| tags.push_stored(tag));
        let unit = unit(metric.unit);
        match &metric.value {
            MetricValue::Gauge(value) if value.is_finite() => self.push(GAUGE, *value, unit)?,
            MetricValue::Counter(total) if total.is_finite() => {
                let before = counters.stage(name, tags.as_str(), total, self.at);
                // Less than before is a counter that restarted.
                let change = if total < before { *total } else { total - before };
                self.push(COUNT, change, unit)?;
            }
            MetricValue::Histogram(total) if total.sum.is_finite() => {
                recorded.clone_from(total);
                subtract(recorded, histograms.stage(name, tags.as_str(), total, self.at));
                self.push_histogram(unit)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the body of the request; `None` without series.
    pub(crate) fn into_body(mut self) -> Option<Vec<u8>> {
        if self.body.len() == BEGIN.len() {
            return None;
        }
        self.body.extend_from_slice(b"]}");
        Some(self.body)
    }

    /// Source of the names: <https://docs.datadoghq.com/metrics/types/?tab=histogram>.
    fn push_histogram(&mut self, unit: Option<&'static str>) -> Result<(), serde_json::Error> {
        let values = &self.writer.recorded;
        let (count, sum) = (values.count as f64, values.sum);
        let average = (values.count > 0).then(|| sum / count);
        let quantiles = [0.5, 0.95, 0.99].map(|ratio| quantile(values, ratio));
        for (suffix, kind, value, unit) in [
            (".count", COUNT, Some(count), None),
            (".sum", COUNT, Some(sum), unit),
            (".avg", GAUGE, average, unit),
            (".median", GAUGE, quantiles[0], unit),
            (".95percentile", GAUGE, quantiles[1], unit),
            (".99percentile", GAUGE, quantiles[2], unit),
        ] {
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let length = self.writer.name.len();
            self.writer.name.push_str(suffix);
            self.push(kind, value, unit)?;
            self.writer.name.truncate(length);
        }
        Ok(())
    }

    /// Writes the series of the current name and tags.
    fn push(&mut self, kind: u8, value: f64, unit: Option<&'static str>) -> Result<(), serde_json::Error> {
        if self.body.len() > BEGIN.len() {
            self.body.push(b',');
        }
        let series = Series {
            metric: &self.writer.name,
            r#type: kind,
            points: [Point { timestamp: self.at.as_secs(), value }],
            tags: &self.writer.tags,
            interval: (kind == COUNT).then_some(self.interval),
            unit,
            resources: self.origin.resources(),
        };
        serde_json::to_writer(&mut self.body, &series)
    }
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
