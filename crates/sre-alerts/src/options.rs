use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{AlertStore, Clock, HttpClient, NoHttp, Retention, RetryPolicy, Severity, SystemClock};

use crate::mapping::{Mapping, default_mapping};
use crate::{EscalationPolicy, MaintenanceWindow, Matcher, RateLimit, Silence};

/// The settings of an [`AlertManager`](crate::AlertManager); every field has a default.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone)]
pub struct AlertOptions {
    /// How long alerts of the same key are duplicates of the last one sent, unless their severity rises; 5 minutes.
    pub dedup_window: Duration,
    /// The fields and labels by which alerts are grouped into one message; empty for no grouping.
    pub group_by: Vec<String>,
    /// How long the first alert of a group waits for others; 30 seconds.
    pub group_wait: Duration,
    /// How often the last alert of an open, unacknowledged incident is repeated; `None` for never.
    pub repeat_interval: Option<Duration>,
    /// Which channels are notified next while an incident is not acknowledged.
    pub escalations: Vec<EscalationPolicy>,
    /// Silences from the start; one without matchers silences every alert.
    pub silences: Vec<Silence>,
    /// Planned maintenance, during which matching alerts are held.
    pub maintenance: Vec<MaintenanceWindow>,
    /// When a failed delivery is retried, and when it is given up.
    pub retry: RetryPolicy,
    /// How many messages may be queued for a channel; 10,000. Further ones wait in the store; without a store, they are
    /// dropped and counted.
    pub queue_limit: usize,
    /// How many incidents may be open; 100,000, at some 600 bytes each. Beyond that, the oldest is evicted and counted.
    pub max_incidents: usize,
    /// How long after its last alert an open incident is evicted and counted; 30 days.
    pub incident_timeout: Duration,
    /// How much history the store keeps.
    pub retention: Retention,
    /// How long dropping the manager waits for unfinished deliveries; 10 seconds.
    pub shutdown_timeout: Duration,
    /// Turns signals into alerts.
    pub mapping: Mapping,
    /// The HTTP client of the channels; [`NoHttp`], with which channels that deliver by HTTP are refused.
    pub http: Arc<dyn HttpClient>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where alerts are stored before they are delivered, so that a restart loses none.
    pub store: Option<Arc<dyn AlertStore>>,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self {
            dedup_window: Duration::from_secs(300),
            group_by: Vec::new(),
            group_wait: Duration::from_secs(30),
            repeat_interval: None,
            escalations: Vec::new(),
            silences: Vec::new(),
            maintenance: Vec::new(),
            retry: RetryPolicy::default(),
            queue_limit: 10_000,
            max_incidents: 100_000,
            incident_timeout: Duration::from_secs(30 * 86_400),
            retention: Retention::default(),
            shutdown_timeout: Duration::from_secs(10),
            mapping: Arc::new(default_mapping),
            http: Arc::new(NoHttp),
            clock: Arc::new(SystemClock),
            store: None,
        }
    }
}

impl fmt::Debug for AlertOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertOptions")
            .field("dedup_window", &self.dedup_window)
            .field("group_by", &self.group_by)
            .field("repeat_interval", &self.repeat_interval)
            .field("escalations", &self.escalations)
            .field("is_durable", &self.store.is_some())
            .finish_non_exhaustive()
    }
}

/// Which alerts a channel receives.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// The least severity; `warning`. A resolution goes to the channels that received its trigger.
    pub min_severity: Severity,
    /// Whether the channel is used at all.
    pub enabled: bool,
    /// The conditions an alert must meet, all of them.
    pub matchers: Vec<Matcher>,
    /// Rate limit of messages.
    pub rate_limit: Option<RateLimit>,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self { min_severity: Severity::Warning, enabled: true, matchers: Vec::new(), rate_limit: None }
    }
}
