use std::sync::Arc;

use super::{EngineError, EngineSettings};
use crate::RuntimeBuilder;
use crate::cascade::CascadeDetector;

/// Adds a detector that observes calls. It opens the breaker of an agent whose exhausted objective asks for
/// `circuit_break`.
pub(super) fn install(builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
    let Some(config) = &settings.breakers else { return Ok(builder) };
    let detector = Arc::new(CascadeDetector::with_config(config.clone(), settings.clock.clone())?);
    Ok(builder.engine(detector.clone()).handle("circuit_break", detector))
}
