use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;
use smallvec::SmallVec;
use sre_core::{Collect, Metric, MetricUnit, MetricValue, Timestamp};

use crate::exporter::MAX_BUCKETS;
use crate::family::{Family, Kind, base, render_histogram, render_number};
use crate::labels::render_into;
use crate::{InvalidMetric, PrometheusExporter};

/// The text format of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextFormat {
    /// Prometheus' text exposition format 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// Returns the value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Renders the metrics of one scrape while they are collected, in chunks: for many series it takes a fraction of the time and memory of a
/// [`PrometheusExporter`], which keeps values.
///
/// ```
/// use sre_core::{Collect, Metric, Timestamp};
/// use sre_exporter_prometheus::{Scrape, TextFormat};
///
/// struct Queue;
///
/// impl Collect for Queue {
///     fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
///         emit(Metric::gauge("queue.length", 3.0).with_help("Waiting items."));
///     }
/// }
///
/// let mut scrape = Scrape::new(TextFormat::Prometheus);
/// scrape.collect(&Queue, Timestamp::default()).unwrap();
/// let text = scrape.into_chunks().collect::<String>();
/// assert_eq!(text, "# HELP queue_length Waiting items.\n# TYPE queue_length gauge\nqueue_length 3\n");
/// ```
#[derive(Debug, Default)]
pub struct Scrape {
    format: TextFormat,
    /// Names of metrics to render; if empty, all.
    only: HashSet<String>,
    /// Every family so far, without samples: it checks that names and types fit together.
    registry: PrometheusExporter,
    /// By dotted name, whose metrics usually have one kind and unit.
    by_name: HashMap<String, SmallVec<[KnownFamily; 1]>, BuildHasherDefault<FxHasher>>,
    families: Vec<FamilyText>,
    labels: String,
}

/// What a family is found by without rendering its name.
#[derive(Clone, Copy, Debug)]
struct KnownFamily {
    kind: Kind,
    unit: MetricUnit,
    /// Its place in `families`; `None` if it is not selected.
    number: Option<usize>,
}

/// The rendered samples of a family.
#[derive(Debug)]
struct FamilyText {
    name: Arc<str>,
    chunks: Vec<String>,
    /// Digests of the labels of all samples. They are compared once all are there: to look up each in a set takes longer than
    /// to render the sample.
    digests: Vec<u64>,
}

/// Size of a chunk, in bytes; some are a little larger.
const CHUNK: usize = 64 << 10;

impl Scrape {
    /// Creates a scrape without metrics.
    pub fn new(format: TextFormat) -> Self {
        Self { format, ..Self::default() }
    }

    /// Renders only the metrics with these names, as in the text format; if there are none, all. The name of a sample, such as that of a
    /// histogram's buckets, selects the whole metric.
    #[must_use]
    pub fn only(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.only = names.into_iter().collect();
        self
    }

    /// Renders every metric of `source` at `now`. An array of sources is a source, too.
    ///
    /// # Errors
    ///
    /// Returns the error of the first invalid metric, or of a series with two values; the others are rendered.
    pub fn collect(&mut self, source: &dyn Collect, now: Timestamp) -> Result<(), InvalidMetric> {
        let mut outcome = Ok(());
        source.metrics(now, &mut |metric| {
            let rendered = self.render(&metric);
            if outcome.is_ok() {
                outcome = rendered;
            }
        });
        self.families.iter_mut().fold(outcome, |outcome, family| outcome.and(family.keep_first_values()))
    }

    /// Returns the text in chunks of about 64 KiB.
    pub fn into_chunks(self) -> impl Iterator<Item = String> + Send {
        let Self { format, registry, families, .. } = self;
        let mut families: BTreeMap<_, _> = families.into_iter().map(|family| (family.name, family.chunks)).collect();
        let chunks = registry.into_families().flat_map(move |family| {
            let samples = families.remove(&*family.name).unwrap_or_default();
            let header = (!samples.is_empty()).then(|| header(&family, format));
            header.into_iter().chain(samples)
        });
        let end = (format == TextFormat::OpenMetrics).then(|| "# EOF\n".to_owned());
        Joined { chunks: chunks.chain(end), next: None }
    }

    fn render(&mut self, metric: &Metric<'_>) -> Result<(), InvalidMetric> {
        let Some(number) = self.family_of(metric)? else { return Ok(()) };
        let family = &mut self.families[number];
        self.labels.clear();
        let labels = metric.labels.iter().map(|(name, value)| (&**name, &**value));
        render_into(&mut self.labels, &family.name, labels)?;
        let mut hasher = FxHasher::default();
        self.labels.hash(&mut hasher);
        family.digests.push(hasher.finish());
        let FamilyText { name, chunks, .. } = family;
        let text = room(chunks);
        match &metric.value {
            MetricValue::Gauge(value) | MetricValue::Counter(value) => render_number(text, name, &self.labels, *value),
            MetricValue::Histogram(histogram) => {
                let histogram = histogram.clone().with_at_most(MAX_BUCKETS);
                render_histogram(text, name, &self.labels, &histogram);
            }
            // `family_of` has refused it.
            _ => {}
        }
        Ok(())
    }

