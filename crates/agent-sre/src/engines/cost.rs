use std::sync::Arc;

use super::{EngineError, EngineSettings};
use crate::RuntimeBuilder;
use crate::cost::{CostGuard, CostObserver, Limits, Pricing};

/// Adds a guard that observes costs. It throttles an agent whose exhausted objective asks for `throttle`.
pub(super) fn install(mut builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
    if let Some(prices) = &settings.prices {
        let pricing = Arc::new(Pricing::new(prices.clone()));
        builder = builder.stage(pricing.clone()).provide(pricing);
    }
    if let Some(limits) = &settings.limits {
        // Agents beyond the limit count toward the organisation's budget only.
        let limits = Limits { max_agents: limits.max_agents.min(settings.max_agents), ..limits.clone() };
        let guard = Arc::new(CostGuard::with_limits(limits)?.with_clock(settings.clock.clone()));
        let observer = Arc::new(CostObserver::new(guard.clone()));
        builder = builder.engine(observer).provide(guard.clone()).handle("throttle", guard);
    }
    Ok(builder)
}
