use serde::{Deserialize, Serialize};

use crate::Metric;

/// Alert counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertsSnapshot {
    /// Alerts passed on to channels.
    pub sent: u64,
    /// Alerts that repeated an earlier one within the deduplication window.
    pub deduplicated: u64,
    /// Alerts suppressed by a silence or a maintenance window.
    pub silenced: u64,
    /// Alerts that matched no channel.
    pub unrouted: u64,
    /// `resolved` alerts whose incident was not open.
    pub not_open: u64,
    /// Repeated notifications of open incidents.
    pub repeated: u64,
    /// Incidents escalated because nobody acknowledged them in time.
    pub escalated: u64,
    /// Open incidents.
    pub open: u64,
    /// Open incidents evicted because of their age or number.
    #[serde(alias = "forgotten")]
    pub evicted: u64,
    /// Failed reads and writes of the store.
    pub store_failures: u64,
    /// The channels.
    pub channels: Vec<ChannelSnapshot>,
}

/// Delivery counters of a channel since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelSnapshot {
    /// The channel's name.
    pub name: String,
    /// Notifications in the queue.
    pub queued: u64,
    /// Alerts delayed by grouping or the rate limit.
    #[serde(alias = "held")]
    pub delayed: u64,
    /// Notifications delivered.
    pub delivered: u64,
    /// Notifications whose delivery was given up.
    pub failed: u64,
    /// Delivery attempts beyond the first.
    pub retries: u64,
    /// Alerts dropped because the queue was full.
    pub dropped: u64,
    /// Alerts delivered within a group or a summary.
    pub summarised: u64,
    /// The error of the last failed attempt, or an empty string.
    pub last_error: String,
}

impl AlertsSnapshot {
    /// Emits the metrics of alerts and channels.
    pub fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for (outcome, count) in [
            ("sent", self.sent),
            ("deduplicated", self.deduplicated),
            ("silenced", self.silenced),
            ("unrouted", self.unrouted),
            ("not_open", self.not_open),
        ] {
            let alerts = Metric::counter("sre.alerts", count as f64).with_help("Alerts received, by outcome.");
            emit(alerts.with_label("outcome", outcome));
        }
        for (name, count, help) in [
            ("sre.alert.repeats", self.repeated, "Repeated notifications of open incidents."),
            ("sre.alert.escalations", self.escalated, "Incidents escalated because nobody acknowledged them."),
            ("sre.alert.incidents_evicted", self.evicted, "Open incidents evicted because of their age or number."),
            ("sre.alert.store_failures", self.store_failures, "Failed reads and writes of the alert history."),
        ] {
            emit(Metric::counter(name, count as f64).with_help(help));
        }
        emit(Metric::gauge("sre.alert.incidents_open", self.open as f64).with_help("Open incidents."));
        self.channels.iter().for_each(|channel| channel.metrics(emit));
    }
}

impl ChannelSnapshot {
    /// Creates the snapshot of a channel that has delivered nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn metrics(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        let of_channel = [("channel", self.name.as_str())];
        for (name, count, help) in [
            ("sre.alert.queue_length", self.queued, "Notifications waiting for the channel."),
            ("sre.alerts_delayed", self.delayed, "Alerts delayed by grouping or the channel's rate limit."),
        ] {
            emit(Metric::gauge(name, count as f64).with_labels(&of_channel).with_help(help));
        }
        for (result, count) in [("delivered", self.delivered), ("failed", self.failed), ("dropped", self.dropped)] {
            let deliveries = Metric::counter("sre.alert.deliveries", count as f64).with_labels(&of_channel);
            emit(deliveries.with_label("result", result).with_help("Notifications, by result."));
        }
        for (name, count, help) in [
            ("sre.alert.retries", self.retries, "Delivery attempts beyond the first."),
            ("sre.alert.summarised", self.summarised, "Alerts delivered within a group or a summary."),
        ] {
            emit(Metric::counter(name, count as f64).with_labels(&of_channel).with_help(help));
        }
    }
}
