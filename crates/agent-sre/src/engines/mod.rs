//! Creates the engines from their settings. Each engine has one file here and one row.
#[cfg(feature = "cascade")]
mod cascade;
#[cfg(feature = "cost")]
mod cost;
mod redaction;
#[cfg(feature = "slo")]
mod slo;
mod totals;
#[cfg(feature = "trace")]
mod traces;

pub use totals::{AgentReport, AgentTotals, ModelTotals};

use std::path::Path;
use std::sync::Arc;

use sre_core::{Clock, ExhaustionAction, SystemClock};

use crate::RuntimeBuilder;

/// The engines of a runtime, and their settings. An engine without settings is left out.
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
    /// The date of the public list prices, if `prices` has these.
    #[cfg(feature = "cost")]
    pub prices_as_of: Option<&'static str>,
    /// Cost limits.
    #[cfg(feature = "cost")]
    pub limits: Option<crate::cost::Limits>,
    /// Circuit breakers and cascade detection.
    #[cfg(feature = "cascade")]
    pub breakers: Option<crate::cascade::DetectorConfig>,
    /// Which traces are kept.
    #[cfg(feature = "trace")]
    pub traces: Option<crate::trace::TailSamplerOptions>,
    /// Redaction of events before engines and exporters; by default of secrets.
    pub redaction: Option<crate::Redaction>,
    /// Whether the runtime takes the `exhaustion_action` of objectives; true by default. An action whose engine has no settings is
    /// then an error. A report on recorded events takes none.
    pub takes_actions: bool,
    /// Sources whose signals are no alerts, because their engine runs with defaults and no file configures it.
    pub quiet_sources: Vec<&'static str>,
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
    /// An objective's action needs an engine without settings.
    #[error("`{slo}`: `exhaustion_action: {action}` needs {missing}; add them, or choose another action")]
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
            prices_as_of: None,
            #[cfg(feature = "cost")]
            limits: None,
            #[cfg(feature = "cascade")]
            breakers: None,
            #[cfg(feature = "trace")]
            traces: None,
            redaction: Some(crate::Redaction::default()),
            takes_actions: true,
            quiet_sources: Vec::new(),
        }
    }
}

/// How a program configures and runs an engine.
struct Engine {
    /// The files that have its settings.
    files: &'static [SettingsFile],
    /// Sets the settings with which it runs in a program that runs every engine.
    set_defaults: fn(&mut EngineSettings),
    install: fn(RuntimeBuilder, &EngineSettings) -> Result<RuntimeBuilder, EngineError>,
}

/// All stages and engines, in the order in which they see an event. To add an engine, add a row.
static ENGINES: &[Engine] = &[
    redaction::ENGINE,
    totals::ENGINE,
    #[cfg(feature = "trace")]
    traces::ENGINE,
    #[cfg(feature = "slo")]
    slo::ENGINE,
    #[cfg(feature = "cost")]
    cost::ENGINE,
    #[cfg(feature = "cascade")]
    cascade::ENGINE,
];

/// A file with the settings of an engine: a setting of `sre.yaml`, and an option of `sre serve` and `sre check`.
#[derive(Debug)]
#[non_exhaustive]
pub struct SettingsFile {
    /// The name of the setting and of the option, such as `limits`.
    pub name: &'static str,
    /// What the file has, as the help of the option.
    pub help: &'static str,
    load: Load,
}

/// A file with the settings of an engine is invalid; the message names the place, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SettingsError(Cause);

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Load = fn(&Path, &mut EngineSettings) -> Result<(), Cause>;

/// Returns the settings files of all engines.
///
/// ```
/// # #[cfg(all(feature = "cascade", feature = "cost"))] {
/// let names: Vec<&str> = agent_sre::settings_files().map(|file| file.name).collect();
/// assert_eq!(names, ["limits", "prices", "breakers"]);
/// # }
/// ```
pub fn settings_files() -> impl Iterator<Item = &'static SettingsFile> {
    ENGINES.iter().flat_map(|engine| engine.files)
}

impl SettingsFile {
    /// Reads the file `path` into `settings`.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or is invalid.
    pub fn load(&self, path: &Path, settings: &mut EngineSettings) -> Result<(), SettingsError> {
        (self.load)(path, settings).map_err(SettingsError)
    }
}

impl EngineSettings {
    /// Returns settings with which every engine runs, as in the service: without objectives.
    pub fn every_engine() -> Self {
        let mut settings = Self::default();
        ENGINES.iter().for_each(|engine| (engine.set_defaults)(&mut settings));
        settings
    }
}

impl RuntimeBuilder {
    /// Adds the engines that have settings, and connects them: an exhausted error budget opens the agent's breaker or
    /// throttles the agent if its objective requires it, and prices are applied before costs are counted.
    ///
    /// # Errors
    ///
    /// Returns an error if settings are invalid, or lack what an objective's `exhaustion_action` needs.
    pub fn engines(self, settings: &EngineSettings) -> Result<Self, EngineError> {
        ENGINES.iter().try_fold(self, |builder, engine| (engine.install)(builder, settings))
    }
}
