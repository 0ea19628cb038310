use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use sre_core::{SloSnapshot, Status, Timestamp};

use crate::check::describe;
use crate::names;
use crate::origin::Origin;

/// An event in Datadog's event explorer.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatadogEvent {
    /// The title.
    pub title: String,
    /// The text, in Markdown between `%%%` lines if wanted; at most 4,000 characters are sent.
    pub text: String,
    /// The type of alert.
    pub alert_type: AlertType,
    /// Events of the same key are grouped; at most 100 characters are sent.
    pub aggregation_key: Option<String>,
    /// Tags, such as `agent:support`, besides those of the settings.
    pub tags: Vec<String>,
}

/// The type of alert of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertType {
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// An information.
    #[default]
    Info,
    /// A success, such as a recovery.
    Success,
}

/// Source: <https://docs.datadoghq.com/api/latest/events/>, version 1.
#[derive(Serialize)]
pub(crate) struct EventBody<'a> {
    title: String,
    text: String,
    alert_type: AlertType,
    priority: &'static str,
    date_happened: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregation_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    tags: Vec<String>,
}

impl DatadogEvent {
    /// Creates the event of a changed status.
    fn status_changed(slo: &SloSnapshot, before: Status) -> Self {
        let of_agent = if slo.agent.is_empty() { String::new() } else { format!(" of {}", slo.agent) };
        let tag = |key, value| names::tag(key, value);
        Self {
            title: format!("SLO {}{of_agent} is {}", slo.name, slo.status),
            text: format!("The status changed from {before} to {}", describe(slo)),
            alert_type: match slo.status {
                Status::Exhausted | Status::Critical => AlertType::Error,
                Status::Warning => AlertType::Warning,
                Status::Unknown => AlertType::Info,
                Status::Healthy => AlertType::Success,
            },
            aggregation_key: Some(format!("{}:{}", slo.agent, slo.name)),
            tags: [tag("slo", &slo.name), tag("agent", &slo.agent), tag("status", slo.status.as_str())]
                .into_iter()
                .flatten()
                .collect(),
        }
    }

    pub(crate) fn body<'a>(&self, origin: &'a Origin, at: Timestamp) -> EventBody<'a> {
        let first = |text: &str, chars: usize| text.chars().take(chars).collect::<String>();
        let own = self.tags.iter().map(|tag| names::normalized(tag.chars()));
        EventBody {
            title: first(&self.title, 500),
            text: first(&self.text, 4_000),
            alert_type: self.alert_type,
            priority: "normal",
            date_happened: at.as_secs(),
            aggregation_key: self.aggregation_key.as_deref().map(|key| first(key, 100)),
            host: origin.host.as_deref(),
            tags: own.chain(origin.tags.iter().cloned()).collect(),
        }
    }
}

/// The status of each objective, by name and agent, last sent to Datadog.
#[derive(Debug, Default)]
pub(crate) struct Statuses(HashMap<(String, String), (Status, Timestamp)>);

/// How long something that no longer exists is kept.
pub(crate) const EVICTED_AFTER: Duration = Duration::from_secs(86_400);

impl Statuses {
    /// Returns the event of an objective whose status has changed.
    pub(crate) fn change(&self, slo: &SloSnapshot) -> Option<DatadogEvent> {
        let (before, _) = self.0.get(&key(slo))?;
        (*before != effective_status(Some(*before), slo.status)).then(|| DatadogEvent::status_changed(slo, *before))
    }

    pub(crate) fn accept(&mut self, slo: &SloSnapshot, at: Timestamp) {
        let key = key(slo);
        let before = self.0.get(&key).map(|(status, _)| *status);
        self.0.insert(key, (effective_status(before, slo.status), at));
    }

    /// Evicts objectives that no longer exist.
    pub(crate) fn evict(&mut self, at: Timestamp) {
        self.0.retain(|_, (_, last)| at.since(*last) < EVICTED_AFTER);
    }
}

fn key(slo: &SloSnapshot) -> (String, String) {
    (slo.name.clone(), slo.agent.clone())
}

/// Takes `unknown` after `healthy` for unchanged, so that an agent without work causes no event.
fn effective_status(before: Option<Status>, status: Status) -> Status {
    match (before, status) {
        (None | Some(Status::Healthy), Status::Unknown) => Status::Healthy,
        _ => status,
    }
}
