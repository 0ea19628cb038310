use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use rustc_hash::{FxHashSet, FxHasher};
use smallvec::SmallVec;
use sre_core::{Collect, ExponentialHistogram, Metric, MetricUnit, MetricValue, Timestamp};

use crate::exporter::MAX_BUCKETS;
use crate::family::{Family, Kind, base, render_histogram, render_number};
use crate::series::{SeriesBlock, SeriesList};
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

/// Reads the metrics of scrapes. It keeps the rendered labels of all series, which hardly change from one scrape to the next.
///
/// For many series, it takes a fraction of the time and memory of a [`PrometheusExporter`].
///
/// ```
/// use sre_core::{Collect, Metric, Timestamp};
/// use sre_exporter_prometheus::{Rendering, Scraper, TextFormat};
///
/// struct Queue;
///
/// impl Collect for Queue {
///     fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
///         emit(Metric::gauge("queue.length", 3.0).with_help("Waiting items."));
///     }
/// }
///
/// let (scrape, outcome) = Scraper::default().scrape(&Queue, Timestamp::default());
/// assert_eq!(outcome, Ok(()));
/// let mut rendering = Rendering::new(TextFormat::Prometheus);
/// let text = rendering.next_chunk(&scrape).unwrap();
/// assert_eq!(text, "# HELP queue_length Waiting items.\n# TYPE queue_length gauge\nqueue_length 3\n");
/// assert_eq!(rendering.next_chunk(&scrape), None);
/// ```
#[derive(Debug, Default)]
pub struct Scraper {
    /// Every family so far, without samples: it checks that names and types fit together.
    registry: PrometheusExporter,
    /// By dotted name, whose metrics usually have one kind and unit.
    by_name: HashMap<String, SmallVec<[KnownFamily; 1]>>,
    families: Vec<ScrapedFamily>,
    /// The family of the last metric.
    last: usize,
}

type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FxHasher>>;

/// What a family is found by without rendering its name.
#[derive(Clone, Copy, Debug)]
struct KnownFamily {
    kind: Kind,
    unit: MetricUnit,
    /// Its place in `families`.
    number: usize,
}

/// The series of a family, and their values in the scrape that is being read.
#[derive(Debug)]
struct ScrapedFamily {
    family: Arc<Family>,
    /// The dotted name and the unit by which it was found first.
    dotted: String,
    unit: MetricUnit,
    /// The family of the metric that came after the last one of this: usually the next one, too.
    next: usize,
    series: SeriesList,
    values: Values,
}

/// The values of a family, in the order of its series.
#[derive(Debug)]
enum Values {
    Numbers(Vec<f64>),
    Histograms(Vec<ExponentialHistogram>),
}

/// The values of all series at one moment. It takes 8 bytes for each series, and shares their labels with other scrapes; a
/// [`Rendering`] makes the text of it.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Sorted by name.
    families: Vec<FamilyReadings>,
}

#[derive(Debug)]
struct FamilyReadings {
    family: Arc<Family>,
    blocks: Vec<Arc<SeriesBlock>>,
    /// Further values of a series, by their places.
    repeated: Arc<FxHashSet<usize>>,
    values: Values,
}

/// Renders a scrape, chunk by chunk.
#[derive(Debug, Default)]
pub struct Rendering {
    format: TextFormat,
    /// Names of metrics to render; if empty, all.
    only: HashSet<String>,
    /// The next family, and the next of its values.
    next: (usize, usize),
    is_complete: bool,
}

/// Size of a chunk, in bytes; most are a little larger.
const CHUNK: usize = 64 << 10;

impl Scraper {
    /// Reads every metric of `source` at `now`. An array of sources is a source, too.
    ///
    /// The outcome is the error of the first invalid metric, or of a series with two values; the scrape has the others.
    pub fn scrape(&mut self, source: &dyn Collect, now: Timestamp) -> (Scrape, Result<(), InvalidMetric>) {
        let mut outcome = Ok(());
        source.metrics(now, &mut |metric| {
            let read = self.read(metric);
            if outcome.is_ok() {
                outcome = read;
            }
        });
        let mut families = Vec::with_capacity(self.families.len());
        for scraped in &mut self.families {
            let readings = scraped.finish();
            outcome = outcome.and(scraped.series.outcome(&scraped.family.name));
            families.extend(readings);
        }
        families.sort_unstable_by(|a, b| a.family.name.cmp(&b.family.name));
        if outcome.is_err() {
            // Perhaps a metric clashes with one that no longer exists.
            *self = Self::default();
        }
        (Scrape { families }, outcome)
    }