    /// Returns the number of a metric's family; `None` if it is not selected.
    fn family_of(&mut self, metric: &Metric<'_>) -> Result<Option<usize>, InvalidMetric> {
        let kind = match &metric.value {
            MetricValue::Gauge(_) => Kind::Gauge,
            MetricValue::Counter(_) => Kind::Counter,
            MetricValue::Histogram(_) => Kind::Histogram,
            _ => return self.registry.record(metric).map(|()| None),
        };
        let unit = metric.unit;
        let mut of_name = self.by_name.get(&*metric.name).into_iter().flatten();
        if let Some(known) = of_name.find(|known| (known.kind, known.unit) == (kind, unit)) {
            return Ok(known.number);
        }
        let name = metric.prometheus_name();
        if kind == Kind::Histogram && metric.labels.iter().any(|(label, _)| label == "le") {
            return Err(InvalidMetric::new(&name, "the label `le`", "another name: `le` is the label of its buckets"));
        }
        let name = self.registry.family(&name, kind, metric.unit.prometheus_suffix(), &metric.help)?.name.clone();
        // Two dotted names may be one in this format.
        let known = self.families.iter().position(|family| family.name == name);
        let number = self.is_selected(&name, kind).then(|| {
            known.unwrap_or_else(|| {
                self.families.push(FamilyText { name, chunks: Vec::new(), digests: Vec::new() });
                self.families.len() - 1
            })
        });
        self.by_name.entry(metric.name.to_string()).or_default().push(KnownFamily { kind, unit, number });
        Ok(number)
    }

    fn is_selected(&self, name: &str, kind: Kind) -> bool {
        let parts: &[&str] = if kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[] };
        self.only.is_empty()
            || self.only.contains(name)
            || self.only.contains(base(name))
            || parts.iter().any(|part| self.only.contains(&format!("{name}{part}")))
    }
}

impl FamilyText {
    /// Removes all values of a series but the first; an error if there was one.
    fn keep_first_values(&mut self) -> Result<(), InvalidMetric> {
        self.digests.sort_unstable();
        if self.digests.windows(2).all(|pair| pair[0] != pair[1]) {
            return Ok(());
        }
        let mut series: HashSet<String> = HashSet::new();
        let mut outcome = Ok(());
        for chunk in &mut self.chunks {
            let keeps = |line: &&str| {
                let labelled = line.rsplit_once(' ').map_or(*line, |(labelled, _)| labelled);
                let is_first = series.insert(labelled.to_owned());
                if !is_first && outcome.is_ok() {
                    let labels = labelled.strip_prefix(&*self.name).unwrap_or(labelled);
                    let labels = if labels.is_empty() { "{}" } else { labels };
                    let found = format!("two values of the series {labels}");
                    outcome = Err(InvalidMetric::new(&self.name, found, "labels that tell them apart"));
                }
                is_first
            };
            *chunk = chunk.split_inclusive('\n').filter(keeps).collect();
        }
        outcome
    }
}

/// Returns the chunk for the next sample.
fn room(chunks: &mut Vec<String>) -> &mut String {
    if chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
        // Most metrics have a few samples.
        let capacity = if chunks.is_empty() { 0 } else { CHUNK + CHUNK / 8 };
        chunks.push(String::with_capacity(capacity));
    }
    chunks.last_mut().expect("pushed above if missing")
}

fn header(family: &Family, format: TextFormat) -> String {
    let mut text = String::new();
    match format {
        TextFormat::Prometheus => family.render_header(&mut text),
        TextFormat::OpenMetrics => family.render_openmetrics_header(&mut text),
    }
    text
}

/// Joins small chunks.
struct Joined<I> {
    chunks: I,
    next: Option<String>,
}

