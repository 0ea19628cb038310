use std::sync::Arc;

use super::{EngineError, EngineSettings};
use crate::RuntimeBuilder;
use crate::slo::{SliRegistry, SloEngine};

pub(super) fn install(builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
    if settings.slos.is_empty() {
        return Ok(builder);
    }
    let engine = SloEngine::new(settings.slos.clone(), SliRegistry::default())?;
    Ok(builder.engine(Arc::new(engine.with_max_agents(settings.max_agents))))
}
