mod alerts;
mod composite;
mod guards;
mod indicator;
mod slo;
mod totals;

pub use alerts::{AlertsSnapshot, ChannelSnapshot};
pub use composite::{ComponentSnapshot, CompositeMethod};
pub use indicator::IndicatorSnapshot;
pub use slo::{BurnAlert, BurnRate, ErrorBudgetSnapshot, SloSnapshot};
pub use totals::{Tally, Totals};

use serde::{Deserialize, Serialize};

use crate::{BreakerSnapshot, CascadeReport, CostsSnapshot, Metric};

/// The state of an engine at one moment, for the API and for backends that need more than metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "snapshot", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Snapshot {
    /// An objective of an agent.
    Slo(Box<SloSnapshot>),
    /// Sums over all events.
    Totals(Totals),
    /// The state of alerting.
    Alerts(AlertsSnapshot),
    /// A circuit breaker.
    Breaker(BreakerSnapshot),
    /// A cascade in progress.
    Cascade(CascadeReport),
    /// All budgets.
    Costs(CostsSnapshot),
}

impl Snapshot {
    /// Emits the snapshot's metrics.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        match self {
            Self::Slo(slo) => slo.metrics(emit),
            Self::Totals(totals) => totals.metrics(emit),
            Self::Alerts(alerts) => alerts.metrics(emit),
            Self::Breaker(breaker) => breaker.metrics(emit),
            Self::Cascade(cascade) => cascade.metrics(emit),
            Self::Costs(costs) => costs.metrics(emit),
        }
    }
}
