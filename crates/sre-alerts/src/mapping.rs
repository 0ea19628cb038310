use std::sync::Arc;

use sre_core::{Alert, Phase, Signal};

/// Turns a signal into an alert; `None` sends nothing.
pub type Mapping = Arc<dyn Fn(&Signal) -> Option<Alert> + Send + Sync>;

/// The mapping of a manager that is given none: every signal is an alert with the signal's source, key, severity, texts and labels.
///
/// ```
/// use sre_alerts::default_mapping;
/// use sre_core::{Severity, Signal, Timestamp};
/// let at = Timestamp::from_secs(1_790_000_000);
/// let signal = Signal::firing("queue", "queue/ingest", Severity::Critical, at).with_text("Queue full", "9,000 waiting");
/// let alert = default_mapping(&signal).unwrap();
/// assert_eq!((&*alert.title, &*alert.dedup_key, alert.starts_at), ("Queue full", "queue/ingest", at));
/// ```
pub fn default_mapping(signal: &Signal) -> Option<Alert> {
    let mut alert = Alert {
        severity: signal.severity,
        source: signal.source.clone().into_owned(),
        one_off: signal.phase == Phase::OneOff,
        agent_id: signal.agent.clone(),
        slo_name: signal.slo.clone(),
        dedup_key: signal.key.clone(),
        labels: signal.labels.clone(),
        ..Alert::new(&*signal.title, &*signal.message)
    };
    if signal.phase == Phase::Resolved {
        alert.ends_at = Some(signal.time);
    } else {
        alert.starts_at = signal.time;
    }
    Some(alert)
}
