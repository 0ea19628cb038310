use std::collections::BTreeMap;

use serde_json::{Value, json};
use sre_core::yaml::{ConfigError, documents};
use sre_core::{CompositeMethod, Severity, Window};

use super::error::DocumentErrors;
use super::origin::OpenSloOrigin;
use super::{BudgetPolicySpec, EXTERNAL, IndicatorSpec, SloSpec, SpecErrors, objective, yaml_document};
use crate::{BurnThreshold, Calendar, CalendarSpec, SliRegistry, SloTarget, TimeSlices};

/// The type of metric sources that hold indicators of this crate.
const OWN_SOURCE: &str = "agent-sre";
const API_VERSION: &str = "openslo/v1";

/// Reads OpenSLO v1 documents. Each objective of an SLO becomes a [`SloSpec`]. References to SLI, AlertPolicy and
/// AlertCondition documents are resolved by name; documents of other kinds are ignored.
///
/// A metric source of type `agent-sre` holds an indicator of this crate. Other sources are preserved and reported as not
/// evaluated.
///
/// # Errors
///
/// Returns every error, with line and field.
pub fn from_openslo(text: &str, file: &str, registry: &SliRegistry) -> Result<Vec<SloSpec>, SpecErrors> {
    let documents = documents(text, file)?;
    let values: Vec<(u64, Value)> = documents.iter().map(|node| (node.line, node.to_value())).collect();
    let mut errors = DocumentErrors::default();
    let specs = import(&values, file, registry, &mut errors);
    SpecErrors::check(errors.into_sorted().collect(), specs)
}

