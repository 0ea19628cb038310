use std::collections::BTreeMap;

use sre_core::yaml::ConfigError;

use super::{SloSpec, SpecError};

/// Where an objective was read from, and where it names its parent.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) parent_line: u64,
}

/// The places of objectives, by name.
pub(super) type Places = BTreeMap<String, Place>;

/// Fills in what objectives inherit: a field that the child does not write comes from the parent, and labels merge.
///
/// Parents may come in any order. An unknown parent and a cycle are errors, and so is an objective that in the end has
/// neither a target nor an indicator, unless it is a parent.
pub fn resolve(specs: Vec<SloSpec>) -> Result<Vec<SloSpec>, SpecError> {
    resolve_placed(&specs, &Places::new())
}

pub(super) fn resolve_placed(specs: &[SloSpec], places: &Places) -> Result<Vec<SloSpec>, SpecError> {
    let family = Family { by_name: specs.iter().map(|spec| (spec.name.as_str(), spec)).collect(), places };
    let resolved: Result<Vec<SloSpec>, SpecError> =
        specs.iter().map(|spec| family.resolve(spec, &mut Vec::new())).collect();
    let resolved = resolved?;
    let is_parent = |name: &str| specs.iter().any(|spec| spec.inherits_from.as_deref() == Some(name));
    match resolved.iter().find(|spec| spec.target.is_none() && spec.indicators.is_empty() && !is_parent(&spec.name)) {
        Some(spec) => Err(ConfigError::Document {
            file: places.get(&spec.name).map_or_else(|| spec.name.clone(), |place| place.file.clone()),
            line: places.get(&spec.name).map_or(1, |place| place.line),
            message: format!("`{}`: found neither `target` nor `indicators`, expected at least one", spec.name),
        }
        .into()),
        None => Ok(resolved),
    }
}

struct Family<'a> {
    by_name: BTreeMap<&'a str, &'a SloSpec>,
    places: &'a Places,
}

impl<'a> Family<'a> {
    fn resolve(&self, spec: &'a SloSpec, children: &mut Vec<&'a str>) -> Result<SloSpec, SpecError> {
        let Some(parent_name) = &spec.inherits_from else { return Ok(spec.clone()) };
        let error = |message| SpecError::Inheritance {
            place: self.places.get(&spec.name).map(|place| (place.file.clone(), place.parent_line)),
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
            return Err(error(format!("found no objective of this name, expected one of {}", known.join(", "))));
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
            indicators: if spec.indicators.is_empty() { parent.indicators } else { spec.indicators.clone() },
            good_when: spec.good_when.clone().or(parent.good_when),
            error_budget_policy: spec.error_budget_policy.clone().or(parent.error_budget_policy),
            labels,
            inherits_from: None,
            openslo: spec.openslo.clone(),
        })
    }
}
