use std::fmt::{self, Display, Write};
use std::hash::{DefaultHasher, Hasher};

use serde::ser::{Serialize, SerializeMap, Serializer};
use sre_core::{JsonEntry, Metric, Window};

/// Numbers by their keys. Keys are written to a request without texts of their own, so that no number costs an allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics<'a>(Vec<Entry<'a>>);

#[derive(Clone, Debug)]
struct Entry<'a> {
    key: Key<'a>,
    /// The hash of the key's text, by which equal keys are found.
    hash: u64,
    value: JsonEntry<'a>,
}

/// The key of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    Text(&'a str),
    /// A name in a section, such as `eval/relevance`.
    Named(&'static str, &'a str),
    BurnRate(Window),
    /// A metric, such as `tasks/failed` or `cost/spent_dollars/agent/support`, and a part of it, such as `/count`.
    Metric(&'a Metric<'a>, &'static str),
}

/// Maximum length of a name in the key of a metric or the name of a run, in characters.
const NAME_CHARS: usize = 100;

impl<'a> Metrics<'a> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Adds a number, which replaces an earlier one of the same key. `None` adds nothing, and neither does a number that is not
    /// finite, which JSON cannot represent.
    pub(crate) fn put(&mut self, key: Key<'a>, value: impl Into<JsonEntry<'a>>) {
        match value.into() {
            JsonEntry::None => {}
            JsonEntry::Number(number) if !number.is_finite() => {}
            value => self.put_entry(Entry { hash: key.hash(), key, value }),
        }
    }

    /// Adds the numbers of other metrics.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.reserve(other.0.len());
        other.0.iter().for_each(|entry| self.put_entry(entry.clone()));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put_entry(&mut self, entry: Entry<'a>) {
        match self.0.iter_mut().find(|known| known.hash == entry.hash) {
            Some(known) => known.value = entry.value,
            None => self.0.push(entry),
        }
    }
}

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for Entry { key, value, .. } in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Key<'_> {
    fn hash(&self) -> u64 {
        struct Hashed(DefaultHasher);

        impl Write for Hashed {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }

        let mut hashed = Hashed(DefaultHasher::new());
        // Hashing cannot fail.
        let _ = write!(hashed, "{self}");
        hashed.0.finish()
    }
}

impl Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Named(section, "") => write!(f, "{section}/unnamed"),
            Self::Named(section, name) => write!(f, "{section}/{}", shortened(name)),
            Self::BurnRate(window) => write!(f, "slo/burn_rate/{window}"),
            Self::Metric(metric, part) => {
                write_name(f, metric)?;
                for (_, value) in metric.labels.iter().filter(|(_, value)| !value.is_empty()) {
                    write!(f, "/{}", shortened(value))?;
                }
                f.write_str(part)
            }
        }
    }
}

fn write_name(f: &mut fmt::Formatter<'_>, metric: &Metric<'_>) -> fmt::Result {
    let mut parts = metric.name.strip_prefix("sre.").unwrap_or(&metric.name).split('.');
    f.write_str(parts.next().unwrap_or_default())?;
    parts.try_for_each(|part| write!(f, "/{part}"))?;
    match metric.unit.prometheus_suffix().filter(|unit| !metric.name.ends_with(unit)) {
        Some(unit) => write!(f, "_{unit}"),
        None => Ok(()),
    }
}

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(crate) fn shortened(name: &str) -> &str {
    name.char_indices().nth(NAME_CHARS).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sre_core::MetricUnit;

    use super::*;

    #[test]
    fn each_key_is_there_once_and_the_last_value_stays() {
        let [a, b] = [["x/y", "z"], ["x", "y/z"]].map(|[first, second]| {
            let metric = Metric::gauge("sre.cost.spent", 1.0).with_unit(MetricUnit::Dollars);
            metric.with_label("agent", first).with_label("model", second)
        });
        let mut metrics = Metrics::default();
        metrics.put(Key::Metric(&a, ""), 1.5);
        metrics.put(Key::Metric(&b, ""), 2.5);
        metrics.put(Key::Named("eval", ""), f64::NAN);
        metrics.put(Key::Named("policy", ""), 1_u64);
        let mut all = metrics.clone();
        metrics.put(Key::Text("policy/unnamed"), 0_u64);
        all.merge(&metrics);
        assert_eq!(json!(all), json!({"cost/spent_dollars/x/y/z": 2.5, "policy/unnamed": 0}));
    }
}
