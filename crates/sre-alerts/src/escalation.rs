use std::time::Duration;

/// Channels that are notified one after the other until the incident is acknowledged.
///
/// The first receives alerts as any channel does. The others receive only escalations, whatever their matchers and least
/// severity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EscalationPolicy {
    /// The channels' names, in order.
    pub channels: Vec<String>,
    /// How long to wait for an acknowledgement before the next channel is notified.
    pub after: Duration,
}

impl EscalationPolicy {
    /// Creates a policy.
    pub const fn new(channels: Vec<String>, after: Duration) -> Self {
        Self { channels, after }
    }
}
