use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sre_core::{Collect, Metric, MetricValue, SloSnapshot, Timestamp};

use crate::InvalidMetric;
use crate::family::{Family, Kind, Sample, Value, base};
use crate::labels::{is_name, render};

/// Collects metrics and renders them for a scrape.
///
/// What is set by hand stays. What [`export_slo`](Self::export_slo) and [`collect`](Self::collect) set is replaced by the next
/// report of the same source, so that a value that no longer exists is no longer served.
#[derive(Clone, Debug, Default)]
pub struct PrometheusExporter {
    families: BTreeMap<Arc<str>, Family>,
    last_reports: HashMap<Source, Report>,
    reports: u64,
}

/// What reports series, and replaces all of them with its next report.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    Objective { slo: String, agent: String },
    Collection,
}

/// The series that a source reported.
#[derive(Clone, Debug)]
struct Report {
    number: u64,
    series: Vec<Series>,
}

/// The name and the rendered labels of a series.
#[derive(Clone, Debug)]
struct Series {
    name: Arc<str>,
    labels: Arc<str>,
}

/// The report of what is set by hand.
const BY_HAND: u64 = 0;
/// Maximum number of buckets of a rendered histogram.
pub(crate) const MAX_BUCKETS: usize = 16;

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
        let labels = render(name, labels.iter().copied())?.into();
        let family = self.family(name, Kind::Gauge, None, help)?;
        family.samples.insert(labels, Sample { value: Value::Number(value), report: BY_HAND });
        Ok(())
    }

    /// Increases a counter by `value`, which is at least 0. Its name must end in `_total`.
    pub fn inc_counter(
        &mut self,
        name: &str,
        value: f64,
        labels: &[(&str, &str)],
        help: &str,
    ) -> Result<(), InvalidMetric> {
        if !name.ends_with("_total") {
            return Err(InvalidMetric::new(name, "a counter of this name", "a name that ends in `_total`"));
        }
        if !(0.0..f64::INFINITY).contains(&value) {
            return Err(InvalidMetric::new(name, format!("an increase of {value}"), "a number of at least 0"));
        }
        let labels = render(name, labels.iter().copied())?.into();
        let family = self.family(name, Kind::Counter, None, help)?;
        let sample = family.samples.entry(labels).or_insert(Sample { value: Value::Number(0.0), report: BY_HAND });
        match &mut sample.value {
            Value::Number(sum) => *sum += value,
            Value::Histogram(_) => unreachable!("a family has one kind"),
        }
        Ok(())
    }

    /// Sets a metric to its value, under its name in Prometheus' style.
    pub fn record(&mut self, metric: &Metric<'_>) -> Result<(), InvalidMetric> {
        self.set(metric, BY_HAND).map(drop)
    }

    /// Sets every metric of `source` at `now`, in place of what was collected before: metrics that `source` no longer has
    /// disappear. An array of sources is a source, too.
    ///
    /// # Errors
    ///
    /// Returns the error of the first invalid metric; the others are set.
    pub fn collect(&mut self, source: &dyn Collect, now: Timestamp) -> Result<(), InvalidMetric> {
        self.replace(Source::Collection, |emit| source.metrics(now, emit))
    }

    /// Sets the metrics of an objective, in place of those it had when it was exported before: a value that it no longer has,
    /// such as the burn rate of a window without events, disappears.
    pub fn export_slo(&mut self, slo: &SloSnapshot) {
        let source = Source::Objective { slo: slo.name.clone(), agent: slo.agent.clone() };
        let outcome = self.replace(source, |emit| slo.metrics(emit));
        debug_assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// Removes every metric.
    pub fn clear(&mut self) {
        self.families.clear();
        self.last_reports.clear();
    }

    /// Renders all metrics in Prometheus' text exposition format 0.0.4 (`text/plain; version=0.0.4`).
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.families.values().for_each(|family| family.render(&mut text));
        text
    }

    /// Renders all metrics in OpenMetrics 1.0 (`application/openmetrics-text; version=1.0.0`).
    pub fn render_openmetrics(&self) -> String {
        let mut text = String::new();
        self.families.values().for_each(|family| family.render_openmetrics(&mut text));
        text.push_str("# EOF\n");
        text
    }

    /// Replaces what `source` reported last by what `emit_all` emits. Returns the first error; the other metrics are set.
    fn replace(
        &mut self,
        source: Source,
        emit_all: impl FnOnce(&mut dyn FnMut(Metric<'_>)),
    ) -> Result<(), InvalidMetric> {
        if let Some(last) = self.last_reports.remove(&source) {
            last.series.iter().for_each(|series| self.remove(series, last.number));
        }
        self.reports += 1;
        let (mut report, mut outcome) = (Report { number: self.reports, series: Vec::new() }, Ok(()));
        emit_all(&mut |metric| match self.set(&metric, report.number) {
            Ok(series) => report.series.push(series),
            Err(error) if outcome.is_ok() => outcome = Err(error),
            Err(_) => {}
        });
        self.last_reports.insert(source, report);
        outcome
    }

    /// Removes a series, unless something else has set it since.
    fn remove(&mut self, series: &Series, report: u64) {
        let Some(family) = self.families.get_mut(&series.name) else { return };
        if family.samples.get(&series.labels).is_some_and(|sample| sample.report == report) {
            family.samples.remove(&series.labels);
        }
        if family.samples.is_empty() {
            self.families.remove(&series.name);
        }
    }

    fn set(&mut self, metric: &Metric<'_>, report: u64) -> Result<Series, InvalidMetric> {
        let name = metric.prometheus_name();
        let (kind, value) = match &metric.value {
            MetricValue::Gauge(value) => (Kind::Gauge, Value::Number(*value)),
            MetricValue::Counter(value) => (Kind::Counter, Value::Number(*value)),
            MetricValue::Histogram(histogram) => {
                (Kind::Histogram, Value::Histogram(histogram.clone().with_at_most(MAX_BUCKETS)))
            }
            _ => return Err(InvalidMetric::new(&name, "a value of an unknown kind", "a gauge, counter or histogram")),
        };
        if kind == Kind::Histogram && metric.labels.iter().any(|(label, _)| label == "le") {
            return Err(InvalidMetric::new(&name, "the label `le`", "another name: `le` is the label of its buckets"));
        }
        let labels: Arc<str> = render(&name, metric.labels.iter().map(|(name, value)| (&**name, &**value)))?.into();
        let family = self.family(&name, kind, metric.unit.prometheus_suffix(), &metric.help)?;
        let earlier = family.samples.insert(labels.clone(), Sample { value, report });
        if report != BY_HAND && earlier.is_some_and(|earlier| earlier.report == report) {
            let found = format!("two values of the series {{{labels}}}");
            return Err(InvalidMetric::new(&name, found, "labels that distinguish them"));
        }
        Ok(Series { name: family.name.clone(), labels })
    }

    /// Returns the family of a name, which is created if it fits the others.
    pub(crate) fn family(
        &mut self,
        name: &str,
        kind: Kind,
        unit: Option<&'static str>,
        help: &str,
    ) -> Result<&mut Family, InvalidMetric> {
        if !self.families.contains_key(name) {
            if !is_name(name, true) {
                let expected = "letters, digits, `_` and `:`, not starting with a digit";
                return Err(InvalidMetric::new(name, "an invalid name", expected));
            }
            if let Some(other) = self.clashing(name, kind) {
                let found = format!("a {} beside the {} `{}`", kind.as_str(), other.kind.as_str(), other.name);
                return Err(InvalidMetric::new(name, found, "a name that no sample of the other has"));
            }
            let family = Family::new(name, kind, unit, help);
            self.families.insert(family.name.clone(), family);
        }
        let family = self.families.get_mut(name).expect("inserted above if missing");
        if family.kind != kind {
            return Err(InvalidMetric::new(name, format!("a {}", kind.as_str()), "its earlier type"));
        }
        Ok(family)
    }

    /// Returns a family with a sample, or with a name in OpenMetrics, that a new family would have too.
    fn clashing(&self, name: &str, kind: Kind) -> Option<&Family> {
        const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
        let of_kind = |name: &str, kind| self.families.get(name).filter(|family| family.kind == kind);
        let histogram = || PARTS.iter().find_map(|part| of_kind(name.strip_suffix(part)?, Kind::Histogram));
        let counter = || of_kind(&format!("{name}_total"), Kind::Counter);
        let part = || PARTS.iter().find_map(|part| self.families.get(&*format!("{name}{part}")));
        match kind {
            Kind::Gauge => histogram().or_else(counter),
            Kind::Counter => self.families.get(base(name)),
            Kind::Histogram => part().or_else(counter).or_else(histogram),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sre_core::{ExponentialHistogram, MetricUnit};

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
        let error = exporter.set_gauge("m", 1.0, &[("a", "x"), ("b", ""), ("a", "y")], "").unwrap_err();
        assert_eq!(error.to_string(), "metric `m`: found two labels `a`, expected unique label names");
        let histogram = Metric::histogram("h", ExponentialHistogram::new(0)).with_label("le", "1");
        assert!(exporter.record(&histogram).is_err(), "its buckets have this label");
    }

    #[test]
    fn an_empty_label_is_an_absent_one() {
        let mut exporter = PrometheusExporter::new();
        exporter.set_gauge("m", 1.0, &[("a", "")], "").unwrap();
        exporter.set_gauge("m", 2.0, &[], "").unwrap();
        assert!(exporter.render().ends_with("# TYPE m gauge\nm 2\n"));
    }

    #[test]
    fn names_that_clash_in_a_format_are_refused() {
        let histogram = |name: &'static str| Metric::histogram(name, ExponentialHistogram::new(0));
        let gauge = |name: &'static str| Metric::gauge(name, 1.0);
        let counter = |name: &'static str| Metric::counter(name, 1.0);
        for (one, other) in [
            (histogram("latency"), gauge("latency.count")),
            (histogram("latency"), gauge("latency.bucket")),
            (histogram("tasks"), counter("tasks")),
            (gauge("tasks"), counter("tasks")),
        ] {
            for (first, second) in [(&one, &other), (&other, &one)] {
                let mut exporter = PrometheusExporter::new();
                exporter.record(first).unwrap();
                assert!(exporter.record(second).is_err(), "{} and {}", first.name, second.name);
            }
        }
    }

    #[test]
    fn two_values_of_a_series_in_one_collection_are_an_error() {
        struct Twice;
        impl Collect for Twice {
            fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
                emit(Metric::gauge("m", 1.0).with_label("a", "x"));
                emit(Metric::gauge("m", 2.0).with_label("a", "x"));
            }
        }
        let mut exporter = PrometheusExporter::new();
        for _ in 0..2 {
            let error = exporter.collect(&Twice, Timestamp::default()).unwrap_err();
            let expected =
                "metric `m`: found two values of the series {a=\"x\"}, expected labels that distinguish them";
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(exporter.render().matches("m{").count(), 1);
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
