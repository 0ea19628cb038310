/// A metric that Prometheus would reject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metric `{metric}`: found {found}, expected {expected}")]
pub struct InvalidMetric {
    metric: String,
    found: String,
    expected: &'static str,
}

impl InvalidMetric {
    pub(crate) fn new(metric: &str, found: impl Into<String>, expected: &'static str) -> Self {
        Self { metric: metric.to_owned(), found: found.into(), expected }
    }
}
