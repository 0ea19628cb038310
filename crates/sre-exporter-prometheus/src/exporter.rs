use std::collections::BTreeMap;
use std::fmt::Write;

use sre_core::{Collect, ExponentialHistogram, Metric, MetricUnit, MetricValue, SloSnapshot, Timestamp};

/// Collects metrics and renders them for a scrape.
#[derive(Clone, Debug, Default)]
pub struct PrometheusExporter {
    families: BTreeMap<String, Family>,
}

#[derive(Clone, Debug)]
struct Family {
    kind: Kind,
    help: String,
    unit: Option<&'static str>,
    /// By rendered labels, for a stable order.
    samples: BTreeMap<String, Sample>,
}

#[derive(Clone, Debug)]
enum Sample {
    Number(f64),
    Histogram(ExponentialHistogram),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric that Prometheus would reject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metric `{metric}`: found {found}, expected {expected}")]
pub struct InvalidMetric {
    metric: String,
    found: String,
    expected: &'static str,
}

/// Maximum number of buckets of a rendered histogram.
const MAX_BUCKETS: usize = 16;

impl PrometheusExporter {
    /// Creates an exporter without metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a gauge. `labels` distinguish it from others with its name; `help` is its help text.
    pub fn set_gauge(
        &mut self,
        name: &str,
        value: f64,
        labels: &[(&str, &str)],
        help: &str,
    ) -> Result<(), InvalidMetric> {
        self.set(name, Kind::Gauge, None, labels.iter().copied(), help, Sample::Number(value))
    }

    /// Increases a counter by `value`, which is at least 0. Its name must end in `_total`.
    pub fn inc_counter(
        &mut self,
        name: &str,
        value: f64,
        labels: &[(&str, &str)],
        help: &str,
    ) -> Result<(), InvalidMetric> {
        let invalid = |found: String, expected| Err(InvalidMetric { metric: name.to_owned(), found, expected });
        if !name.ends_with("_total") {
            return invalid("a counter of this name".to_owned(), "a name that ends in `_total`");
        }
        if !(0.0..f64::INFINITY).contains(&value) {
            return invalid(format!("an increase of {value}"), "a number of at least 0");
        }
        let key = render_labels(name, labels.iter().copied())?;
        let family = self.family(name, Kind::Counter, None, help)?;
        match family.samples.entry(key).or_insert(Sample::Number(0.0)) {
            Sample::Number(sum) => *sum += value,
            Sample::Histogram(_) => unreachable!("a family has one kind"),
        }
        Ok(())
    }

    /// Sets a metric to its value, under its name in Prometheus' style.
    pub fn record(&mut self, metric: &Metric<'_>) -> Result<(), InvalidMetric> {
        let name = metric.prometheus_name();
        let (kind, sample) = match &metric.value {
            MetricValue::Gauge(value) => (Kind::Gauge, Sample::Number(*value)),
            MetricValue::Counter(value) => (Kind::Counter, Sample::Number(*value)),
            MetricValue::Histogram(histogram) => {
                (Kind::Histogram, Sample::Histogram(histogram.clone().with_at_most(MAX_BUCKETS)))
            }
            _ => {
                let (found, expected) = ("a value of an unknown kind".to_owned(), "a gauge, counter or histogram");
                return Err(InvalidMetric { metric: name, found, expected });
            }
        };
        let labels = metric.labels.iter().map(|(name, value)| (&**name, &**value));
        self.set(&name, kind, metric.unit.prometheus_suffix(), labels, &metric.help, sample)
    }

    /// Sets every metric of `source` at `now`. Returns the error of the first invalid metric; the others are set.
    pub fn collect(&mut self, source: &dyn Collect, now: Timestamp) -> Result<(), InvalidMetric> {
        let mut outcome = Ok(());
        source.metrics(now, &mut |metric| {
            let recorded = self.record(&metric);
            if outcome.is_ok() {
                outcome = recorded;
            }
        });
        outcome
    }

    /// Sets the metrics of an objective.
    pub fn export_slo(&mut self, slo: &SloSnapshot) {
        slo.metrics(&mut |metric| {
            let recorded = self.record(&metric);
            debug_assert!(recorded.is_ok(), "{recorded:?}");
        });
    }

