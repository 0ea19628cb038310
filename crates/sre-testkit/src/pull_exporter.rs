//! The conformance suite of exporters that are scraped.

use std::collections::BTreeMap;

use sre_core::{Collect, Metric, Snapshot, Timestamp};

use crate::exporter::{Data, START};

/// Collects a source at a time, with the same exporter at each call, and returns its response to a scrape in each text
/// format: Prometheus' or OpenMetrics.
pub type Scraper<'a> = &'a mut dyn FnMut(&dyn Collect, Timestamp) -> Vec<String>;

/// Tests an exporter that is scraped:
///
/// - without metrics, nothing is served, and otherwise every metric with its labels and value;
/// - infinite values are served as such, and long, non-ASCII labels unchanged;
/// - a series that is collected twice is served once, and does not hide others;
/// - a series that is no longer collected disappears;
/// - a clock that steps back changes nothing.
///
/// # Panics
/// Panics if the exporter does not conform.
pub fn pull_exporter(scrape: Scraper<'_>) {
    for text in scrape(&Metrics(Vec::new()), START) {
        assert!(samples(&text).is_empty(), "{text}");
    }
    every_metric_is_served(scrape);
    extreme_values_are_served(scrape);
    a_series_is_served_once(scrape);
    what_is_not_collected_disappears(scrape);
    a_clock_that_steps_back_changes_nothing(scrape);
}

struct Metrics(Vec<Metric<'static>>);

impl Collect for Metrics {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        self.0.iter().cloned().for_each(emit);
    }
}

struct Snapshots(Vec<Snapshot>);

impl Collect for Snapshots {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        self.0.clone()
    }
}

fn every_metric_is_served(scrape: Scraper<'_>) {
    for text in scrape(&Metrics(Data::small().metrics), START) {
        let samples = samples(&text);
        for (name, slo, value) in [
            ("suite_gauge", "answers", -1.5),
            ("suite_gauge", "others", 2.5),
            ("suite_counter_dollars_total", "", 7.0),
            ("suite_latency_seconds_sum", "", 2.6),
            ("suite_latency_seconds_count", "", 4.0),
        ] {
            let is_it = |sample: &&Sample| sample.name == name && sample.label("slo") == slo;
            let found = samples.iter().find(is_it).unwrap_or_else(|| panic!("{name} of {slo} is not in\n{text}"));
            assert!((found.value - value).abs() < 1e-9, "{found:?}");
        }
    }
    for text in scrape(&Snapshots(Data::small().snapshots), START) {
        let budget = samples(&text).into_iter().find(|sample| sample.name == "sre_slo_error_budget_remaining_ratio");
        assert_eq!(budget.map(|sample| sample.value), Some(0.4), "{text}");
    }
}

fn extreme_values_are_served(scrape: Scraper<'_>) {
    let Data { metrics, snapshots, .. } = Data::extreme();
    let long = metrics[0].labels[0].1.clone();
    let numbered = |(number, metric): (usize, Metric<'static>)| metric.with_label("number", number.to_string());
    let metrics: Vec<Metric<'static>> = metrics.into_iter().enumerate().map(numbered).collect();
    for text in scrape(&Metrics(metrics), START) {
        let samples = samples(&text);
        let value =
            |number: &str| samples.iter().find(|sample| sample.label("number") == number).map(|found| found.value);
        assert!(value("0").is_none_or(f64::is_nan), "not a number");
        assert_eq!([value("1"), value("2")], [Some(f64::INFINITY), Some(f64::NEG_INFINITY)]);
        assert_eq!([value("3"), value("4")], [Some(f64::MAX), Some(0.0)]);
        assert!(samples.iter().all(|sample| sample.label("text") == long), "long labels are unchanged");
    }
    for text in scrape(&Snapshots(snapshots), START) {
        let samples = samples(&text);
        assert!(samples.iter().any(|sample| sample.label("agent").len() > 40_000), "a long name");
        assert!(samples.iter().any(|sample| sample.label("slo") == "answers"), "and the others");
    }
}

fn a_series_is_served_once(scrape: Scraper<'_>) {
    let twice = Metric::gauge("suite.twice", 1.0).with_label("a", "x");
    let others = Data::small().metrics;
    let source = Metrics([vec![twice.clone(), twice], others].concat());
    for text in scrape(&source, START) {
        let samples = samples(&text);
        assert_eq!(samples.iter().filter(|sample| sample.name == "suite_twice").count(), 1, "{text}");
        assert!(samples.iter().any(|sample| sample.name == "suite_latency_seconds_count"), "{text}");
    }
}

fn what_is_not_collected_disappears(scrape: Scraper<'_>) {
    let metrics = |count: usize| {
        let number = |number: usize| Metric::gauge("suite.many", 1.0).with_label("number", number.to_string());
        Metrics((0..count).map(number).collect())
    };
    let few = scrape(&metrics(10), START);
    for _ in 0..10 {
        for text in scrape(&metrics(100), START) {
            assert_eq!(samples(&text).len(), 100);
        }
        assert_eq!(scrape(&metrics(10), START), few);
    }
}

fn a_clock_that_steps_back_changes_nothing(scrape: Scraper<'_>) {
    let source = Metrics(Data::small().metrics);
    let before = scrape(&source, START);
    assert_eq!(scrape(&source, Timestamp::from_secs(1)), before);
    assert_eq!(scrape(&source, START), before);
}

/// A line of a response to a scrape.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    /// Returns the value of a label; an absent label is an empty one.
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Reads the samples of a response. Panics if a line is no sample and no comment.
fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let start = line.find(['{', ' ']).unwrap_or_else(|| panic!("not a sample: {line}"));
    let (name, mut rest) = line.split_at(start);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("not a label: {rest}"));
            let (value, after) = unescape(quoted);
            assert_eq!(labels.insert(label.to_owned(), value), None, "two labels {label}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().and_then(|value| value.parse().ok());
    Sample { name: name.to_owned(), labels, value: value.unwrap_or_else(|| panic!("not a number: {rest}")) }
}

/// Reads a label's value up to the closing quote. Returns it, and what follows.
fn unescape(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                other => panic!("an unknown escape: {other:?}"),
            },
            char => value.push(char),
        }
    }
    panic!("no closing quote: {text}");
}
