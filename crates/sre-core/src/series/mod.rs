//! Series of samples over rolling windows, for implementing indicators. Memory and time per sample are bounded.
mod counts;
mod history;
mod mean;
mod percentile;
mod ratio;
mod ring;
mod rolling;
mod weighted;

pub use counts::Counts;
pub use mean::MeanSeries;
pub use percentile::PercentileSeries;
pub use ratio::RatioSeries;
pub use rolling::{RollingCounts, RollingView};
pub use weighted::WeightedRatioSeries;

/// The first value of a saved series. Version 0.1.0 began with a number of dropped samples, which is never as large.
const FORMAT: u64 = u64::MAX;

#[cfg(test)]
mod tests;
