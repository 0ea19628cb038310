use std::fmt;

use serde::{Serialize, Serializer};
use sre_core::Window;

/// Metrics, params and tags of a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Entries<'a> {
    pub(crate) metrics: Vec<Metric<'a>>,
    pub(crate) params: Vec<Entry>,
    pub(crate) tags: Vec<Entry>,
}

/// A point of a metric's history. MLflow keeps the same point once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Metric<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) value: f64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) step: i64,
}

/// The key of a metric. It is written to a request without a text of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Key<'a> {
    Name(&'a str),
    BurnRate(Window),
    /// A value of an indicator, by the indicator's name and that of the value.
    Indicator(&'a str, &'static str),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::BurnRate(window) => write!(f, "burn_rate/{window}"),
            Self::Indicator(indicator, value) => write!(f, "indicator/{indicator}/{value}"),
        }
    }
}

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A param or a tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Entry {
    pub(crate) fn new(key: impl Into<String>, value: &str) -> Self {
        Self { key: key.into(), value: crate::names::value(value) }
    }
}

/// The body of a request to `runs/log-batch`.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct LogBatch<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) metrics: &'a [Metric<'a>],
    pub(crate) params: &'a [Entry],
    pub(crate) tags: &'a [Entry],
}

// MLflow allows 1,000 metrics, 100 params and 100 tags, 1,000 in total, and 1 MB. With these, keys of up to 250 characters
// and values of up to 500 stay below it even if each character takes as many bytes as JSON can need.
const METRICS: usize = 400;
const PARAMS: usize = 50;
const TAGS: usize = 50;

impl Entries<'_> {
    /// Returns the requests, each within MLflow's limits.
    pub(crate) fn batches<'a>(&'a self, run_id: &'a str) -> impl Iterator<Item = LogBatch<'a>> {
        let count = [(self.metrics.len(), METRICS), (self.params.len(), PARAMS), (self.tags.len(), TAGS)];
        let count = count.into_iter().map(|(len, limit)| len.div_ceil(limit)).max().unwrap_or_default();
        (0..count).map(move |at| LogBatch {
            run_id,
            metrics: part(&self.metrics, METRICS, at),
            params: part(&self.params, PARAMS, at),
            tags: part(&self.tags, TAGS, at),
        })
    }
}

fn part<T>(all: &[T], limit: usize, at: usize) -> &[T] {
    all.chunks(limit).nth(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_stay_within_mlflows_limits_and_hold_everything() {
        // Each character takes six bytes in JSON.
        let entry = |number: usize| Entry::new(format!("{number:0>250}"), &"\u{1}".repeat(500));
        let keys: Vec<String> = (0..2_500).map(|number| format!("{number:0>250}")).collect();
        let metric = |key| Metric { key: Key::Name(key), value: 1.0, timestamp: 0, step: 0 };
        let entries = Entries {
            metrics: keys.iter().map(|key| metric(key)).collect(),
            params: (0..120).map(entry).collect(),
            tags: (0..7).map(entry).collect(),
        };
        let batches: Vec<_> = entries.batches("r").collect();
        assert_eq!(batches.len(), 7);
        for batch in &batches {
            assert!(batch.metrics.len() + batch.params.len() + batch.tags.len() <= 1_000);
            assert!(serde_json::to_vec(batch).unwrap().len() <= 1_000_000);
        }
        assert_eq!(batches.iter().flat_map(|batch| batch.metrics).count(), 2_500);
        assert_eq!(batches.iter().flat_map(|batch| batch.params).count(), 120);
        assert_eq!(batches.iter().flat_map(|batch| batch.tags).count(), 7);
        assert_eq!(Entries::default().batches("r").count(), 0);
    }
}