impl<I: Iterator<Item = String>> Iterator for Joined<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut joined = self.next.take().or_else(|| self.chunks.next())?;
        for chunk in self.chunks.by_ref() {
            if joined.len() + chunk.len() > CHUNK {
                self.next = Some(chunk);
                break;
            }
            joined.push_str(&chunk);
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sre_core::ExponentialHistogram;

    use super::*;

    /// Emits metrics.
    struct Fixed(Vec<Metric<'static>>);

    impl Collect for Fixed {
        fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
            self.0.iter().cloned().for_each(emit);
        }
    }

    fn scraped(metrics: &[Metric<'static>], format: TextFormat, only: &[&str]) -> String {
        let mut scrape = Scrape::new(format).only(only.iter().map(|name| (*name).to_owned()));
        scrape.collect(&Fixed(metrics.to_vec()), Timestamp::default()).unwrap();
        scrape.into_chunks().collect()
    }

    fn metrics(series: usize) -> Vec<Metric<'static>> {
        let mut histogram = ExponentialHistogram::new(0);
        [0.0, 1.0, 1.5, 4.0].into_iter().for_each(|value| histogram.record(value));
        // In the order of their labels, as an exporter renders them.
        let of = |number: usize| format!("agent \"{number:06}\"\n");
        let mut metrics = vec![
            Metric::histogram("sre.latency", histogram)
                .with_unit(MetricUnit::Seconds)
                .with_label("z", "1")
                .with_label("a", "2"),
            Metric::counter("sre.tasks", 7.0).with_help("Tasks\\."),
            Metric::gauge("sre.rate", f64::INFINITY).with_label("empty", ""),
        ];
        for number in 0..series {
            metrics.push(Metric::gauge("sre.share", 1.0 / (number as f64 + 3.0)).with_label("agent", of(number)));
            metrics.push(Metric::gauge("sre.count", number as f64 - 5.0).with_label("agent", of(number)));
        }
        metrics
    }

    #[test]
    fn the_text_is_that_of_an_exporter_in_small_chunks() {
        let metrics = metrics(5_000);
        let mut exporter = PrometheusExporter::new();
        exporter.collect(&Fixed(metrics.clone()), Timestamp::default()).unwrap();
        assert!(scraped(&metrics, TextFormat::Prometheus, &[]) == exporter.render());
        assert!(scraped(&metrics, TextFormat::OpenMetrics, &[]) == exporter.render_openmetrics());
        let mut scrape = Scrape::new(TextFormat::Prometheus);
        scrape.collect(&Fixed(metrics), Timestamp::default()).unwrap();
        let sizes: Vec<usize> = scrape.into_chunks().map(|chunk| chunk.len()).collect();
        assert!(sizes.len() > 5 && sizes.iter().all(|size| *size < 2 * CHUNK), "{sizes:?}");
    }

    #[test]
    fn names_select_metrics() {
        let metrics = metrics(1);
        for (only, expected) in [
            (&["sre_tasks_total"][..], &["sre_tasks_total"][..]),
            (&["sre_tasks"], &["sre_tasks_total"]),
            (&["sre_latency_seconds_bucket", "sre_rate"], &["sre_latency_seconds", "sre_rate"]),
            (&["nothing"], &[]),
        ] {
            let text = scraped(&metrics, TextFormat::Prometheus, only);
            let found: Vec<_> =
                text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
            assert_eq!(found, expected, "{only:?}");
        }
        assert_eq!(scraped(&metrics, TextFormat::OpenMetrics, &["nothing"]), "# EOF\n");
    }

    #[test]
    fn invalid_metrics_are_errors_and_the_others_are_rendered() {
        for (invalid, expected) in [
            (
                Metric::gauge("ok", 2.0),
                "metric `ok`: found two values of the series {}, expected labels that tell them apart",
            ),
            (
                Metric::gauge("ok.labelled", 2.0).with_label("b", "2").with_label("a", "1"),
                "metric `ok_labelled`: found two values of the series {a=\"1\",b=\"2\"}, expected labels that tell them apart",
            ),
            (
                Metric::counter("ok", 2.0),
                "metric `ok_total`: found a counter beside the gauge `ok`, expected a name that no sample of the other has",
            ),
            (
                Metric::gauge("1st", 2.0),
                "metric `1st`: found an invalid name, expected letters, digits, `_` and `:`, not starting with a digit",
            ),
            (
                Metric::gauge("other", 2.0).with_label("1", "x"),
                "metric `other`: found the label `1`, expected letters, digits and `_`, not starting with a digit or `__`",
            ),
        ] {
            let valid =
                [Metric::gauge("ok", 1.0), Metric::gauge("ok.labelled", 1.0).with_label("a", "1").with_label("b", "2")];
            let after = Metric::gauge("after", 1.0);
            let source = Fixed(valid.into_iter().chain([invalid, after]).collect());
            let mut scrape = Scrape::new(TextFormat::Prometheus);
            assert_eq!(scrape.collect(&source, Timestamp::default()).unwrap_err().to_string(), expected);
            let text: String = scrape.into_chunks().collect();
            let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(samples, ["after 1", "ok 1", "ok_labelled{a=\"1\",b=\"2\"} 1"]);
        }
    }

    proptest! {
        #[test]
        fn any_number_is_rendered_as_by_an_exporter(value in any::<f64>()) {
            let metric = Metric::gauge("m", value);
            let mut exporter = PrometheusExporter::new();
            exporter.record(&metric).unwrap();
            prop_assert_eq!(scraped(&[metric], TextFormat::Prometheus, &[]), exporter.render());
        }
    }
}
