//! Checks of objectives that were not read from a file.

use super::SloSpec;
use crate::{BurnPolicy, Calendar};

/// An invalid field of an [`SloSpec`] that was not read from a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct InvalidSpec {
    /// The path of the field.
    pub field: String,
    /// The value found.
    pub found: String,
    /// The valid values.
    pub expected: String,
}

impl InvalidSpec {
    pub(crate) fn new(field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { field: field.into(), found: found.into(), expected: expected.into() }
    }
}

fn invalid(field: &str, found: &str, expected: &str) -> Result<(), InvalidSpec> {
    Err(InvalidSpec::new(field, found, expected))
}

impl SloSpec {
    /// Checks what the types of the fields allow and the YAML reader refuses.
    pub(crate) fn check(&self) -> Result<(), InvalidSpec> {
        if self.name.trim().is_empty() {
            return invalid("name", "nothing", "a name");
        }
        if let Some(parent) = &self.inherits_from {
            return invalid("inherits_from", parent, "a spec whose parent is resolved by `sre_slo::resolve`");
        }
        if let Some(Err(error)) = self.calendar.as_ref().map(Calendar::try_from) {
            return invalid(&format!("calendar.{}", error.field), &error.found, error.expected);
        }
        if let Some(policy) = &self.error_budget_policy {
            match policy.policy.as_deref() {
                Some(name) if BurnPolicy::named(name).is_none() => {
                    return invalid("error_budget_policy.policy", name, "sre-workbook");
                }
                Some(_) if !policy.thresholds.is_empty() => {
                    return invalid("error_budget_policy", "both `policy` and `thresholds`", "one of them");
                }
                _ => {}
            }
        }
        if let Some(good_when) = &self.good_when {
            if !good_when.event.has_outcome() {
                let expected = "an event with an outcome, such as task_finished";
                return invalid("good_when.event", &good_when.event.to_string(), expected);
            }
            if let Some(most) = good_when.max_duration_ms.filter(|ms| !(0.0..f64::INFINITY).contains(ms)) {
                return invalid("good_when.max_duration_ms", &most.to_string(), "milliseconds, at least 0");
            }
            if let Some(most) = good_when.max_cost_usd.filter(|most| most.is_negative()) {
                return invalid("good_when.max_cost_usd", &most.to_string(), "an amount of dollars, at least 0");
            }
        }
        self.check_names()
    }

    /// Checks that the given names of indicators are unique.
    pub(super) fn check_names(&self) -> Result<(), InvalidSpec> {
        for (index, indicator) in self.indicators.iter().enumerate() {
            let Some(name) = &indicator.name else { continue };
            let field = format!("indicators[{index}].name");
            if name.trim().is_empty() {
                return invalid(&field, "nothing", "a name");
            }
            if self.indicators[..index].iter().any(|other| other.name.as_ref() == Some(name)) {
                return invalid(&field, name, "a name that no other indicator of the objective has");
            }
        }
        Ok(())
    }
}
