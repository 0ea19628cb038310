use std::sync::Arc;

use serde::Serialize;
use sre_core::{AlertId, Timestamp};

/// What the manager decided about an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SendReport {
    /// The alert's id in the store; `None` without a store, and while the store fails.
    pub id: Option<AlertId>,
    /// Whether the alert was accepted.
    pub verdict: Verdict,
    /// The decision for each channel; empty unless the alert was accepted.
    pub channels: Vec<ChannelDecision>,
}

/// Whether an alert was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// The alert was accepted and routed.
    Accepted,
    /// An alert of the same key and at least the same severity was sent within the dedup window.
    Duplicate,
    /// The alert resolves an incident that is not open.
    NotOpen,
    /// The manager has no channel yet: send the alert again once it has one.
    NoChannel,
}

/// The decision about an alert for one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChannelDecision {
    /// The channel's name.
    pub channel: Arc<str>,
    /// What happens with the alert there.
    pub decision: Decision,
}

/// What happens with an alert in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decision {
    /// Queued for delivery.
    Queued,
    /// Delivered with its group after [`AlertOptions::group_wait`](crate::AlertOptions::group_wait).
    Grouped,
    /// Over the channel's rate limit: delivered in a summary once the limit allows it.
    RateLimited,
    /// Silenced, or within a maintenance window: delivered when that ends, if the alert still fires then.
    Silenced {
        /// When the silence or the window ends.
        until: Timestamp,
    },
    /// The queue is full: delivered from the store once there is room; dropped without a store.
    QueueFull,
    /// Not delivered: the channel is disabled.
    Disabled,
    /// Not delivered: less severe than the channel's minimum.
    BelowSeverity,
    /// Not delivered: the channel's matchers do not match.
    NotMatched,
    /// Delivered only if the incident is not acknowledged in time.
    EscalationOnly,
}

impl SendReport {
    pub(crate) fn new(verdict: Verdict) -> Self {
        Self { id: None, verdict, channels: Vec::new() }
    }

    /// Returns the names of the channels that deliver the alert, now or later.
    pub fn receivers(&self) -> impl Iterator<Item = &str> {
        let receives = |decision: Decision| {
            matches!(decision, Decision::Queued | Decision::Grouped | Decision::RateLimited | Decision::Silenced { .. })
        };
        self.channels.iter().filter(move |channel| receives(channel.decision)).map(|channel| &*channel.channel)
    }
}
