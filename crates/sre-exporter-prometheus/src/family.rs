use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use sre_core::{ExponentialHistogram, MetricUnit, MetricValue};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

impl Kind {
    /// Returns the kind of a metric's value; `None` if it is unknown.
    pub(crate) const fn of(value: &MetricValue) -> Option<Self> {
        match value {
            MetricValue::Gauge(_) => Some(Self::Gauge),
            MetricValue::Counter(_) => Some(Self::Counter),
            MetricValue::Histogram(_) => Some(Self::Histogram),
            _ => None,
        }
    }

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
        self.render_header(text);
        self.render_samples(text);
    }

    /// Writes the family in OpenMetrics.
    pub(crate) fn render_openmetrics(&self, text: &mut String) {
        self.render_openmetrics_header(text);
        self.render_samples(text);
    }

    pub(crate) fn render_header(&self, text: &mut String) {
        let Self { name, kind, .. } = self;
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }

    pub(crate) fn render_openmetrics_header(&self, text: &mut String) {
        let name = if self.kind == Kind::Counter { base(&self.name) } else { &self.name };
        let _ = writeln!(text, "# TYPE {name} {}", self.kind.as_str());
        // OpenMetrics requires the unit at the very end of the name.
        if let Some(unit) = self.unit.filter(|unit| name.ends_with(unit)) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        let _ = writeln!(text, "# HELP {name} {help}");
    }

    fn render_samples(&self, text: &mut String) {
        for (labels, sample) in &self.samples {
            match &sample.value {
                Value::Number(value) => render_number(text, &self.name, labels, *value),
                Value::Histogram(histogram) => render_histogram(text, &self.name, labels, histogram),
            }
        }
    }
}

/// Writes the sample of a gauge or counter.
pub(crate) fn render_number(text: &mut String, name: &str, labels: &str, value: f64) {
    text.push_str(name);
    if !labels.is_empty() {
        text.push('{');
        text.push_str(labels);
        text.push('}');
    }
    text.push(' ');
    push_number(text, value);
    text.push('\n');
}

/// Writes the samples of a histogram.
pub(crate) fn render_histogram(text: &mut String, name: &str, labels: &str, histogram: &ExponentialHistogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    let bucket = format!("{name}_bucket");
    let mut below = histogram.zero_count;
    for (index, count) in (histogram.offset..).zip(&histogram.buckets) {
        below += count;
        let mut bound = String::new();
        push_number(&mut bound, histogram.upper_bound(index));
        render_number(text, &bucket, &format!("{labels}{comma}le=\"{bound}\""), below as f64);
    }
    render_number(text, &bucket, &format!("{labels}{comma}le=\"+Inf\""), histogram.count as f64);
    render_number(text, &format!("{name}_sum"), labels, histogram.sum);
    render_number(text, &format!("{name}_count"), labels, histogram.count as f64);
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

fn push_number(text: &mut String, value: f64) {
    /// Up to here, every whole number has a value of its own.
    const EXACT: f64 = (1_u64 << 53) as f64;
    match value {
        value if value.is_nan() => text.push_str("NaN"),
        value if value.is_infinite() => text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
        // Most values are counts.
        value if value.fract() == 0.0 && value.abs() < EXACT && !(value == 0.0 && value.is_sign_negative()) => {
            text.push_str(itoa::Buffer::new().format(value as i64));
        }
        value => text.push_str(zmij::Buffer::new().format_finite(value)),
    }
}
