use std::collections::{BTreeMap, BTreeSet};

use sre_core::yaml::ConfigError;

use super::{SloSpec, SpecError, SpecErrors};

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
/// Returns an error for each unknown parent and cycle, and for each objective that has neither a target nor an indicator after
/// inheritance, unless it is a parent.
pub fn resolve(specs: Vec<SloSpec>) -> Result<Vec<SloSpec>, SpecErrors> {
    let mut errors = Vec::new();
    let resolved = resolve_located(&specs, &Locations::new(), &BTreeSet::new(), &mut errors);
    SpecErrors::check(errors, resolved)
}

/// Resolves specs, of which those named in `invalid` are incomplete because of errors: what they miss is no further error.
pub(super) fn resolve_located(
    specs: &[SloSpec],
    locations: &Locations,
    invalid: &BTreeSet<String>,
    errors: &mut Vec<SpecError>,
) -> Vec<SloSpec> {
    let resolver = Resolver { by_name: specs.iter().map(|spec| (spec.name.as_str(), spec)).collect(), locations };
    let is_parent = |name: &str| specs.iter().any(|spec| spec.inherits_from.as_deref() == Some(name));
    let (mut all, mut complete) = (Vec::new(), Vec::new());
    for spec in specs {
        let mut ancestry = Vec::new();
        let resolved = resolver.resolve(spec, &mut ancestry);
        complete.push(resolved.is_ok() && !ancestry.iter().any(|name| invalid.contains(*name)));
        all.push(resolved.unwrap_or_else(|error| {
            // The error of a parent is that of its children too.
            if !errors.iter().any(|known| known.to_string() == error.to_string()) {
                errors.push(error);
            }
            spec.clone()
        }));
    }
    for (spec, is_complete) in all.iter().zip(complete) {
        let name = &*spec.name;
        let (file, line) = locations.get(name).map_or((name, 1), |location| (&*location.file, location.line));
        let error = |message: &str| ConfigError::document(file, line, format!("`{name}`: {message}")).into();
        let is_empty = spec.target.is_none() && spec.indicators.is_empty() && spec.composite.is_none();
        if is_complete && is_empty && !is_parent(name) {
            errors.push(error("found neither `target` nor `indicators`, expected at least one"));
        }
        if let Some(invalid) = is_complete.then(|| spec.budget_config(None).check().err()).flatten() {
            errors.push(error(&invalid.to_string()));
        }
        let of_composite = spec.composite_errors(&all, is_complete);
        errors.extend(of_composite.iter().map(|invalid| error(&invalid.to_string())));
    }
    all
}

struct Resolver<'a> {
    by_name: BTreeMap<&'a str, &'a SloSpec>,
    locations: &'a Locations,
}

impl<'a> Resolver<'a> {
    /// Returns the spec with what it inherits. `ancestry` gets its name and those of its ancestors.
    fn resolve(&self, spec: &'a SloSpec, ancestry: &mut Vec<&'a str>) -> Result<SloSpec, SpecError> {
        ancestry.push(&spec.name);
        let Some(parent_name) = &spec.inherits_from else { return Ok(spec.clone()) };
        let error = |message| SpecError::Inheritance {
            location: self.locations.get(&spec.name).map(|location| (location.file.clone(), location.parent_line)),
            slo: spec.name.clone(),
            parent: parent_name.clone(),
            message,
        };
        if ancestry.contains(&parent_name.as_str()) {
            return Err(error(format!("found a cycle ({} → {parent_name}), expected none", ancestry.join(" → "))));
        }
        let Some(parent) = self.by_name.get(parent_name.as_str()) else {
            let known: Vec<&str> = self.by_name.keys().copied().filter(|name| *name != spec.name).collect();
            return Err(error(format!("found no objective with this name, expected one of {}", known.join(", "))));
        };
        let parent = self.resolve(parent, ancestry)?;
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
