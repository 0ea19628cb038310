use std::sync::Arc;

use serde::Serialize;
use sre_core::{AlertId, Timestamp};

/// What became of an alert that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendReport {
    /// The store's name for it; `None` without a store, and while the store fails.
    pub id: Option<AlertId>,
    /// Whether it is news.
    pub verdict: Verdict,
    /// What each channel will do; empty where the alert is no news.
    pub channels: Vec<ChannelDecision>,
}

/// Whether an alert is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Accepted,
    /// The same was sent within the dedup window.
    Duplicate,
    /// It resolves what is not open.
    NotOpen,
}

/// What a channel will do with an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelDecision {
    /// The channel's name.
    pub channel: Arc<str>,
    /// What it will do.
    pub decision: Decision,
}

/// What a channel will do with an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Deliver it now.
    Queued,
    /// Deliver it with others that share its labels, after a short wait.
    Grouped,
    /// Deliver it within a summary, once the rate limit allows it.
    RateLimited,
    /// Deliver it when what silencer it ends, should it still fire then.
    Silenced {
        /// When that is.
        until: Timestamp,
    },
    /// Its queue is full: deliver it from the store when there is room, or never where there is no store.
    QueueFull,
    /// Nothing: it is off.
    Disabled,
    /// Nothing: it wants worse ones only.
    BelowSeverity,
    /// Nothing: its matchers do not match.
    NotMatched,
    /// Nothing, unless nobody acknowledges.
    EscalationOnly,
}

impl SendReport {
    /// An alert of which nothing becomes.
    pub(crate) fn nothing(verdict: Verdict) -> Self {
        Self { id: None, verdict, channels: Vec::new() }
    }

    /// The channels that will deliver it, now or later.
    pub fn receivers(&self) -> impl Iterator<Item = &str> {
        let will = |decision: Decision| {
            matches!(decision, Decision::Queued | Decision::Grouped | Decision::RateLimited | Decision::Silenced { .. })
        };
        self.channels.iter().filter(move |result| will(result.decision)).map(|result| &*result.channel)
    }
}