/// Reads the objectives of OpenSLO documents, each with its line, and records the errors of those that are invalid.
pub(super) fn import(
    documents: &[(u64, Value)],
    file: &str,
    registry: &SliRegistry,
    errors: &mut DocumentErrors,
) -> Vec<SloSpec> {
    let mut specs = Vec::new();
    for (line, document) in documents {
        let import = Import { file, line: *line, document, documents, registry };
        match import.objectives() {
            Ok(found) => specs.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    specs
}

struct Import<'a> {
    file: &'a str,
    line: u64,
    document: &'a Value,
    documents: &'a [(u64, Value)],
    registry: &'a SliRegistry,
}

impl Import<'_> {
    /// Returns the objectives of an SLO; none of a document of another kind.
    fn objectives(&self) -> Result<Vec<SloSpec>, DocumentErrors> {
        if self.document["apiVersion"] != API_VERSION {
            return Err(self.error("apiVersion", &self.document["apiVersion"], API_VERSION).into());
        }
        if self.document["kind"] != "SLO" {
            return Ok(Vec::new());
        }
        let spec = &self.document["spec"];
        let name = self.text(&self.document["metadata"]["name"], "metadata.name")?;
        let Some(objectives) = spec["objectives"].as_array().filter(|objectives| !objectives.is_empty()) else {
            return Err(self.error("spec.objectives", &spec["objectives"], "at least one objective").into());
        };
        let mut referenced = Vec::new();
        let (sli_name, sli) = self.indicator(&mut referenced)?;
        let policy = self.alert_policy(&mut referenced)?;
        let mut specs = Vec::new();
        for (index, objective) in objectives.iter().enumerate() {
            let mut imported = self.own_or_external(&sli_name, &sli)?;
            imported.name =
                if objectives.len() == 1 { name.clone() } else { format!("{name}-{}", slug(objective, index)) };
            imported.description = spec["description"].as_str().map(str::to_owned);
            imported.service = spec["service"].as_str().map(str::to_owned);
            let target = self.target(objective, index)?;
            let is_worst =
                imported.composite.as_ref().is_some_and(|composite| composite.method == CompositeMethod::Worst);
            imported.target = (!is_worst).then_some(target);
            imported.window = self.window(&spec["timeWindow"][0])?;
            imported.calendar = self.calendar(&spec["timeWindow"][0])?;
            imported.time_slices = self.time_slices(objective, index)?;
            imported.labels = labels(&self.document["metadata"]["labels"]);
            if !policy.is_empty() {
                let kept = imported.error_budget_policy.get_or_insert_default();
                if kept.policy.is_none() {
                    kept.thresholds.clone_from(&policy);
                }
            }
            imported.openslo = Some(OpenSloOrigin {
                document: self.document.clone(),
                objective: index,
                referenced: referenced.clone(),
            });
            specs.push(imported);
        }
        Ok(specs)
    }

    /// Returns the name and document of the SLI, which is inline or referenced by name.
    fn indicator(&self, referenced: &mut Vec<Value>) -> Result<(String, Value), ConfigError> {
        let spec = &self.document["spec"];
        if let Some(name) = spec["indicatorRef"].as_str() {
            let document = self.named("SLI", name, "spec.indicatorRef")?;
            referenced.push(document.clone());
            return Ok((name.to_owned(), document["spec"].clone()));
        }
        let inline = &spec["indicator"];
        let name = inline["metadata"]["name"].as_str().unwrap_or("indicator");
        Ok((name.to_owned(), inline["spec"].clone()))
    }

    fn own_or_external(&self, name: &str, sli: &Value) -> Result<SloSpec, DocumentErrors> {
        let source =
            ["/ratioMetric/good", "/ratioMetric/bad", "/ratioMetric/total", "/ratioMetric/raw", "/thresholdMetric"]
                .iter()
                .find_map(|path| sli.pointer(path))
                .map_or(&Value::Null, |metric| &metric["metricSource"]);
        let kind = source["type"].as_str().unwrap_or("none");
        if kind == OWN_SOURCE {
            return objective::own_fields(&source["spec"], self.file, self.line, self.registry);
        }
        let params = [("name", json!(name)), ("source", json!(kind)), ("spec", sli.clone())];
        let params = params.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        Ok(SloSpec { indicators: vec![IndicatorSpec { params, ..IndicatorSpec::new(EXTERNAL) }], ..Default::default() })
    }

    fn target(&self, objective: &Value, index: usize) -> Result<SloTarget, ConfigError> {
        let field = format!("spec.objectives[{index}].target");
        let expected = "`target` as a ratio below 1, or `targetPercent`";
        let ratio = match (objective["target"].as_f64(), objective["targetPercent"].as_f64()) {
            (Some(ratio), _) => ratio,
            (None, Some(percent)) => percent / 100.0,
            (None, None) => return Err(self.error(&field, &objective["target"], expected)),
        };
        SloTarget::try_from(ratio).map_err(|_| self.error(&field, &json!(ratio), expected))
    }

    fn window(&self, window: &Value) -> Result<Option<Window>, ConfigError> {
        let Some(duration) = window["duration"].as_str() else { return Ok(None) };
        let calendar = window["isRolling"] == Value::Bool(false);
        duration_of(duration, calendar)
            .map(Some)
            .ok_or_else(|| self.error("spec.timeWindow[0].duration", &window["duration"], "such as 28d, 4w, 1M or 1Q"))
    }

    fn calendar(&self, window: &Value) -> Result<Option<CalendarSpec>, ConfigError> {
        let calendar = &window["calendar"];
        if window["isRolling"] != Value::Bool(false) || calendar.is_null() {
            return Ok(None);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // `m` means months here: see `duration_of`.
        let period = text(&window["duration"]).replace('m', "M");
        let zone = calendar["timeZone"].as_str().unwrap_or("UTC").to_owned();
        let spec = CalendarSpec { start: text(&calendar["startTime"]), time_zone: zone, period };
        let valid = Calendar::try_from(&spec);
        valid.map(|_| Some(spec)).map_err(|error| {
            self.error(&format!("spec.timeWindow[0] ({})", error.field), &json!(error.found), error.expected)
        })
    }

    fn time_slices(&self, objective: &Value, index: usize) -> Result<Option<TimeSlices>, ConfigError> {
        if self.document["spec"]["budgetingMethod"] != "Timeslices" {
            return Ok(None);
        }
        let field = |name: &str| format!("spec.objectives[{index}].{name}");
        let (target, window) = (&objective["timeSliceTarget"], &objective["timeSliceWindow"]);
        let ratio = target.as_f64().and_then(|ratio| SloTarget::try_from(ratio).ok());
        let ratio =
            ratio.ok_or_else(|| self.error(&field("timeSliceTarget"), target, "a ratio above 0 and up to 1"))?;
        // The window may be a number of minutes.
        let length = window.as_str().and_then(|text| duration_of(text, false)).or(window.as_u64().map(Window::minutes));
        let length = length.ok_or_else(|| self.error(&field("timeSliceWindow"), window, "a duration such as 1m"))?;
        Ok(Some(TimeSlices { window: length, target: ratio }))
    }

    /// Returns the burn-rate conditions of all alert policies as thresholds.
    fn alert_policy(&self, referenced: &mut Vec<Value>) -> Result<Vec<BurnThreshold>, ConfigError> {
        let mut thresholds = Vec::new();
        for policy in self.document["spec"]["alertPolicies"].as_array().into_iter().flatten() {
            let name = policy.as_str().or_else(|| policy["alertPolicyRef"].as_str());
            let policy = match name {
                Some(name) => self.refer("AlertPolicy", name, "spec.alertPolicies", referenced)?,
                None => policy.clone(),
            };
            for condition in policy["spec"]["conditions"].as_array().into_iter().flatten() {
                let condition = match condition["conditionRef"].as_str() {
                    Some(name) => self.refer("AlertCondition", name, "conditionRef", referenced)?,
                    None => condition.clone(),
                };
                let (spec, burn) = (&condition["spec"], &condition["spec"]["condition"]);
                if burn["kind"] != "burnrate" {
                    continue;
                }
                let rate = burn["threshold"].as_f64().filter(|rate| *rate > 0.0);
                let window = burn["lookbackWindow"].as_str().and_then(|text| duration_of(text, false));
                let (Some(rate), Some(window)) = (rate, window) else {
                    return Err(self.error("condition", burn, "`threshold` above 0 and `lookbackWindow` such as 1h"));
                };
                thresholds.push(BurnThreshold { rate, severity: severity_of(&spec["severity"]), window });
            }
        }
        Ok(thresholds)
    }

    fn refer(&self, kind: &str, name: &str, field: &str, seen: &mut Vec<Value>) -> Result<Value, ConfigError> {
        let document = self.named(kind, name, field)?.clone();
        seen.push(document.clone());
        Ok(document)
    }

    fn named(&self, kind: &str, name: &str, field: &str) -> Result<&Value, ConfigError> {
        self.documents
            .iter()
            .map(|(_, document)| document)
            .find(|document| document["kind"] == kind && document["metadata"]["name"] == name)
            .ok_or_else(|| {
                self.error(field, &json!(name), &format!("the name of a document of kind {kind} in the same file"))
            })
    }

    fn text(&self, value: &Value, field: &str) -> Result<String, ConfigError> {
        value.as_str().map(str::to_owned).ok_or_else(|| self.error(field, value, "a text"))
    }

    fn error(&self, field: &str, found: &Value, expected: &str) -> ConfigError {
        ConfigError::Field {
            file: self.file.to_owned(),
            line: self.line,
            field: field.to_owned(),
            found: if found.is_null() { "nothing".to_owned() } else { found.to_string() },
            expected: expected.to_owned(),
        }
    }
}

/// Writes objectives as OpenSLO v1. Imported documents are written unchanged except for target, window, service and description;
/// indicators of this crate go into a metric source of type `agent-sre`.
pub fn to_openslo(specs: &[SloSpec]) -> String {
    let mut documents: Vec<Value> = Vec::new();
    for spec in specs {
        match &spec.openslo {
            Some(origin) => restore(spec, origin, &mut documents),
            None => documents.extend(compose(spec)),
        }
    }
    documents.iter().map(yaml_document).collect::<Vec<_>>().join("---\n")
}

fn restore(spec: &SloSpec, origin: &OpenSloOrigin, documents: &mut Vec<Value>) {
    let same = |document: &Value| document["kind"] == "SLO" && document["metadata"] == origin.document["metadata"];
    let position = documents.iter().position(same).unwrap_or_else(|| {
        documents.push(origin.document.clone());
        documents.len() - 1
    });
    let body = &mut documents[position]["spec"];
    if let Some(objective) = body["objectives"].get_mut(origin.objective)
        && let Some(target) = spec.target
    {
        match objective.get("targetPercent") {
            Some(percent) if percent.as_f64().map(|percent| percent / 100.0) != Some(target.ratio()) => {
                objective["targetPercent"] = json!(crate::target::round_to_12_decimals(target.ratio() * 100.0));
            }
            Some(_) => {}
            None => objective["target"] = json!(target.ratio()),
        }
    }
    for (field, value) in [("description", &spec.description), ("service", &spec.service)] {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    if let Some(window) = spec.window
        && let Some(written) = body["timeWindow"].get_mut(0)
        && written["duration"].as_str().and_then(|text| duration_of(text, written["isRolling"] == false))
            != Some(window)
    {
        written["duration"] = json!(window.to_string());
    }
    for document in &origin.referenced {
        if !documents.contains(document) {
            documents.push(document.clone());
        }
    }
}

fn compose(spec: &SloSpec) -> Vec<Value> {
    let mut fields = BTreeMap::from([("indicators", json!(spec.indicators))]);
    if let Some(composite) = &spec.composite {
        fields.insert("composite", json!(composite));
    }
    if let Some(good_when) = &spec.good_when {
        fields.insert("good_when", json!(good_when));
    }
    let policy = spec.error_budget_policy.clone().unwrap_or_default();
    let beyond = BudgetPolicySpec { thresholds: Vec::new(), ..policy.clone() };
    if beyond != BudgetPolicySpec::default() {
        fields.insert("error_budget_policy", json!(beyond));
    }
    let source = json!({"metricSource": {"type": OWN_SOURCE, "spec": fields}});
    let metadata = |name: &str| json!({"name": name});
    let mut slo = json!({
        "apiVersion": API_VERSION,
        "kind": "SLO",
        "metadata": {"name": spec.name, "labels": spec.labels},
        "spec": {
            "service": spec.service.clone().unwrap_or_default(),
            "indicator": {
                "metadata": metadata(&format!("{}-sli", spec.name)),
                "spec": {"ratioMetric": {"good": source, "total": source}},
            },
            "timeWindow": [{"duration": spec.window.unwrap_or(Window::MONTH).to_string(), "isRolling": true}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"target": spec.target.map_or_else(|| 1.0 - spec_budget(spec), SloTarget::ratio)}],
        },
    });
    if let Some(slices) = spec.time_slices {
        slo["spec"]["budgetingMethod"] = json!("Timeslices");
        slo["spec"]["objectives"][0]["timeSliceTarget"] = json!(slices.target);
        slo["spec"]["objectives"][0]["timeSliceWindow"] = json!(slices.window);
    }
    if let Some(calendar) = &spec.calendar {
        slo["spec"]["timeWindow"] = json!([{
            "duration": calendar.period,
            "isRolling": false,
            "calendar": {"startTime": calendar.start, "timeZone": calendar.time_zone},
        }]);
    }
    if let Some(description) = &spec.description {
        slo["spec"]["description"] = json!(description);
    }
    let mut documents = Vec::new();
    if !policy.thresholds.is_empty() {
        let name = format!("{}-burn", spec.name);
        slo["spec"]["alertPolicies"] = json!([name]);
        let mut conditions = Vec::new();
        for (index, threshold) in policy.thresholds.iter().enumerate() {
            let condition = format!("{name}-{}", index + 1);
            conditions.push(json!({"conditionRef": condition}));
            documents.push(json!({
                "apiVersion": API_VERSION,
                "kind": "AlertCondition",
                "metadata": metadata(&condition),
                "spec": {
                    "severity": threshold.severity,
                    "condition": {
                        "kind": "burnrate",
                        "op": "gte",
                        "threshold": threshold.rate,
                        "lookbackWindow": threshold.window,
                        "alertAfter": threshold.short_window(),
                    },
                },
            }));
        }
        let body = json!({"conditions": conditions});
        documents
            .push(json!({"apiVersion": API_VERSION, "kind": "AlertPolicy", "metadata": metadata(&name), "spec": body}));
    }
    documents.insert(0, slo);
    documents
}

/// Returns the error budget of the indicators, for an objective without a target.
fn spec_budget(spec: &SloSpec) -> f64 {
    crate::Slo::from_spec(spec, "", &SliRegistry::default())
        .ok()
        .and_then(|slo| slo.budget().config().total)
        .unwrap_or(0.0)
}

/// Parses OpenSLO's duration shorthand: minutes, hours, days, weeks, months (30d), quarters and years. In a calendar window `m`
/// means months, as in the example of the OpenSLO specification.
fn duration_of(text: &str, calendar: bool) -> Option<Window> {
    let unit = text.chars().last()?;
    let days = match unit {
        'M' => 30,
        'm' if calendar => 30,
        'Q' => 90,
        'Y' => 365,
        _ => return text.parse().ok(),
    };
    let count: u64 = text[..text.len() - 1].parse().ok().filter(|count| (1..=100).contains(count))?;
    Some(Window::days(count * days))
}

fn severity_of(severity: &Value) -> Severity {
    match severity.as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "page" | "critical" | "high" => Severity::Critical,
        "info" | "low" => Severity::Info,
        _ => Severity::Warning,
    }
}

fn labels(labels: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    labels.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn slug(objective: &Value, index: usize) -> String {
    let name = objective["displayName"].as_str().unwrap_or_default().to_lowercase();
    let words: Vec<&str> =
        name.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { (index + 1).to_string() } else { words.join("-") }
}
