//! Creates the engines from their settings. Each engine has one file here and one row.
#[cfg(feature = "cascade")]
mod cascade;
#[cfg(feature = "cost")]
mod cost;
#[cfg(feature = "slo")]
mod slo;
mod totals;

pub use totals::{AgentReport, AgentTotals, ModelTotals};

use std::sync::Arc;

use sre_core::{Clock, SystemClock};

use crate::RuntimeBuilder;

/// The engines of a runtime, and their settings. An engine without settings is left out.
#[non_exhaustive]
pub struct EngineSettings {
    /// The clock of the engines.
    pub clock: Arc<dyn Clock>,
    /// Maximum number of agents with statistics of their own; 1,000 by default.
    pub max_agents: usize,
    /// Objectives.
    #[cfg(feature = "slo")]
    pub slos: Vec<crate::slo::SloSpec>,
    /// Prices of model calls without a cost.
    #[cfg(feature = "cost")]
    pub prices: Option<crate::cost::PriceBook>,
    /// Cost limits.
    #[cfg(feature = "cost")]
    pub limits: Option<crate::cost::Limits>,
    /// Circuit breakers and cascade detection.
    #[cfg(feature = "cascade")]
    pub breakers: Option<crate::cascade::DetectorConfig>,
}

/// Invalid settings of an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Objectives.
    #[cfg(feature = "slo")]
    #[error(transparent)]
    Slos(#[from] crate::slo::EngineError),
    /// Cost limits.
    #[cfg(feature = "cost")]
    #[error(transparent)]
    Limits(#[from] crate::cost::InvalidLimits),
    /// Breakers.
    #[cfg(feature = "cascade")]
    #[error(transparent)]
    Breakers(#[from] crate::cascade::InvalidConfig),
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            max_agents: 1_000,
            #[cfg(feature = "slo")]
            slos: Vec::new(),
            #[cfg(feature = "cost")]
            prices: None,
            #[cfg(feature = "cost")]
            limits: None,
            #[cfg(feature = "cascade")]
            breakers: None,
        }
    }
}

type Install = fn(RuntimeBuilder, &EngineSettings) -> Result<RuntimeBuilder, EngineError>;

/// All engines, in the order in which they observe. To add an engine, add a row.
static ENGINES: &[Install] = &[
    |builder, settings| Ok(totals::install(builder, settings)),
    #[cfg(feature = "slo")]
    slo::install,
    #[cfg(feature = "cost")]
    cost::install,
    #[cfg(feature = "cascade")]
    cascade::install,
];

impl RuntimeBuilder {
    /// Adds the engines that have settings, and connects them: an exhausted error budget opens the agent's breaker or
    /// throttles the agent if its objective asks for it, and prices are applied before costs are counted.
    pub fn engines(self, settings: &EngineSettings) -> Result<Self, EngineError> {
        ENGINES.iter().try_fold(self, |builder, install| install(builder, settings))
    }
}
