use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use sre_core::{ExponentialHistogram, MetricUnit};

/// All series of a name.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    help: String,
    unit: Option<&'static str>,
    /// By rendered labels, for a stable order.
    pub(crate) samples: BTreeMap<Arc<str>, Sample>,
}

/// The value of a series.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) value: Value,
    /// The report that set it, or 0 if it was set by hand.
    pub(crate) report: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(f64),
    Histogram(ExponentialHistogram),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Family {
    /// Creates a family without series. Without a `unit`, it is the one at the end of the name.
    pub(crate) fn new(name: &str, kind: Kind, unit: Option<&'static str>, help: &str) -> Self {
        let unit = unit.or_else(|| unit_of(name));
        Self { name: name.into(), kind, help: help.to_owned(), unit, samples: BTreeMap::new() }
    }

    /// Writes the family in the text exposition format.
    pub(crate) fn render(&self, text: &mut String) {
        let Self { name, kind, .. } = self;
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        self.render_samples(text);
    }

    /// Writes the family in OpenMetrics.
    pub(crate) fn render_openmetrics(&self, text: &mut String) {
        let name = if self.kind == Kind::Counter { base(&self.name) } else { &self.name };
        let _ = writeln!(text, "# TYPE {name} {}", self.kind.as_str());
        // OpenMetrics requires the unit at the very end of the name.
        if let Some(unit) = self.unit.filter(|unit| name.ends_with(unit)) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        let _ = writeln!(text, "# HELP {name} {help}");
        self.render_samples(text);
    }

    fn render_samples(&self, text: &mut String) {
        let name = &self.name;
        for (labels, sample) in &self.samples {
            match &sample.value {
                Value::Number(value) => line(text, name, labels, *value),
                Value::Histogram(histogram) => {
                    let comma = if labels.is_empty() { "" } else { "," };
                    let bucket = format!("{name}_bucket");
                    let mut below = histogram.zero_count;
                    for (index, count) in (histogram.offset..).zip(&histogram.buckets) {
                        below += count;
                        let bound = number(histogram.upper_bound(index));
                        line(text, &bucket, &format!("{labels}{comma}le=\"{bound}\""), below as f64);
                    }
                    line(text, &bucket, &format!("{labels}{comma}le=\"+Inf\""), histogram.count as f64);
                    line(text, &format!("{name}_sum"), labels, histogram.sum);
                    line(text, &format!("{name}_count"), labels, histogram.count as f64);
                }
            }
        }
    }
}

/// Returns a name without `_total`, as OpenMetrics has that of a counter.
pub(crate) fn base(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// Returns the unit at the end of a name.
fn unit_of(name: &str) -> Option<&'static str> {
    let base = base(name);
    let units = [MetricUnit::Seconds, MetricUnit::Ratio, MetricUnit::Dollars, MetricUnit::Bytes];
    let mut endings = units.into_iter().filter_map(MetricUnit::prometheus_suffix);
    endings.find(|unit| base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let value = number(value);
    let _ =
        if labels.is_empty() { writeln!(text, "{name} {value}") } else { writeln!(text, "{name}{{{labels}}} {value}") };
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        value => value.to_string(),
    }
}
