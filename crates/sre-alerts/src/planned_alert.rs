use std::sync::Arc;

use sre_core::{Alert, Severity, Timestamp};

use crate::ChannelDecision;
use crate::channel_pipeline::ChannelId;
use crate::fingerprint::Fingerprint;

/// An accepted alert with its routing, before it is stored and dispatched.
#[derive(Clone, Debug)]
pub(crate) struct PlannedAlert {
    pub(crate) key: Fingerprint,
    pub(crate) alert: Arc<Alert>,
    pub(crate) at: Timestamp,
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) silenced_until: Option<Timestamp>,
    /// The channels that do not get it, and why.
    pub(crate) skipped: Vec<ChannelDecision>,
}

/// Fills in the alert's key and times where they are empty.
pub(crate) fn with_defaults(mut alert: Alert, now: Timestamp) -> Alert {
    if alert.dedup_key.is_empty() {
        alert.dedup_key = alert.key().into_owned();
    }
    if alert.starts_at == Timestamp::default() {
        alert.starts_at = now;
    }
    if alert.severity == Severity::Resolved {
        alert.ends_at = alert.ends_at.or(Some(now));
    }
    alert
}

/// Copies the fields by which receivers match a resolution to its trigger.
pub(crate) fn copy_identity(resolution: &mut Alert, trigger: &Alert) {
    resolution.starts_at = trigger.starts_at;
    resolution.agent_id.clone_from(&trigger.agent_id);
    resolution.slo_name.clone_from(&trigger.slo_name);
    resolution.source.clone_from(&trigger.source);
    if resolution.labels != trigger.labels {
        resolution.labels.clone_from(&trigger.labels);
    }
}
