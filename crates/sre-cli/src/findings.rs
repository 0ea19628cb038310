use std::collections::BTreeMap;

use agent_sre::alerts::default_mapping;
use agent_sre::{Alert, ExhaustionAction, SloSnapshot, Status, Timestamp, Totals};

use crate::breakers::BreakerFindings;
use crate::costs::CostFindings;
use crate::input::InputStats;
use crate::timeline::Timelines;

/// The result of a check.
#[derive(serde::Serialize)]
pub(crate) struct Findings {
    pub(crate) slos: Vec<SloSnapshot>,
    pub(crate) totals: Totals,
    pub(crate) input: InputStats,
    #[serde(flatten)]
    pub(crate) breakers: Option<BreakerFindings>,
    #[serde(flatten)]
    pub(crate) costs: Option<CostFindings>,
    /// What makes the result doubtful, such as an objective that counted nothing because its service is mistyped.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
    #[serde(skip)]
    pub(crate) timelines: Timelines,
    #[serde(skip)]
    pub(crate) evaluated_at: Timestamp,
}

impl Findings {
    /// Returns an alert per objective, and with limits per agent: one that fires if its status calls for it, else a resolution,
    /// which closes an incident that an earlier check opened. Limits that were exceeded are alerts too.
    pub(crate) fn alerts(&self, actions: &BTreeMap<String, ExhaustionAction>) -> Vec<Alert> {
        let signal = |slo: &SloSnapshot| {
            let action = actions.get(&slo.name).copied().unwrap_or_default();
            slo.status_changed(Status::Unknown, action, self.evaluated_at)
        };
        let costs = self.costs.iter().flat_map(|costs| &costs.costs).flat_map(|costs| &costs.signals);
        let signals = self.slos.iter().map(signal).chain(costs.cloned());
        signals.filter_map(|signal| default_mapping(&signal)).collect()
    }
}
