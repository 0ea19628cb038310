use serde::Serialize;
use sre_core::{SloSnapshot, Status, Timestamp};

use crate::origin::Origin;

/// The status of a service check, as `/api/v1/check_run` accepts it.
///
/// Source: <https://docs.datadoghq.com/api/latest/service-checks/#submit-a-service-check>.
#[derive(Serialize)]
pub(crate) struct ServiceCheck<'a> {
    check: &'static str,
    status: u8,
    host_name: &'a str,
    timestamp: i64,
    message: String,
    tags: Vec<String>,
}

impl<'a> ServiceCheck<'a> {
    /// Creates the check of an objective.
    pub(crate) fn of(slo: &SloSnapshot, origin: &'a Origin, at: Timestamp) -> Self {
        Self {
            check: "agent_sre.slo",
            status: match slo.status {
                Status::Healthy => 0,
                Status::Warning => 1,
                Status::Critical | Status::Exhausted => 2,
                Status::Unknown => 3,
            },
            host_name: origin.host.as_deref().unwrap_or_default(),
            timestamp: at.as_secs(),
            message: describe(slo),
            tags: origin.tags_with([("slo", slo.name.as_str()), ("agent", slo.agent.as_str())]),
        }
    }
}

/// Returns an objective's state in a sentence.
pub(crate) fn describe(slo: &SloSnapshot) -> String {
    let mut text = slo.status.as_str().to_owned();
    let percent = |ratio: f64| format!("{:.2} %", ratio * 100.0);
    if let Some(sli) = slo.sli {
        text += &format!(": {} of {} events were good over {}", percent(sli), slo.good + slo.bad, slo.window);
    }
    if let Some(target) = slo.target {
        text += &format!(", target {}", percent(target));
    }
    if let Some(remaining) = slo.error_budget.remaining.filter(|remaining| remaining.is_finite()) {
        text += &format!(", error budget remaining {}", percent(remaining));
    }
    slo.reason.iter().for_each(|reason| text += &format!(" ({reason})"));
    text
}
