//! Creates objectives from their specs.

use sre_core::{Sli, SliSpec, Unit};

use super::Slo;
use super::indicator::Indicator;
use crate::budget::{BudgetConfig, ErrorBudget, InvalidBudget};
use crate::composite::{Component, Composite};
use crate::registry::{IndicatorError, SliRegistry};
use crate::{GoodWhen, InvalidSpec, SloSpec};

/// An error from creating an objective.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A field of the spec is invalid.
    #[error("`{slo}`: {source}")]
    Spec {
        /// The objective.
        slo: String,
        /// The cause.
        source: InvalidSpec,
    },
    /// An indicator's type or parameter is invalid.
    #[error("`{slo}`: {source}")]
    Indicator {
        /// The objective.
        slo: String,
        /// The cause.
        source: IndicatorError,
    },
    /// The error budget is invalid.
    #[error("`{slo}`: {source}")]
    Budget {
        /// The objective.
        slo: String,
        /// The cause.
        source: InvalidBudget,
    },
}

impl Slo {
    /// Creates the objective of `agent` from a spec that is not a composite.
    ///
    /// # Errors
    ///
    /// Returns an error if a field of the spec, an indicator or the error budget is invalid.
    pub fn from_spec(spec: &SloSpec, agent: &str, registry: &SliRegistry) -> Result<Self, BuildError> {
        Self::from_specs(spec, &[], agent, registry)
    }

    /// Creates the objective of `agent` from a spec. The objectives of a composite are found in `specs`; with an empty agent it
    /// covers all agents.
    ///
    /// # Errors
    ///
    /// Returns an error if a field of a spec, an indicator or the error budget is invalid.
    pub fn from_specs(
        spec: &SloSpec,
        specs: &[SloSpec],
        agent: &str,
        registry: &SliRegistry,
    ) -> Result<Self, BuildError> {
        let spec_error = |source| BuildError::Spec { slo: spec.name.clone(), source };
        let parts = spec.components(specs).map_err(spec_error)?;
        let mut slo = Self::plain(spec, agent, registry)?;
        if let Some(composite) = &spec.composite {
            let mut components = Vec::new();
            for (part, component) in parts.into_iter().zip(&composite.objectives) {
                let agent = if agent.is_empty() { part.service().unwrap_or_default() } else { agent };
                let slo = Self::component(part, agent, slo.budget.config(), registry)?;
                components.push(Component { weight: component.weight, slo });
            }
            slo.composite = Some(Composite { method: composite.method, components });
        }
        Ok(slo)
    }

    /// Creates what counts the events of an objective over the windows of a composite.
    fn component(
        spec: &SloSpec,
        agent: &str,
        composite: &BudgetConfig,
        registry: &SliRegistry,
    ) -> Result<Self, BuildError> {
        let mut slo = Self::plain(spec, agent, registry)?;
        slo.indicators.clear();
        let own = slo.budget.config();
        let config = BudgetConfig { total: own.total, time_slices: own.time_slices, ..composite.clone() };
        slo.budget =
            ErrorBudget::new(config).map_err(|source| BuildError::Budget { slo: spec.name.clone(), source })?;
        Ok(slo)
    }

    fn plain(spec: &SloSpec, agent: &str, registry: &SliRegistry) -> Result<Self, BuildError> {
        spec.check().map_err(|source| BuildError::Spec { slo: spec.name.clone(), source })?;
        let (foreign, own): (Vec<_>, Vec<_>) = spec.indicators.iter().partition(|indicator| indicator.is_external());
        let slis: Result<Vec<_>, _> =
            own.iter().map(|indicator| registry.create(&indicator.for_slo(spec.target))).collect();
        let slis = slis.map_err(|source| BuildError::Indicator { slo: spec.name.clone(), source })?;
        let good_when = spec.good_when.clone().unwrap_or_default();
        let deciding = slis.iter().zip(&own).filter(|(_, indicator)| !indicator.informational).map(|(sli, _)| &**sli);
        let config = spec.budget_config(strictest_budget(deciding, &good_when));
        let budget_error = |source| BuildError::Budget { slo: spec.name.clone(), source };
        let mut not_evaluable: Vec<String> = foreign.iter().map(|indicator| indicator.external_name()).collect();
        not_evaluable.extend(spec.openslo.as_ref().and_then(crate::OpenSloOrigin::not_evaluable));
        let only_foreign = !foreign.is_empty() && slis.is_empty() && spec.good_when.is_none();
        let mut slo = Self::new(spec.name.clone(), Vec::new())
            .map_err(budget_error)?
            .for_agent(agent)
            .with_description(spec.description.clone().unwrap_or_default())
            .with_labels(spec.labels.clone())
            .with_budget(ErrorBudget::new(config).map_err(budget_error)?)
            .with_good_when(good_when);
        let named = own.iter().map(|indicator| (indicator.name.clone(), indicator.informational));
        slo.indicators = Indicator::of_objective(
            slis.into_iter().zip(named).map(|(sli, (name, informational))| (sli, name, informational)),
        );
        slo.not_evaluable = not_evaluable;
        if only_foreign {
            slo.good_when = None;
        }
        Ok(slo.with_policies())
    }
}

/// Returns the smallest budget among the ratio indicators that count the objective's own events or, without any, among all ratio
/// indicators. Other indicators do not define the objective's.
pub(super) fn strictest_budget<'a>(
    indicators: impl Iterator<Item = &'a dyn Sli> + Clone,
    good_when: &GoodWhen,
) -> Option<f64> {
    let is_ratio = |spec: &SliSpec| spec.unit == Unit::Ratio && spec.percentile.is_none();
    let strictest = |counts: &dyn Fn(&dyn Sli) -> bool| {
        let ratios = indicators.clone().filter(|indicator| is_ratio(indicator.spec()) && counts(*indicator));
        ratios.filter_map(|indicator| indicator.spec().error_budget()).min_by(f64::total_cmp)
    };
    strictest(&|indicator| good_when.counts_samples_of(indicator)).or_else(|| strictest(&|_| true))
}
