use serde::Serialize;

/// Metrics, params and tags of a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Entries {
    pub(crate) metrics: Vec<Metric>,
    pub(crate) params: Vec<Entry>,
    pub(crate) tags: Vec<Entry>,
}

/// A point of a metric's history. MLflow keeps the same point once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Metric {
    pub(crate) key: String,
    pub(crate) value: f64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) step: i64,
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
    pub(crate) metrics: &'a [Metric],
    pub(crate) params: &'a [Entry],
    pub(crate) tags: &'a [Entry],
}

// MLflow allows 1,000 metrics, 100 params and 100 tags, 1,000 in total, and 1 MB. With these, keys of up to 250 characters
// and values of up to 500 stay below it even if each character takes as many bytes as JSON can need.
const METRICS: usize = 400;
const PARAMS: usize = 50;
const TAGS: usize = 50;

impl Entries {
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
        let metric = |number: usize| Metric { key: format!("{number:0>250}"), value: 1.0, timestamp: 0, step: 0 };
        let entries = Entries {
            metrics: (0..2_500).map(metric).collect(),
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
