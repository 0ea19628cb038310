use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::names::names;

/// A message to the people who run an agent. Later versions may have more fields: end with `..Alert::new(title, message)`.
///
/// ```
/// use sre_core::{Alert, Severity};
/// let alert = Alert { agent_id: "support".into(), ..Alert::new("Budget spent", "5 % of tasks failed") };
/// assert_eq!(alert.severity, Severity::Warning);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(description = "A message to the people who run an agent."))]
pub struct Alert {
    /// The title, one line.
    pub title: String,
    /// The text.
    pub message: String,
    /// The severity.
    #[serde(default)]
    pub severity: Severity,
    /// The component that raised the alert.
    #[serde(default = "default_source")]
    pub source: String,
    /// The agent concerned; may be empty.
    #[serde(default)]
    pub agent_id: String,
    /// The objective concerned; may be empty.
    #[serde(default)]
    pub slo_name: String,
    /// Further context for readers.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Identifies the incident. If empty, agent, objective, source and title identify it.
    #[serde(default)]
    pub dedup_key: String,
    /// When the problem began. The Unix epoch means the time of sending.
    #[serde(default)]
    pub starts_at: Timestamp,
    /// When the problem ended, for `resolved` only. `None` means the time of sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Whether it is about a single occurrence. It is sent once, and opens no incident that would be repeated, escalated or resolved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_off: bool,
    /// Labels for routing and silences.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Links to dashboards and runbooks: URLs by name.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

fn default_source() -> String {
    "agent-sre".to_owned()
}

impl Alert {
    /// Creates a warning with source `agent-sre` and nothing else set.
    pub fn new(title: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            message: message.into(),
            severity: Severity::default(),
            source: default_source(),
            agent_id: String::new(),
            slo_name: String::new(),
            metadata: BTreeMap::new(),
            dedup_key: String::new(),
            starts_at: Timestamp::default(),
            ends_at: None,
            one_off: false,
            labels: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// Returns the fields of `Alert.to_dict` in the Python package `agent-sre`; `timestamp` is when the problem began.
    pub fn to_dict(&self) -> serde_json::Value {
        serde_json::json!({
            "title": self.title,
            "message": self.message,
            "severity": self.severity,
            "source": self.source,
            "agent_id": self.agent_id,
            "slo_name": self.slo_name,
            "timestamp": self.starts_at,
            "metadata": self.metadata,
        })
    }

    /// Returns the key of the incident: `dedup_key` or, if that is empty, agent, objective, source and title. To resolve an incident
    /// by an alert with another title, set a `dedup_key` on both.
    pub fn key(&self) -> Cow<'_, str> {
        if !self.dedup_key.is_empty() {
            self.dedup_key.as_str().into()
        } else {
            let Self { agent_id, slo_name, source, title, .. } = self;
            format!("{agent_id}/{slo_name}/{source}/{title}").into()
        }
    }
}

/// The severity of an alert. `Resolved` ends its incident.
///
/// Exhaustive: every channel maps each of them to a level of its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(description = "The severity of an alert. `Resolved` ends its incident."))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The problem has ended.
    Resolved,
    /// For information.
    Info,
    /// Needs attention during working hours.
    #[default]
    Warning,
    /// Needs attention at once.
    Critical,
}

names! {
    /// Every severity, from the lowest.
    Severity { Resolved: "resolved", Info: "info", Warning: "warning", Critical: "critical" }
}
