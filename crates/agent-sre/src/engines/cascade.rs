use std::sync::Arc;

use super::{Engine, EngineError, EngineSettings, SettingsFile};
use crate::RuntimeBuilder;
use crate::cascade::{CascadeDetector, DetectorConfig};

pub(super) const ENGINE: Engine = Engine {
    files: &[SettingsFile {
        name: "breakers",
        help: "The file of circuit breakers and cascade detection",
        load: |path, settings| {
            settings.breakers = Some(DetectorConfig::load(path)?);
            settings.quiet_sources.retain(|source| *source != SOURCE);
            Ok(())
        },
    }],
    set_defaults: |settings| {
        settings.breakers = Some(DetectorConfig::default());
        // Breakers that nobody configures protect no calls.
        settings.quiet_sources.push(SOURCE);
    },
    install,
};

/// The source of the signals of breakers and cascades.
const SOURCE: &str = "cascade";

/// Adds a detector that observes calls. It opens the breaker of an agent whose exhausted objective requires
/// `circuit_break`.
fn install(builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
    let Some(config) = &settings.breakers else { return Ok(builder) };
    let detector = Arc::new(CascadeDetector::with_config(config.clone(), settings.clock.clone())?);
    Ok(builder.engine(detector.clone()).handle("circuit_break", detector))
}
