use std::sync::Arc;

use super::{Engine, EngineError, EngineSettings, SettingsFile};
use crate::RuntimeBuilder;
use crate::cost::{CostGuard, CostObserver, Limits, PriceBook, Pricing};

pub(super) const ENGINE: Engine = Engine {
    files: &[
        SettingsFile {
            name: "limits",
            help: "The file of cost limits",
            load: |path, settings| {
                settings.limits = Some(Limits::load(path)?);
                Ok(())
            },
        },
        SettingsFile {
            name: "prices",
            help: "The file of prices, instead of the public list prices: LiteLLM's price map as JSON, or a price list as YAML",
            load: |path, settings| {
                settings.prices = Some(PriceBook::load(path)?);
                settings.prices_as_of = None;
                Ok(())
            },
        },
    ],
    set_defaults: |settings| {
        settings.limits = Some(Limits::default());
        settings.use_public_prices();
    },
    install,
};

impl EngineSettings {
    /// Sets the prices to the public list prices.
    pub fn use_public_prices(&mut self) {
        self.prices = Some(PriceBook::public());
        self.prices_as_of = Some(PriceBook::PUBLIC_AS_OF);
    }
}

/// Adds a guard that observes costs. It throttles an agent whose exhausted objective requires `throttle`.
fn install(mut builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
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
