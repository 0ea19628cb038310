use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A message to the people who run an agent.
///
/// ```
/// use sre_core::{Alert, Severity};
/// let alert = Alert { agent_id: "support".into(), ..Alert::new("Budget spent", "5 % of tasks failed") };
/// assert_eq!(alert.severity, Severity::Warning);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// One line.
    pub title: String,
    /// The body.
    pub message: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// What raised it.
    #[serde(default = "default_source")]
    pub source: String,
    /// The agent it is about; may be empty.
    #[serde(default)]
    pub agent_id: String,
    /// The objective it is about; may be empty.
    #[serde(default)]
    pub slo_name: String,
    /// More context, for people.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Alerts of one key are one incident; empty stands for agent, objective and source.
    #[serde(default)]
    pub dedup_key: String,
    /// When the trouble began; the epoch stands for the moment it is sent.
    #[serde(default)]
    pub starts_at: Timestamp,
    /// When it was over; for `resolved` only, where nothing stands for the moment it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// What routing and silences match on.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where to look: a name and a URL each.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

fn default_source() -> String {
    "agent-sre".to_owned()
}

impl Alert {
    /// A warning from `agent-sre` with nothing else set.
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
            labels: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// The key of its incident: `dedup_key`, or agent, objective and source where that is empty.
    pub fn key(&self) -> Cow<'_, str> {
        if self.dedup_key.is_empty() {
            format!("{}/{}/{}", self.agent_id, self.slo_name, self.source).into()
        } else {
            self.dedup_key.as_str().into()
        }
    }
}

/// How bad an alert is. `Resolved` ends one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The trouble is over.
    Resolved,
    /// Good to know.
    Info,
    /// Somebody should look today.
    #[default]
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Resolved, Self::Info, Self::Warning, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or(())
    }
}
