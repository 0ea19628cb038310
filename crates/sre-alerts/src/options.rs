use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{AlertStore, Clock, HttpClient, Offline, Retention, RetryPolicy, Severity, SystemClock};

use crate::mapping::{Mapping, default_mapping};
use crate::{MaintenanceWindow, Matcher, RateLimit, Silence};

/// How a manager works; every field has a default.
#[derive(Clone)]
pub struct AlertOptions {
    /// The same key is not sent again within this time, unless it gets worse; 5 minutes.
    pub dedup_window: Duration,
    /// The fields and labels by which alerts are put together into one message; none groups nothing.
    pub group_by: Vec<String>,
    /// How long the first alert of a group waits for others; 30 seconds.
    pub group_wait: Duration,
    /// After how long an incident that is neither resolved nor acknowledged is sent again; never, unless set.
    pub repeat_interval: Option<Duration>,
    /// Who is told when nobody acknowledges.
    pub escalations: Vec<EscalationPolicy>,
    /// What is silenced from the start; a silence without matchers would silence everything.
    pub silences: Vec<Silence>,
    /// Times that are planned to be noisy.
    pub maintenance: Vec<MaintenanceWindow>,
    /// When a failed delivery is tried again, and when it is given up.
    pub retry: RetryPolicy,
    /// How many messages may wait for a channel; 10,000. With a store, further ones wait there; without, they are
    /// dropped, and counted.
    pub queue_limit: usize,
    /// How many incidents may be open; 100,000, at some 600 bytes each. Beyond, the oldest is forgotten, and counted.
    pub max_incidents: usize,
    /// After how long without news an open incident is forgotten, and counted; 30 days.
    pub incident_timeout: Duration,
    /// How much of its history a store keeps.
    pub retention: Retention,
    /// How long a manager that is dropped waits for what is still to be delivered; 10 seconds.
    pub shutdown_timeout: Duration,
    /// What makes an alert of a signal.
    pub mapping: Mapping,
    /// The way out for channels that need one.
    pub http: Arc<dyn HttpClient>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where alerts are written before they are sent, so that a restart loses none.
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
            http: Arc::new(Offline),
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

/// What a channel is given.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// Nothing below this; `warning`. A `resolved` goes wherever its trigger went.
    pub min_severity: Severity,
    /// Whether it is given anything at all.
    pub enabled: bool,
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// How many messages it may carry.
    pub rate_limit: Option<RateLimit>,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self { min_severity: Severity::Warning, enabled: true, matchers: Vec::new(), rate_limit: None }
    }
}

/// Channels that are told one after the other until somebody acknowledges. The first is told as any channel is; the
/// others only by escalation, whatever their least severity and matchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationPolicy {
    /// Their names, in order.
    pub channels: Vec<String>,
    /// How long each has.
    pub after: Duration,
}
