use std::collections::BTreeMap;

use sre_core::yaml::ConfigError;

use super::{SloSpec, SpecError};

/// The location of an objective, and of its `inherits_from`, in a file.
#[derive(Clone, Debug)]
pub(super) struct SourceLocation {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) parent_line: u64,
}

/// Locations of objectives by name.
pub(super) type Locations = BTreeMap<String, SourceLocation>;

/// Resolves `inherits_from`: a field missing in the child is taken from the parent; labels and the fields of
/// `error_budget_policy` are merged. Specs may be in any order.
///
/// # Errors
///
/// Returns an error for an unknown parent, for a cycle, and for an objective that has neither a target nor an indicator after
/// inheritance, unless it is a parent.
pub fn resolve(specs: Vec<SloSpec>) -> Result<Vec<SloSpec>, SpecError> {
    resolve_located(&specs, &Locations::new())
}

pub(super) fn resolve_located(specs: &[SloSpec], locations: &Locations) -> Result<Vec<SloSpec>, SpecError> {
    let resolver = Resolver { by_name: specs.iter().map(|spec| (spec.name.as_str(), spec)).collect(), locations };
    let resolved: Result<Vec<SloSpec>, SpecError> =
        specs.iter().map(|spec| resolver.resolve(spec, &mut Vec::new())).collect();
    let resolved = resolved?;
    let is_parent = |name: &str| specs.iter().any(|spec| spec.inherits_from.as_deref() == Some(name));
    for spec in &resolved {
        let error = |message: String| {
            let location = locations.get(&spec.name);
            let file = location.map_or_else(|| spec.name.clone(), |location| location.file.clone());
            ConfigError::Document { file, line: location.map_or(1, |location| location.line), message }
        };
        let is_empty = spec.target.is_none() && spec.indicators.is_empty() && spec.composite.is_none();
        if is_empty && !is_parent(&spec.name) {
            let found = "found neither `target` nor `indicators`, expected at least one";
            return Err(error(format!("`{}`: {found}", spec.name)).into());
        }
        spec.components(&resolved).map_err(|invalid| error(format!("`{}`: {invalid}", spec.name)))?;
    }
    Ok(resolved)
}

struct Resolver<'a> {
    by_name: BTreeMap<&'a str, &'a SloSpec>,
    locations: &'a Locations,
}

impl<'a> Resolver<'a> {
    fn resolve(&self, spec: &'a SloSpec, children: &mut Vec<&'a str>) -> Result<SloSpec, SpecError> {
        let Some(parent_name) = &spec.inherits_from else { return Ok(spec.clone()) };
        let error = |message| SpecError::Inheritance {
            location: self.locations.get(&spec.name).map(|location| (location.file.clone(), location.parent_line)),
            slo: spec.name.clone(),
            parent: parent_name.clone(),
            message,
        };
        children.push(&spec.name);
        if children.contains(&parent_name.as_str()) {
            return Err(error(format!("found a cycle ({} → {parent_name}), expected none", children.join(" → "))));
        }
        let Some(parent) = self.by_name.get(parent_name.as_str()) else {
            let known: Vec<&str> = self.by_name.keys().copied().filter(|name| *name != spec.name).collect();
            return Err(error(format!("found no objective with this name, expected one of {}", known.join(", "))));
        };
        let parent = self.resolve(parent, children)?;
        let mut labels = parent.labels;
        labels.extend(spec.labels.clone());
        Ok(SloSpec {
            name: spec.name.clone(),
            description: spec.description.clone().or(parent.description),
            service: spec.service.clone().or(parent.service),
            target: spec.target.or(parent.target),
            window: spec.window.or(parent.window),
            calendar: spec.calendar.clone().or(parent.calendar),
            time_slices: spec.time_slices.or(parent.time_slices),
            composite: spec.composite.clone().or(parent.composite),
            indicators: if spec.indicators.is_empty() { parent.indicators } else { spec.indicators.clone() },
            good_when: spec.good_when.clone().or(parent.good_when),
            error_budget_policy: match (&spec.error_budget_policy, parent.error_budget_policy) {
                (Some(own), Some(parent)) => Some(own.merged_over(parent)),
                (own, parent) => own.clone().or(parent),
            },
            labels,
            inherits_from: None,
            openslo: spec.openslo.clone(),
        })
    }
}
