use std::sync::Arc;

use super::{Engine, EngineError, EngineSettings};
use crate::RuntimeBuilder;
use crate::slo::{ExhaustionAction, SliRegistry, SloEngine, SloSpec};

/// Objectives come from several files and folders, which each program reads.
pub(super) const ENGINE: Engine = Engine { files: &[], set_defaults: |_| {}, install };

fn install(builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
    if settings.slos.is_empty() {
        return Ok(builder);
    }
    if settings.takes_actions {
        settings.slos.iter().try_for_each(|spec| check_action(spec, settings))?;
    }
    let engine = SloEngine::new(settings.slos.clone(), SliRegistry::default())?.with_max_agents(settings.max_agents);
    #[cfg(feature = "trace")]
    let engine = match builder.part() {
        Some(sampler) => engine.with_listener(super::traces::listener(sampler)),
        None => engine,
    };
    Ok(builder.engine(Arc::new(engine)))
}

/// Refuses an objective whose action needs an engine without settings.
fn check_action(spec: &SloSpec, settings: &EngineSettings) -> Result<(), EngineError> {
    let action = spec.exhaustion_action();
    let missing = match action {
        ExhaustionAction::CircuitBreak if !settings.has_breakers() => "circuit breakers (`breakers`)",
        ExhaustionAction::Throttle if !settings.has_limits() => "cost limits (`limits`)",
        _ => return Ok(()),
    };
    Err(EngineError::ActionUnavailable { slo: spec.name.clone(), action, missing })
}

impl EngineSettings {
    fn has_breakers(&self) -> bool {
        #[cfg(feature = "cascade")]
        return self.breakers.is_some();
        #[cfg(not(feature = "cascade"))]
        false
    }

    fn has_limits(&self) -> bool {
        #[cfg(feature = "cost")]
        return self.limits.is_some();
        #[cfg(not(feature = "cost"))]
        false
    }
}
