//! Objectives as text, in this crate's YAML format and in OpenSLO.
mod check;
mod diff;
mod error;
mod objective;
mod openslo;
mod origin;
mod read;
mod resolve;

use std::collections::BTreeMap;

pub use check::InvalidSpec;
pub use diff::{Change, ChangeKind, diff};
pub use error::{SpecError, SpecErrors};
pub use openslo::{from_openslo, to_openslo};
pub use origin::OpenSloOrigin;
pub use read::{load, parse};
pub use resolve::resolve;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sre_core::Window;

use crate::{
    BudgetConfig, BurnPolicy, BurnThreshold, Calendar, CalendarSpec, CompositeSpec, ExhaustionAction, GoodWhen,
    SloTarget, TimeSlices,
};

/// The JSON Schema of the YAML format.
pub const SCHEMA: &str = include_str!("schema.json");

/// The type of an indicator of another system, which is preserved but not evaluated.
pub(crate) const EXTERNAL: &str = "openslo";

/// The specification of an objective; `docs/slo.md` describes its YAML format.
///
/// In serde's formats it has the fields of YAML; [`parse`] and [`load`] check more, and name the place. [`Slo::from_spec`](crate::Slo::from_spec)
/// checks the rest.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SloSpec {
    /// The name, unique among objectives loaded together.
    pub name: String,
    /// The purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The agent. If absent or empty, each agent seen gets its own instance; a composite objective covers all agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Target ratio of good events, if no ratio indicator sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<SloTarget>,
    /// Window of the error budget. Default: 30d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Calendar periods at which the budget resets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<CalendarSpec>,
    /// Makes the budget count time slices instead of events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_slices: Option<TimeSlices>,
    /// Other objectives that this one combines, instead of indicators and events of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub composite: Option<CompositeSpec>,
    /// The indicators.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub indicators: Vec<IndicatorSpec>,
    /// The events that the budget counts. Default: finished tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good_when: Option<GoodWhen>,
    /// Burn-rate alerts, and what to do when the budget is exhausted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_budget_policy: Option<BudgetPolicySpec>,
    /// Labels for filters and exporters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The objective from which missing fields are inherited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherits_from: Option<String>,
    /// The OpenSLO documents it was imported from, for export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openslo: Option<OpenSloOrigin>,
}

/// The specification of an indicator: its type and the given parameters.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IndicatorSpec {
    /// The name of the type, such as `task_success_rate`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name in reports and metrics, unique within the objective. Default: the type, for a second indicator of one type followed
    /// by its window, `response_latency_24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is shown only, and affects no status.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub informational: bool,
    /// The parameters.
    #[serde(flatten)]
    pub params: BTreeMap<String, Value>,
}

/// The specification of an error budget policy.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetPolicySpec {
    /// Thresholds of burn-rate alerts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<BurnThreshold>,
    /// The name of a policy, `sre-workbook`, instead of thresholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// See [`BudgetConfig::significance`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub significance: Option<f64>,
    /// See [`BudgetConfig::min_bad`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bad: Option<u64>,
    /// See [`BudgetConfig::min_events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_events: Option<u64>,
    /// See [`BudgetConfig::expected_events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_events: Option<u64>,
    /// What to do when the budget is exhausted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhaustion_action: Option<ExhaustionAction>,
}

impl SloSpec {
    /// Returns the agent; `None` if each agent gets its own instance.
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref().filter(|service| !service.is_empty())
    }

    /// Returns what to do when the budget is exhausted.
    pub fn exhaustion_action(&self) -> ExhaustionAction {
        self.error_budget_policy.as_ref().and_then(|policy| policy.exhaustion_action).unwrap_or_default()
    }

    /// Returns the configuration of the error budget. Its total is `1 - target`, or else `indicator_budget`.
    pub(crate) fn budget_config(&self, indicator_budget: Option<f64>) -> BudgetConfig {
        let policy = self.error_budget_policy.clone().unwrap_or_default();
        let named = policy.policy.as_deref().and_then(BurnPolicy::named);
        let written = (!policy.thresholds.is_empty()).then(|| BurnPolicy::new(policy.thresholds));
        let calendar = self.calendar.as_ref().and_then(|calendar| Calendar::try_from(calendar).ok());
        let default = BudgetConfig::default();
        BudgetConfig {
            total: self.target.map(SloTarget::budget).or(indicator_budget),
            window: self.window.or(calendar.as_ref().map(Calendar::nominal_window)).unwrap_or(Window::MONTH),
            calendar,
            time_slices: self.time_slices,
            policy: named.or(written).unwrap_or_default(),
            exhaustion_action: policy.exhaustion_action.unwrap_or_default(),
            significance: policy.significance.unwrap_or(default.significance),
            min_bad: policy.min_bad.unwrap_or(default.min_bad),
            min_events: policy.min_events,
            expected_events: policy.expected_events,
            consumed: 0.0,
        }
    }
}

impl BudgetPolicySpec {
    /// Returns this policy with the fields of `parent` that it does not set. `thresholds` and `policy` are one field.
    fn merged_over(&self, parent: Self) -> Self {
        let has_alerts = self.policy.is_some() || !self.thresholds.is_empty();
        let alerts = if has_alerts { self } else { &parent };
        Self {
            thresholds: alerts.thresholds.clone(),
            policy: alerts.policy.clone(),
            significance: self.significance.or(parent.significance),
            min_bad: self.min_bad.or(parent.min_bad),
            min_events: self.min_events.or(parent.min_events),
            expected_events: self.expected_events.or(parent.expected_events),
            exhaustion_action: self.exhaustion_action.or(parent.exhaustion_action),
        }
    }
}

impl<'de> Deserialize<'de> for IndicatorSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn field<T: serde::de::DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
            serde_json::from_value(value).map_err(E::custom)
        }
        let mut params = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let kind: String = field(params.remove("type").ok_or_else(|| serde::de::Error::missing_field("type"))?)?;
        let informational = params.remove("informational").map_or(Ok(false), field)?;
        // The name of an indicator of another system is a parameter.
        let name = if kind == EXTERNAL { None } else { params.remove("name") };
        Ok(Self { kind, name: name.map(field).transpose()?, informational, params })
    }
}

impl IndicatorSpec {
    /// Creates an indicator of that type with default parameters.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// Returns true for an indicator of another system.
    pub(crate) fn is_external(&self) -> bool {
        self.kind == EXTERNAL
    }

    /// Returns the name of an indicator of another system in reports.
    pub(crate) fn external_name(&self) -> String {
        let text = |field: &str| self.params.get(field).and_then(Value::as_str).unwrap_or("?");
        format!("{} (metric source `{}`)", text("name"), text("source"))
    }

    /// Returns the indicator with the objective's target, if it is a `task_success_rate` without its own target.
    pub(crate) fn for_slo(&self, target: Option<SloTarget>) -> Self {
        let mut spec = self.clone();
        if let (Some(target), "task_success_rate") = (target, spec.kind.as_str()) {
            spec.params.entry("target".to_owned()).or_insert_with(|| target.ratio().into());
        }
        spec
    }
}

/// Writes objectives as YAML, one document each. [`parse`] reads the same objectives back.
pub fn to_yaml(specs: &[SloSpec]) -> String {
    let documents: Vec<String> = specs.iter().map(yaml_document).collect();
    documents.join("---\n")
}

pub(crate) fn yaml_document(value: &impl Serialize) -> String {
    // Every JSON value can be written as YAML.
    let value = serde_json::to_value(value).unwrap_or_default();
    serde_saphyr::to_string(&value).unwrap_or_default()
}
