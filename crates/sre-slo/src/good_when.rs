use serde::{Deserialize, Serialize};
use sre_core::{AgentEvent, EventKind, Sli, Usd};

/// Selects the events that an objective counts, and defines when one is good: when all given conditions hold.
///
/// By default finished tasks count, and are good if they succeeded. A condition on a field that the event does not have does not
/// hold.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, PartialEq)]
pub struct GoodWhen {
    /// The kind of event that counts. It must have an outcome.
    pub event: EventKind,
    /// The required value of `success`.
    pub success: Option<bool>,
    /// Maximum duration in milliseconds.
    pub max_duration_ms: Option<f64>,
    /// Maximum cost. The cost of a task is its own `cost_usd`, or else the sum of its model calls.
    pub max_cost_usd: Option<Usd>,
}

impl Default for GoodWhen {
    fn default() -> Self {
        Self { event: EventKind::TaskFinished, success: None, max_duration_ms: None, max_cost_usd: None }
    }
}

impl GoodWhen {
    /// Returns whether the samples of `indicator` are the events that this selects, and those are good that succeeded.
    pub(crate) fn counts_samples_of(&self, indicator: &dyn Sli) -> bool {
        let Self { event, success, max_duration_ms, max_cost_usd } = self;
        indicator.counts_outcomes_of() == Some(*event)
            && *success != Some(false)
            && max_duration_ms.is_none()
            && max_cost_usd.is_none()
    }

    /// Returns whether `event` is good; `None` if it does not count. `cost` is the cost of the task that ended, if known.
    #[inline]
    pub fn judge(&self, event: &AgentEvent, cost: Option<Usd>) -> Option<bool> {
        if event.event.kind() != self.event {
            return None;
        }
        let outcome = event.event.outcome()?;
        if self.success.is_none() && self.max_duration_ms.is_none() && self.max_cost_usd.is_none() {
            return Some(outcome);
        }
        let succeeded = self.success.is_none_or(|wanted| outcome == wanted);
        let in_time =
            self.max_duration_ms.is_none_or(|most| event.event.duration_ms().is_some_and(|duration| duration <= most));
        let within_cost = self.max_cost_usd.is_none_or(|most| {
            let cost = if self.event == EventKind::TaskFinished { cost } else { event.event.cost_usd() };
            cost.is_some_and(|cost| cost <= most)
        });
        Some(succeeded && in_time && within_cost)
    }
}

/// The YAML form.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd: Option<Usd>,
}

impl Serialize for GoodWhen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire {
            event: Some(self.event.to_string()),
            success: self.success,
            max_duration_ms: self.max_duration_ms,
            max_cost_usd: self.max_cost_usd,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for GoodWhen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { event, success, max_duration_ms, max_cost_usd } = Wire::deserialize(deserializer)?;
        let event = event.map(|name| name.parse()).transpose().map_err(serde::de::Error::custom)?;
        Ok(Self { event: event.unwrap_or(EventKind::TaskFinished), success, max_duration_ms, max_cost_usd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> AgentEvent {
        AgentEvent::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn all_given_conditions_must_hold() {
        let slow = event(r#"{"event":"task_finished","time":1,"success":true,"duration_ms":900}"#);
        let failed = event(r#"{"event":"task_finished","time":1,"success":false,"duration_ms":10}"#);
        let by_time = GoodWhen { max_duration_ms: Some(500.0), ..Default::default() };
        let by_both = GoodWhen { success: Some(true), ..by_time.clone() };
        assert_eq!((by_time.judge(&slow, None), by_time.judge(&failed, None)), (Some(false), Some(true)));
        assert_eq!((by_both.judge(&slow, None), by_both.judge(&failed, None)), (Some(false), Some(false)));
        assert_eq!(GoodWhen::default().judge(&slow, None), Some(true));
    }

    #[test]
    fn a_missing_field_is_bad_and_other_events_do_not_count() {
        let plain = event(r#"{"event":"task_finished","time":1,"success":true}"#);
        let cheap = GoodWhen { max_cost_usd: Some(Usd::from_nanos(5)), ..Default::default() };
        assert_eq!(cheap.judge(&plain, None), Some(false));
        assert_eq!(cheap.judge(&plain, Some(Usd::from_nanos(5))), Some(true));
        assert_eq!(cheap.judge(&event(r#"{"event":"heartbeat","time":1}"#), None), None);
    }
}
