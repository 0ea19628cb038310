//! Creates objectives from their specs.

use sre_core::{Sli, SliSpec, Unit};

use super::Slo;
use crate::SloSpec;
use crate::budget::{ErrorBudget, InvalidBudget};
use crate::registry::{IndicatorError, SliRegistry};

/// An error from creating an objective.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
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
    /// Creates the objective of `agent` from a spec.
    ///
    /// # Errors
    ///
    /// Returns an error if an indicator or the error budget is invalid.
    pub fn from_spec(spec: &SloSpec, agent: &str, registry: &SliRegistry) -> Result<Self, BuildError> {
        let (foreign, own): (Vec<_>, Vec<_>) = spec.indicators.iter().partition(|indicator| indicator.is_external());
        let informational = own.iter().map(|indicator| indicator.informational).collect();
        let indicators: Result<Vec<_>, _> =
            own.into_iter().map(|indicator| registry.create(&indicator.for_slo(spec.target))).collect();
        let indicators = indicators.map_err(|source| BuildError::Indicator { slo: spec.name.clone(), source })?;
        let config = spec.budget_config(strictest_budget(&indicators));
        let budget_error = |source| BuildError::Budget { slo: spec.name.clone(), source };
        let mut not_evaluable: Vec<String> = foreign.iter().map(|indicator| indicator.external_name()).collect();
        not_evaluable.extend(spec.openslo.as_ref().and_then(crate::OpenSloOrigin::not_evaluable));
        let only_foreign = !foreign.is_empty() && indicators.is_empty() && spec.good_when.is_none();
        let mut slo = Self::new(spec.name.clone(), indicators)
            .map_err(budget_error)?
            .for_agent(agent)
            .with_description(spec.description.clone().unwrap_or_default())
            .with_labels(spec.labels.clone())
            .with_budget(ErrorBudget::new(config).map_err(budget_error)?)
            .with_good_when(spec.good_when.clone().unwrap_or_default());
        slo.not_evaluable = not_evaluable;
        slo.informational = informational;
        if only_foreign {
            slo.good_when = None;
        }
        Ok(slo.with_consequences())
    }
}

/// Returns the smallest budget among the ratio indicators. Other indicators do not define the objective's.
pub(super) fn strictest_budget(indicators: &[Box<dyn Sli>]) -> Option<f64> {
    let specs = indicators.iter().map(|indicator| indicator.spec());
    let ratios = specs.filter(|spec| spec.unit == Unit::Ratio && spec.percentile.is_none());
    ratios.filter_map(SliSpec::error_budget).min_by(f64::total_cmp)
}