    /// Removes every metric.
    pub fn clear(&mut self) {
        self.families.clear();
    }

    /// Renders all metrics in Prometheus' text exposition format 0.0.4 (`text/plain; version=0.0.4`).
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", family.kind.as_str());
            family.render_samples(name, &mut text);
        }
        text
    }

    /// Renders all metrics in OpenMetrics 1.0 (`application/openmetrics-text; version=1.0.0`).
    pub fn render_openmetrics(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let base = if family.kind == Kind::Counter { name.trim_end_matches("_total") } else { name };
            let _ = writeln!(text, "# TYPE {base} {}", family.kind.as_str());
            // OpenMetrics requires the unit at the very end of the name.
            if let Some(unit) = family.unit.filter(|unit| base.ends_with(unit)) {
                let _ = writeln!(text, "# UNIT {base} {unit}");
            }
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
            let _ = writeln!(text, "# HELP {base} {help}");
            family.render_samples(name, &mut text);
        }
        text.push_str("# EOF\n");
        text
    }

    fn set<'a>(
        &mut self,
        name: &str,
        kind: Kind,
        unit: Option<&'static str>,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        help: &str,
        sample: Sample,
    ) -> Result<(), InvalidMetric> {
        let key = render_labels(name, labels)?;
        self.family(name, kind, unit, help)?.samples.insert(key, sample);
        Ok(())
    }

    fn family(
        &mut self,
        name: &str,
        kind: Kind,
        unit: Option<&'static str>,
        help: &str,
    ) -> Result<&mut Family, InvalidMetric> {
        let invalid =
            |found: &str, expected| InvalidMetric { metric: name.to_owned(), found: found.to_owned(), expected };
        if !self.families.contains_key(name) {
            if !is_name(name, true) {
                return Err(invalid("an invalid name", "letters, digits, `_` and `:`, not starting with a digit"));
            }
            let unit = unit.or_else(|| unit_of(name));
            let family = Family { kind, help: help.to_owned(), unit, samples: BTreeMap::new() };
            self.families.insert(name.to_owned(), family);
        }
        let family = self.families.get_mut(name).expect("inserted above if missing");
        if family.kind != kind {
            return Err(invalid(&format!("a {}", kind.as_str()), "its earlier type"));
        }
        Ok(family)
    }
}

/// Returns the unit at the end of a name.
fn unit_of(name: &str) -> Option<&'static str> {
    let base = name.trim_end_matches("_total");
    let units = [MetricUnit::Seconds, MetricUnit::Ratio, MetricUnit::Dollars, MetricUnit::Bytes];
    let mut endings = units.into_iter().filter_map(MetricUnit::prometheus_suffix);
    endings.find(|unit| base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

/// Renders labels as between braces, sorted by name, so that equal labels are the same series.
fn render_labels<'a>(metric: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String, InvalidMetric> {
    let invalid = |found, expected| InvalidMetric { metric: metric.to_owned(), found, expected };
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable_by_key(|(label, _)| *label);
    let mut rendered = String::new();
    for (place, (label, value)) in labels.iter().enumerate() {
        if !is_name(label, false) || label.starts_with("__") {
            let expected = "letters, digits and `_`, not starting with a digit or `__`";
            return Err(invalid(format!("the label `{label}`"), expected));
        }
        if place > 0 {
            if labels[place - 1].0 == *label {
                return Err(invalid(format!("two labels `{label}`"), "unique label names"));
            }
            rendered.push(',');
        }
        let _ = write!(rendered, "{label}=\"");
        for letter in value.chars() {
            match letter {
                '\\' => rendered.push_str("\\\\"),
                '"' => rendered.push_str("\\\""),
                '\n' => rendered.push_str("\\n"),
                letter => rendered.push(letter),
            }
        }
        rendered.push('"');
    }
    Ok(rendered)
}

