use serde::{Deserialize, Serialize};

/// A reading of an indicator over its window. Without data, values are `None`, never 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SliReading {
    /// The measured value: the ratio, the mean or the percentile.
    pub value: Option<f64>,
    /// Ratio of samples that met the target.
    pub compliance: Option<f64>,
    /// Number of samples.
    pub samples: u64,
    /// 95 % Wilson interval of a ratio, by effective sample size if samples are weighted.
    pub interval: Option<(f64, f64)>,
    /// The largest sample, if the indicator keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// Standard deviation of the samples of a mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// Percentiles, if the indicator keeps a distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentiles: Option<Percentiles>,
    /// Number of samples dropped since the start because they were older than the window, or invalid.
    pub dropped: u64,
}

/// Percentiles of a distribution, in the unit of its indicator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
}
