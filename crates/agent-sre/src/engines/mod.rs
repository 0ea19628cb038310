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

use sre_core::{Clock, EventStage, ExhaustionAction, SystemClock};

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
    /// What no engine and exporter may see of an event.
    pub redaction: Option<crate::Redaction>,
    /// Whether the runtime takes the `exhaustion_action` of objectives; true by default. An action whose engine has no settings is
    /// then an error. A report on recorded events takes none.
    pub takes_actions: bool,
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
    /// An objective asks for the action of an engine that is left out.
    #[error("`{slo}`: `exhaustion_action: {action}`: found no settings of {missing}, expected some, or another action")]
    ActionUnavailable {
        /// The objective.
        slo: String,
        /// The action.
        action: ExhaustionAction,
        /// The settings that the action needs.
        missing: &'static str,
    },
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
            redaction: None,
            takes_actions: true,
        }
    }
}

type Install = fn(RuntimeBuilder, &EngineSettings) -> Result<RuntimeBuilder, EngineError>;

/// All stages and engines, in the order in which they see an event. To add an engine, add a row.
static ENGINES: &[Install] = &[
    |builder, settings| {
        let stage = settings.redaction.clone().map(|redaction| Arc::new(redaction) as Arc<dyn EventStage>);
        Ok(stage.into_iter().fold(builder, RuntimeBuilder::stage))
    },
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
    ///
    /// # Errors
    ///
    /// Returns an error if settings are invalid, or lack what an objective's `exhaustion_action` needs.
    pub fn engines(self, settings: &EngineSettings) -> Result<Self, EngineError> {
        ENGINES.iter().try_fold(self, |builder, install| install(builder, settings))
    }
}
