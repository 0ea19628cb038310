use serde::{Deserialize, Serialize};

use crate::Metric;

/// How alerts get through, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertsSnapshot {
    /// Alerts that were sent on.
    pub sent: u64,
    /// Those that repeated what was sent within the dedup window.
    pub deduplicated: u64,
    /// Those that a silence or a maintenance window held.
    pub silenced: u64,
    /// Those that no channel wanted.
    pub unrouted: u64,
    /// `resolved` ones of which no trigger had been sent.
    pub not_open: u64,
    /// Repeats of incidents that went on.
    pub repeated: u64,
    /// Incidents that nobody acknowledged in time.
    pub escalated: u64,
    /// Incidents that are open now.
    pub open: u64,
    /// Open incidents that were forgotten, by age or because there were too many.
    pub forgotten: u64,
    /// Times that the store could not be written or read.
    pub store_failures: u64,
    /// Each channel.
    pub channels: Vec<ChannelSnapshot>,
}

/// How a channel gets on, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelSnapshot {
    /// Its name.
    pub name: String,
    /// Messages that wait, now.
    pub queued: u64,
    /// Alerts that wait in a group or behind the rate limit, now.
    pub held: u64,
    /// Messages that it took.
    pub delivered: u64,
    /// Messages that were given up.
    pub failed: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Alerts that found the queue full.
    pub dropped: u64,
    /// Alerts that went out within a group or a summary.
    pub summarised: u64,
    /// Why the last attempt failed; empty where none has.
    pub last_error: String,
}

impl AlertsSnapshot {
    /// Emits how alerts and channels are doing.
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
            ("sre.alert.incidents_forgotten", self.forgotten, "Open incidents dropped by age or number."),
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
            ("sre.alert.held", self.held, "Alerts held by grouping or the channel's rate limit."),
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
