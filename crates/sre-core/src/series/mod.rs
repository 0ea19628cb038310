//! Rolling series: what an indicator records into. Bounded memory, and recording that costs the same at any age.
mod counts;
mod mean;
mod percentile;
mod ratio;
mod ring;
mod weighted;

pub use counts::{Counts, RollingCounts, RollingView};
pub use mean::MeanSeries;
pub use percentile::PercentileSeries;
pub use ratio::RatioSeries;
pub use weighted::WeightedRatioSeries;