    fn read(&mut self, metric: Metric<'_>) -> Result<(), InvalidMetric> {
        let number = self.family_of(&metric)?;
        if let Some(last) = self.families.get_mut(self.last) {
            last.next = number;
        }
        self.last = number;
        let ScrapedFamily { family, series, values, .. } = &mut self.families[number];
        if family.kind == Kind::Histogram && metric.labels.iter().any(|(label, _)| label == "le") {
            let expected = "another name: `le` is the label of its buckets";
            return Err(InvalidMetric::new(&family.name, "the label `le`", expected));
        }
        series.push(&family.name, &metric.labels)?;
        match (values, metric.value) {
            (Values::Numbers(values), MetricValue::Gauge(value) | MetricValue::Counter(value)) => values.push(value),
            (Values::Histograms(values), MetricValue::Histogram(histogram)) => {
                values.push(histogram.with_at_most(MAX_BUCKETS));
            }
            _ => unreachable!("a family has one kind"),
        }
        Ok(())
    }

    /// Returns the number of a metric's family.
    fn family_of(&mut self, metric: &Metric<'_>) -> Result<usize, InvalidMetric> {
        let Some(kind) = Kind::of(&metric.value) else {
            // Returns the error.
            return self.registry.record(metric).map(|()| unreachable!("a value of an unknown kind is refused"));
        };
        let unit = metric.unit;
        let expected = self.families.get(self.last).map(|last| last.next);
        let is_expected = |number: &usize| {
            let ScrapedFamily { family, dotted, unit: known, .. } = &self.families[*number];
            (family.kind, *known) == (kind, unit) && *dotted == metric.name
        };
        if let Some(number) = expected.filter(is_expected) {
            return Ok(number);
        }
        let mut of_name = self.by_name.get(&*metric.name).into_iter().flatten();
        if let Some(known) = of_name.find(|known| (known.kind, known.unit) == (kind, unit)) {
            return Ok(known.number);
        }
        let name = metric.prometheus_name();
        let family = self.registry.family(&name, kind, metric.unit.prometheus_suffix(), &metric.help)?;
        // Two dotted names may be one in this format.
        let known = self.families.iter().position(|known| known.family.name == family.name);
        let number = known.unwrap_or_else(|| {
            self.families.push(ScrapedFamily::new(family.clone(), metric));
            self.families.len() - 1
        });
        self.by_name.entry(metric.name.to_string()).or_default().push(KnownFamily { kind, unit, number });
        Ok(number)
    }
}

impl ScrapedFamily {
    fn new(family: Family, metric: &Metric<'_>) -> Self {
        let (dotted, unit, values) = (metric.name.to_string(), metric.unit, Values::new(family.kind, 0));
        Self { family: Arc::new(family), dotted, unit, next: 0, series: SeriesList::default(), values }
    }

    /// Returns what was read, and starts over.
    fn finish(&mut self) -> Option<FamilyReadings> {
        let blocks = self.series.finish();
        let next = Values::new(self.family.kind, self.values.len());
        let values = std::mem::replace(&mut self.values, next);
        let repeated = self.series.repeated();
        (values.len() > 0).then(|| FamilyReadings { family: self.family.clone(), blocks, repeated, values })
    }
}

impl Values {
    fn new(kind: Kind, capacity: usize) -> Self {
        match kind {
            Kind::Gauge | Kind::Counter => Self::Numbers(Vec::with_capacity(capacity)),
            Kind::Histogram => Self::Histograms(Vec::with_capacity(capacity)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Histograms(values) => values.len(),
        }
    }
}

impl FamilyReadings {
    /// Renders the value at `place`.
    fn render(&self, place: usize, text: &mut String) {
        if self.repeated.contains(&place) {
            return;
        }
        let (name, labels) = (&self.family.name, SeriesList::labels(&self.blocks, place));
        match &self.values {
            Values::Numbers(values) => render_number(text, name, labels, values[place]),
            Values::Histograms(values) => render_histogram(text, name, labels, &values[place]),
        }
    }
}

impl Rendering {
    /// Begins to render a scrape.
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

