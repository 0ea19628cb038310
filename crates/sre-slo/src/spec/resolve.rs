use std::collections::BTreeMap;

use super::{SloSpec, SpecError};

/// Fills in what objectives inherit: a field that the child does not write comes from the parent, and labels merge.
///
/// Parents may come in any order. An unknown parent and a cycle are errors, and so is an objective that in the end has
/// neither a target nor an indicator, unless it is a parent.
pub fn resolve(specs: Vec<SloSpec>) -> Result<Vec<SloSpec>, SpecError> {
    let by_name: BTreeMap<&str, &SloSpec> = specs.iter().map(|spec| (spec.name.as_str(), spec)).collect();
    let resolved: Result<Vec<SloSpec>, SpecError> =
        specs.iter().map(|spec| resolve_one(spec, &by_name, &mut Vec::new())).collect();
    let resolved = resolved?;
    let is_parent = |name: &str| specs.iter().any(|spec| spec.inherits_from.as_deref() == Some(name));
    match resolved.iter().find(|spec| spec.target.is_none() && spec.indicators.is_empty() && !is_parent(&spec.name)) {
        Some(spec) => Err(SpecError::Inheritance {
            slo: spec.name.clone(),
            parent: "-".to_owned(),
            message: "found neither `target` nor `indicators`, expected at least one".to_owned(),
        }),
        None => Ok(resolved),
    }
}

fn resolve_one<'a>(
    spec: &'a SloSpec,
    by_name: &BTreeMap<&str, &'a SloSpec>,
    children: &mut Vec<&'a str>,
) -> Result<SloSpec, SpecError> {
    let Some(parent_name) = &spec.inherits_from else { return Ok(spec.clone()) };
    let error = |message| SpecError::Inheritance { slo: spec.name.clone(), parent: parent_name.clone(), message };
    children.push(&spec.name);
    if children.contains(&parent_name.as_str()) {
        return Err(error(format!("found a cycle ({} → {parent_name}), expected none", children.join(" → "))));
    }
    let Some(parent) = by_name.get(parent_name.as_str()) else {
        let known: Vec<&str> = by_name.keys().copied().filter(|name| *name != spec.name).collect();
        return Err(error(format!("found no objective of this name, expected one of {}", known.join(", "))));
    };
    let parent = resolve_one(parent, by_name, children)?;
    let mut labels = parent.labels;
    labels.extend(spec.labels.clone());
    Ok(SloSpec {
        name: spec.name.clone(),
        description: spec.description.clone().or(parent.description),
        service: spec.service.clone().or(parent.service),
        target: spec.target.or(parent.target),
        window: spec.window.or(parent.window),
        indicators: if spec.indicators.is_empty() { parent.indicators } else { spec.indicators.clone() },
        good_when: spec.good_when.clone().or(parent.good_when),
        error_budget_policy: spec.error_budget_policy.clone().or(parent.error_budget_policy),
        labels,
        inherits_from: None,
        openslo: spec.openslo.clone(),
    })
}
