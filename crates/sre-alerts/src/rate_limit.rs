use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Alert, Clock, RateLimiter, Severity, Timestamp};

use crate::delivery_log::DeliveryLog;
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::message::Message;
use crate::summary;

/// A channel's rate limit: a burst of `messages`, refilled by one message every `per / messages`.
///
/// Exhaustive: these two numbers define the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Number of messages.
    pub messages: NonZeroU32,
    /// Period in which they may be sent; above 0.
    pub per: Duration,
}

/// Keeps a channel within its rate limit: messages over the limit are delayed and delivered as one summary.
///
/// Resolutions are not limited: there are no more of them than there were triggers.
#[derive(Debug, Default)]
pub(crate) struct ChannelRateLimiter {
    limiter: Option<RateLimiter>,
    delayed: Vec<Message>,
    release_at: Option<Timestamp>,
    /// The delivered summaries of which an alert still fires.
    summaries: Vec<Summary>,
    summary_count: u64,
}

#[derive(Debug)]
struct Summary {
    template: Alert,
    firing: HashSet<Fingerprint>,
    messages: Vec<Message>,
}

impl ChannelRateLimiter {
    pub(crate) fn new(limit: Option<RateLimit>, clock: &Arc<dyn Clock>) -> Self {
        let limiter =
            limit.and_then(|limit| RateLimiter::new(limit.per / limit.messages.get(), limit.messages, clock.clone()));
        Self { limiter, ..Self::default() }
    }

    /// Returns the message if it may be delivered now, and the resolutions of the summaries that it ends.
    pub(crate) fn accept(
        &mut self,
        message: Message,
        now: Timestamp,
        log: &mut DeliveryLog,
        fingerprinter: Fingerprinter,
    ) -> (Option<Message>, Vec<Message>) {
        if self.limiter.is_none() || message.acknowledged_by.is_some() {
            return (Some(message), Vec::new());
        }
        if message.alert.severity == Severity::Resolved {
            let resolutions = self.resolve(&message, now, log, fingerprinter);
            return (Some(message), resolutions);
        }
        if self.delayed.is_empty() && self.try_acquire(now) {
            return (Some(message), Vec::new());
        }
        self.delayed.push(message);
        (None, Vec::new())
    }

    /// Returns the delayed messages as one, if the limit allows it by now or `flush` is set.
    pub(crate) fn due(&mut self, now: Timestamp, flush: bool, fingerprinter: Fingerprinter) -> Option<Message> {
        let is_due = flush || self.release_at.is_some_and(|at| at <= now);
        if self.delayed.is_empty() || !is_due || !(self.try_acquire(now) || flush) {
            return None;
        }
        self.release_at = None;
        let delayed = std::mem::take(&mut self.delayed);
        if let [only] = &delayed[..] {
            return Some(only.clone());
        }
        self.summary_count += 1;
        let key = format!("rate-limited/{}/{}", now.as_nanos(), self.summary_count);
        let alerts: Vec<&Alert> = delayed.iter().map(|message| &*message.alert).collect();
        let what = "delayed by the channel's rate limit";
        let template = Alert { dedup_key: key, ..Alert::new("", "") };
        let alert = summary::firing(&template, what, &alerts, now);
        let message = Message::summary_of(&delayed, fingerprinter.of_key(&template.dedup_key), Arc::new(alert), now);
        self.summaries.push(Summary {
            template,
            firing: delayed.iter().map(|message| message.key).collect(),
            messages: delayed,
        });
        Some(message)
    }

    /// Returns when the limit allows the delayed messages, if there are any.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.release_at.filter(|_| !self.delayed.is_empty())
    }

    pub(crate) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Drops delayed messages that are resolved, and returns the resolutions of summaries in which no alert fires any more.
    fn resolve(
        &mut self,
        message: &Message,
        now: Timestamp,
        log: &mut DeliveryLog,
        fingerprinter: Fingerprinter,
    ) -> Vec<Message> {
        let (resolved, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.delayed).into_iter().partition(|delayed| delayed.key == message.key);
        self.delayed = others;
        resolved.iter().for_each(|delayed| log.skip(delayed, "resolved while delayed by the rate limit", now));
        let mut messages = Vec::new();
        self.summaries.retain_mut(|summary| {
            summary.firing.remove(&message.key);
            if summary.firing.is_empty() {
                let Summary { template, messages: covered, .. } = summary;
                let what = "all alerts delayed by the channel's rate limit";
                let alert = summary::resolved(template, what, covered, message, now);
                messages.push(Message::new(fingerprinter.of_key(&template.dedup_key), Arc::new(alert), None, now));
            }
            !summary.firing.is_empty()
        });
        messages
    }

    fn try_acquire(&mut self, now: Timestamp) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        match limiter.check() {
            Ok(()) => true,
            Err(wait) => {
                self.release_at = Some(now.saturating_add(wait.max(Duration::from_millis(1))));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sre_core::ManualClock;

    use super::*;

    #[test]
    fn a_delayed_alert_that_is_resolved_is_not_due() {
        let now = Timestamp::from_secs(1_790_000_000);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now));
        let limit = RateLimit { messages: NonZeroU32::MIN, per: Duration::from_secs(60) };
        let (mut limiter, fingerprinter) = (ChannelRateLimiter::new(Some(limit), &clock), Fingerprinter::new());
        let mut accept = |key: &str, severity| {
            let alert = Alert { severity, dedup_key: key.into(), ..Alert::new(key, "") };
            let message = Message::new(fingerprinter.of(&alert), Arc::new(alert), None, now);
            let admitted = limiter.accept(message, now, &mut DeliveryLog::default(), fingerprinter).0.is_some();
            (admitted, limiter.next_due())
        };
        assert_eq!(accept("a", Severity::Warning), (true, None));
        assert_eq!(accept("b", Severity::Warning), (false, Some(now.saturating_add(Duration::from_secs(60)))));
        assert_eq!(accept("b", Severity::Resolved), (true, None));
    }
}