    /// Returns the next part of the text, of about 64 KiB, or `None` at its end. `scrape` is the same each time.
    pub fn next_chunk(&mut self, scrape: &Scrape) -> Option<String> {
        if self.is_complete {
            return None;
        }
        let mut text = String::with_capacity(CHUNK + CHUNK / 8);
        while let Some(readings) = scrape.families.get(self.next.0) {
            let is_selected = self.is_selected(&readings.family);
            if is_selected && self.next.1 == 0 {
                match self.format {
                    TextFormat::Prometheus => readings.family.render_header(&mut text),
                    TextFormat::OpenMetrics => readings.family.render_openmetrics_header(&mut text),
                }
            }
            let end = if is_selected { readings.values.len() } else { 0 };
            while self.next.1 < end {
                if text.len() >= CHUNK {
                    return Some(text);
                }
                readings.render(self.next.1, &mut text);
                self.next.1 += 1;
            }
            self.next = (self.next.0 + 1, 0);
        }
        self.is_complete = true;
        if self.format == TextFormat::OpenMetrics {
            text.push_str("# EOF\n");
        }
        Some(text).filter(|text| !text.is_empty())
    }

    fn is_selected(&self, Family { name, kind, .. }: &Family) -> bool {
        let parts: &[&str] = if *kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[] };
        self.only.is_empty()
            || self.only.contains(&**name)
            || self.only.contains(base(name))
            || parts.iter().any(|part| self.only.contains(&format!("{name}{part}")))
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

    fn chunks(scrape: &Scrape, format: TextFormat, only: &[&str]) -> Vec<String> {
        let mut rendering = Rendering::new(format).only(only.iter().map(|name| (*name).to_owned()));
        std::iter::from_fn(|| rendering.next_chunk(scrape)).collect()
    }

    fn scraped(metrics: &[Metric<'static>], format: TextFormat, only: &[&str]) -> String {
        let (scrape, outcome) = Scraper::default().scrape(&Fixed(metrics.to_vec()), Timestamp::default());
        outcome.unwrap();
        chunks(&scrape, format, only).concat()
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
        let (scrape, _) = Scraper::default().scrape(&Fixed(metrics), Timestamp::default());
        let sizes: Vec<usize> = chunks(&scrape, TextFormat::Prometheus, &[]).iter().map(String::len).collect();
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
                "metric `ok`: found two values of the series {}, expected labels that distinguish them",
            ),
            (
                Metric::gauge("ok.labelled", 2.0).with_label("b", "2").with_label("a", "1"),
                "metric `ok_labelled`: found two values of the series {a=\"1\",b=\"2\"}, expected labels that distinguish them",
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
            let (scrape, outcome) = Scraper::default().scrape(&source, Timestamp::default());
            assert_eq!(outcome.unwrap_err().to_string(), expected);
            let text = chunks(&scrape, TextFormat::Prometheus, &[]).concat();
            let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(samples, ["after 1", "ok 1", "ok_labelled{a=\"1\",b=\"2\"} 1"]);
        }
    }

    proptest! {
        /// A scrape equals that of a new scraper, independently of earlier scrapes, and leaves these unchanged.
        #[test]
        fn earlier_scrapes_do_not_matter(
            scrapes in prop::collection::vec(prop::collection::vec((0..3_usize, 0..1_500_u32), 0..1_200), 1..5),
        ) {
            let mut scraper = Scraper::default();
            let mut last: Option<(Scrape, String)> = None;
            for series in scrapes {
                let metric = |(name, label): &(usize, u32)| {
                    let name = ["a", "b.count", "c"][*name];
                    let metric = if *label == 7 { Metric::counter(name, 1.0) } else { Metric::gauge(name, f64::from(*label)) };
                    metric.with_label("slo", format!("\"{label}\"")).with_label("agent", "x")
                };
                let source = Fixed(series.iter().map(metric).collect());
                let (scrape, outcome) = scraper.scrape(&source, Timestamp::default());
                let (expected, expected_outcome) = Scraper::default().scrape(&source, Timestamp::default());
                let text = chunks(&scrape, TextFormat::Prometheus, &[]).concat();
                if outcome.is_ok() || expected_outcome.is_err() {
                    prop_assert_eq!(&text, &chunks(&expected, TextFormat::Prometheus, &[]).concat());
                }
                if let Some((scrape, text)) = last {
                    prop_assert_eq!(chunks(&scrape, TextFormat::Prometheus, &[]).concat(), text);
                }
                last = Some((scrape, text));
            }
        }

        #[test]
        fn any_number_is_rendered_as_by_an_exporter(value in any::<f64>()) {
            let metric = Metric::gauge("m", value);
            let mut exporter = PrometheusExporter::new();
            exporter.record(&metric).unwrap();
            prop_assert_eq!(scraped(&[metric], TextFormat::Prometheus, &[]), exporter.render());
        }
    }
}
