use std::collections::BTreeMap;
use std::fmt::Write;

/// Collects metrics and renders them for a scrape.
#[derive(Clone, Debug, Default)]
pub struct PrometheusExporter {
    families: BTreeMap<String, Family>,
}

#[derive(Clone, Debug)]
struct Family {
    kind: Kind,
    help: String,
    /// By rendered labels, so that they come in a stable order.
    samples: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// A metric that Prometheus would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metric `{metric}`: found {found}, expected {expected}")]
pub struct InvalidMetric {
    metric: String,
    found: String,
    expected: &'static str,
}

impl PrometheusExporter {
    /// Nothing to scrape yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a gauge. `labels` tell it apart from others of its name; `help` says what it is, for people.
    pub fn set_gauge(
        &mut self,
        name: &str,
        value: f64,
        labels: &[(&str, &str)],
        help: &str,
    ) -> Result<(), InvalidMetric> {
        *self.sample(name, Kind::Gauge, labels, help)? = value;
        Ok(())
    }

    /// Adds to a counter, whose name ends in `_total`; `value` is at least 0.
    pub fn inc_counter(
        &mut self,
        name: &str,
        value: f64,
        labels: &[(&str, &str)],
        help: &str,
    ) -> Result<(), InvalidMetric> {
        let invalid = |found: String, expected| Err(InvalidMetric { metric: name.to_owned(), found, expected });
        if !name.ends_with("_total") {
            return invalid("a counter of this name".to_owned(), "one that ends in `_total`");
        }
        if !(0.0..f64::INFINITY).contains(&value) {
            return invalid(format!("an increase of {value}"), "a number of at least 0");
        }
        *self.sample(name, Kind::Counter, labels, help)? += value;
        Ok(())
    }

    /// Forgets every metric.
    pub fn clear(&mut self) {
        self.families.clear();
    }

    /// Everything in Prometheus' text exposition format 0.0.4 (`text/plain; version=0.0.4`).
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

    /// Everything as OpenMetrics 1.0 (`application/openmetrics-text; version=1.0.0`).
    pub fn render_openmetrics(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let base = if family.kind == Kind::Counter { name.trim_end_matches("_total") } else { name };
            let _ = writeln!(text, "# TYPE {base} {}", family.kind.as_str());
            if let Some(unit) = ["seconds", "ratio", "dollars"].iter().find(|unit| base.ends_with(&format!("_{unit}")))
            {
                let _ = writeln!(text, "# UNIT {base} {unit}");
            }
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
            let _ = writeln!(text, "# HELP {base} {help}");
            family.render_samples(name, &mut text);
        }
        text.push_str("# EOF\n");
        text
    }

    fn sample(
        &mut self,
        name: &str,
        kind: Kind,
        labels: &[(&str, &str)],
        help: &str,
    ) -> Result<&mut f64, InvalidMetric> {
        let invalid = |found: String, expected| InvalidMetric { metric: name.to_owned(), found, expected };
        if !is_name(name, true) {
            return Err(invalid("this name".to_owned(), "letters, digits, `_` and `:`, no digit first"));
        }
        let mut rendered = String::new();
        for (label, value) in labels {
            if !is_name(label, false) || label.starts_with("__") {
                return Err(invalid(
                    format!("the label `{label}`"),
                    "letters, digits and `_`, no digit and no `__` first",
                ));
            }
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let comma = if rendered.is_empty() { "" } else { "," };
            let _ = write!(rendered, "{comma}{label}=\"{value}\"");
        }
        let family = self.families.entry(name.to_owned()).or_insert_with(|| Family {
            kind,
            help: help.to_owned(),
            samples: BTreeMap::new(),
        });
        if family.kind != kind {
            return Err(invalid(format!("a {}", kind.as_str()), "the type it had before"));
        }
        Ok(family.samples.entry(rendered).or_insert(0.0))
    }
}

impl Family {
    fn render_samples(&self, name: &str, text: &mut String) {
        for (labels, value) in &self.samples {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let value = match value {
                value if value.is_nan() => "NaN".to_owned(),
                value if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                value => value.to_string(),
            };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
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

    proptest! {
        #[test]
        fn every_sample_is_one_line_whatever_its_label(value in ".*") {
            let mut exporter = PrometheusExporter::new();
            exporter.set_gauge("m", 1.0, &[("l", &value)], &value).unwrap();
            prop_assert_eq!(exporter.render().matches('\n').count(), 3);
        }
    }
}
