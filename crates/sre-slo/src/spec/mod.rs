//! Objectives as text: YAML of our own, and OpenSLO.
mod diff;
mod openslo;
mod read;
mod resolve;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use diff::{Change, ChangeKind, diff};
pub use openslo::{OpenSloOrigin, from_openslo, to_openslo};
pub use read::{load, parse};
pub use resolve::resolve;
use serde::Serialize;
use serde_json::Value;
use sre_core::Window;
use sre_core::yaml::ConfigError;

use crate::{
    BudgetConfig, BurnPolicy, BurnThreshold, Calendar, CalendarSpec, ExhaustionAction, GoodWhen, Target, TimeSlices,
};

/// The JSON Schema of the YAML form, for editors.
pub const SCHEMA: &str = include_str!("schema.json");

/// The kind of an indicator of another system, which is kept and not evaluated.
pub(crate) const FOREIGN: &str = "openslo";

/// An objective as it is written down; `docs/slo.md` shows the YAML.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SloSpec {
    /// Unique among the objectives that are loaded together.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The agent; absent or empty, each agent that is seen gets an instance of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The share of events that should be good, where no ratio indicator sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The error budget's window; 30d by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Where the budget begins anew by the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<CalendarSpec>,
    /// Where the budget counts slices of time instead of events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_slices: Option<TimeSlices>,
    /// What is measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub indicators: Vec<IndicatorSpec>,
    /// What the budget counts; finished tasks by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good_when: Option<GoodWhen>,
    /// When the budget burns too fast, and what then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_budget_policy: Option<BudgetPolicySpec>,
    /// For filters and exporters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Another objective, from which comes whatever is not written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherits_from: Option<String>,
    /// Where it was imported from, so that it can go back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openslo: Option<OpenSloOrigin>,
}

/// An indicator of an objective: its type and the parameters that are written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndicatorSpec {
    /// The type's name, such as `task_success_rate`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameters.
    #[serde(flatten)]
    pub params: BTreeMap<String, Value>,
}

/// The budget's policy as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BudgetPolicySpec {
    /// Burn rates at which alerts fire.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<BurnThreshold>,
    /// A policy by name, `sre-workbook`, instead of thresholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// See [`BudgetConfig::min_events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_events: Option<u64>,
    /// See [`BudgetConfig::expected_events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_events: Option<u64>,
    /// What should be done once the budget is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhaustion_action: Option<ExhaustionAction>,
}

/// A spec that cannot be used, where, and what to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// What is written there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Objectives that do not fit together.
    #[error("{}`inherits_from: {parent}`: {message}", place_of(slo, place.as_ref()))]
    Inheritance {
        /// The file and line, where the objective was read from one.
        place: Option<(String, u64)>,
        /// The objective.
        slo: String,
        /// Its parent.
        parent: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// A file or folder that cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn place_of(slo: &str, place: Option<&(String, u64)>) -> String {
    place.map_or_else(|| format!("`{slo}`: "), |(file, line)| format!("{file}:{line}: "))
}

impl SloSpec {
    /// The agent that the objective is about; `None` for every agent.
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref().filter(|service| !service.is_empty())
    }

    /// The error budget's set-up, whose total is `of_indicators` where there is one, else what the target leaves over.
    pub(crate) fn budget_config(&self, of_indicators: Option<f64>) -> BudgetConfig {
        let policy = self.error_budget_policy.clone().unwrap_or_default();
        let named = policy.policy.as_deref().and_then(BurnPolicy::named);
        let written = (!policy.thresholds.is_empty()).then_some(BurnPolicy(policy.thresholds));
        let calendar = self.calendar.as_ref().and_then(|calendar| Calendar::try_from(calendar).ok());
        BudgetConfig {
            total: of_indicators.or(self.target.map(Target::budget)),
            window: self.window.or(calendar.as_ref().map(Calendar::nominal_window)).unwrap_or(Window::MONTH),
            calendar,
            time_slices: self.time_slices,
            policy: named.or(written).unwrap_or_default(),
            exhaustion_action: policy.exhaustion_action.unwrap_or_default(),
            min_events: policy.min_events,
            expected_events: policy.expected_events,
            consumed: 0.0,
        }
    }
}

impl IndicatorSpec {
    /// An indicator of that type with every default.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), params: BTreeMap::new() }
    }

    /// True for an indicator of another system.
    pub(crate) fn is_foreign(&self) -> bool {
        self.kind == FOREIGN
    }

    /// How a report names an indicator of another system.
    pub(crate) fn foreign_name(&self) -> String {
        let text = |field: &str| self.params.get(field).and_then(Value::as_str).unwrap_or("?");
        format!("{} (metric source `{}`)", text("name"), text("source"))
    }

    /// The same for an objective of `target`: a `task_success_rate` without a target of its own takes the objective's.
    pub(crate) fn for_slo(&self, target: Option<Target>) -> Self {
        let mut spec = self.clone();
        if let (Some(target), "task_success_rate") = (target, spec.kind.as_str()) {
            spec.params.entry("target".to_owned()).or_insert_with(|| target.ratio().into());
        }
        spec
    }
}

/// Objectives as YAML, a document each; reading it back gives the same objectives.
pub fn to_yaml(specs: &[SloSpec]) -> String {
    let documents: Vec<String> = specs.iter().map(yaml_document).collect();
    documents.join("---\n")
}

pub(crate) fn yaml_document(value: &impl Serialize) -> String {
    // Through JSON, whose values YAML can always write.
    let value = serde_json::to_value(value).unwrap_or_default();
    serde_saphyr::to_string(&value).unwrap_or_default()
}