impl Family {
    fn render_samples(&self, name: &str, text: &mut String) {
        for (labels, sample) in &self.samples {
            match sample {
                Sample::Number(value) => line(text, name, labels, *value),
                Sample::Histogram(histogram) => {
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

fn is_name(text: &str, colons: bool) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || (colons && letter == ':');
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with(|letter: char| letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_prometheus_would_not_take_is_refused() {
        let mut exporter = PrometheusExporter::new();
        for (name, label) in [("1st", "a"), ("a-b", "a"), ("", "a"), ("ok", "1"), ("ok", "__a"), ("ok", "a:b")] {
            assert!(exporter.set_gauge(name, 1.0, &[(label, "x")], "").is_err(), "{name} {label}");
        }
        assert!(exporter.inc_counter("tasks", 1.0, &[], "").is_err());
        assert!(exporter.inc_counter("tasks_total", -1.0, &[], "").is_err());
        exporter.inc_counter("tasks_total", 1.0, &[], "").unwrap();
        assert!(exporter.set_gauge("tasks_total", 1.0, &[], "").is_err(), "a counter stays one");
    }

    #[test]
    fn counters_add_up_and_openmetrics_names_them_without_their_ending() {
        let mut exporter = PrometheusExporter::new();
        exporter.inc_counter("cost_dollars_total", 1.5, &[("a", "x\"y\\z\n")], "Cost.").unwrap();
        exporter.inc_counter("cost_dollars_total", 1.0, &[("a", "x\"y\\z\n")], "Cost.").unwrap();
        exporter.set_gauge("rate", f64::INFINITY, &[], "").unwrap();
        let text = exporter.render();
        assert!(text.contains("# TYPE cost_dollars_total counter\ncost_dollars_total{a=\"x\\\"y\\\\z\\n\"} 2.5\n"));
        assert!(text.contains("rate +Inf\n"));
        let open = exporter.render_openmetrics();
        assert!(open.contains("# TYPE cost_dollars counter\n# UNIT cost_dollars dollars\n"));
        assert!(open.contains("\ncost_dollars_total{") && open.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_in_another_order_are_the_same_series_and_two_of_a_name_are_refused() {
        let mut exporter = PrometheusExporter::new();
        exporter.set_gauge("m", 1.0, &[("a", "x"), ("b", "y")], "").unwrap();
        exporter.set_gauge("m", 2.0, &[("b", "y"), ("a", "x")], "").unwrap();
        assert!(exporter.render().ends_with("# TYPE m gauge\nm{a=\"x\",b=\"y\"} 2\n"));
        assert!(exporter.set_gauge("m", 1.0, &[("a", "x"), ("a", "y")], "").is_err());
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_and_the_unit_at_its_end() {
        let mut histogram = ExponentialHistogram::new(0);
        [0.0, 1.0, 1.5, 4.0].into_iter().for_each(|value| histogram.record(value));
        let metric = Metric::histogram("sre.latency", histogram).with_unit(MetricUnit::Seconds).with_label("slo", "a");
        let mut exporter = PrometheusExporter::new();
        exporter.record(&metric).unwrap();
        let expected = "# HELP sre_latency_seconds \n# TYPE sre_latency_seconds histogram\n\
            sre_latency_seconds_bucket{slo=\"a\",le=\"1\"} 2\n\
            sre_latency_seconds_bucket{slo=\"a\",le=\"2\"} 3\n\
            sre_latency_seconds_bucket{slo=\"a\",le=\"4\"} 4\n\
            sre_latency_seconds_bucket{slo=\"a\",le=\"+Inf\"} 4\n\
            sre_latency_seconds_sum{slo=\"a\"} 6.5\nsre_latency_seconds_count{slo=\"a\"} 4\n";
        assert_eq!(exporter.render(), expected);
        assert!(
            exporter
                .render_openmetrics()
                .starts_with("# TYPE sre_latency_seconds histogram\n# UNIT sre_latency_seconds seconds\n")
        );
    }

    proptest! {
        #[test]
        fn every_sample_is_one_line_whatever_its_label(value in ".*") {
            let mut exporter = PrometheusExporter::new();
            exporter.set_gauge("m", 1.0, &[("l", &value)], &value).unwrap();
            prop_assert_eq!(exporter.render().matches('\n').count(), 3);
        }
    }
}
