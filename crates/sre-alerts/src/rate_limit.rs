use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Alert, Clock, RateLimiter, Severity, Timestamp};

use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::message::{DeliveryLog, Message};
use crate::summary;

/// How many messages a channel may carry: so many at once, and after that one every `per / messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub messages: NonZeroU32,
    /// In which time; above 0.
    pub per: Duration,
}

/// Keeps a channel within its rate: what goes beyond waits, and goes out as one summary. `resolved` is let through; there
/// are no more of those than there were triggers.
#[derive(Debug, Default)]
pub(crate) struct ChannelRateLimiter {
    limiter: Option<RateLimiter>,
    held: Vec<Message>,
    release_at: Option<Timestamp>,
    /// The summaries that were sent and of which something still fires.
    summaries: Vec<Summary>,
    sent: u64,
}

#[derive(Debug)]
struct Summary {
    template: Alert,
    firing: HashSet<Fingerprint>,
    covered: Vec<Message>,
}

impl ChannelRateLimiter {
    pub(crate) fn new(limit: Option<RateLimit>, clock: &Arc<dyn Clock>) -> Self {
        let limiter =
            limit.and_then(|limit| RateLimiter::new(limit.per / limit.messages.get(), limit.messages, clock.clone()));
        Self { limiter, ..Self::default() }
    }

    /// Hands the message back if it may go out now, with what else it brings about: the ends of summaries.
    pub(crate) fn accept(
        &mut self,
        message: Message,
        now: Timestamp,
        out: &mut DeliveryLog,
        fingerprinter: Fingerprinter,
    ) -> (Option<Message>, Vec<Message>) {
        if self.limiter.is_none() || message.acknowledged_by.is_some() {
            return (Some(message), Vec::new());
        }
        if message.alert.severity == Severity::Resolved {
            let ends = self.resolve(&message, now, out, fingerprinter);
            return (Some(message), ends);
        }
        if self.held.is_empty() && self.has_room(now) {
            return (Some(message), Vec::new());
        }
        self.held.push(message);
        (None, Vec::new())
    }

    /// What may go out by now, as one message; whatever is held where `flush`.
    pub(crate) fn due(&mut self, now: Timestamp, flush: bool, fingerprinter: Fingerprinter) -> Option<Message> {
        let is_due = flush || self.release_at.is_some_and(|at| at <= now);
        if self.held.is_empty() || !is_due || !(self.has_room(now) || flush) {
            return None;
        }
        self.release_at = None;
        let held = std::mem::take(&mut self.held);
        if let [only] = &held[..] {
            return Some(only.clone());
        }
        self.sent += 1;
        let key = format!("held-back/{}/{}", now.as_nanos(), self.sent);
        let alerts: Vec<&Alert> = held.iter().map(|message| &*message.alert).collect();
        let what = "held back by the channel's rate limit";
        let template = Alert { dedup_key: key, ..Alert::new("", "") };
        let alert = summary::firing(&template, what, &alerts, now);
        let message = Message::covering(fingerprinter.of_key(&template.dedup_key), Arc::new(alert), &held, now);
        self.summaries.push(Summary {
            template,
            firing: held.iter().map(|message| message.key).collect(),
            covered: held,
        });
        Some(message)
    }

    /// When the rate limit lets out what is held, if anything is.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.release_at.filter(|_| !self.held.is_empty())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// What was never sent needs no resolution; what was part of a summary may end that too.
    fn resolve(
        &mut self,
        message: &Message,
        now: Timestamp,
        out: &mut DeliveryLog,
        fingerprinter: Fingerprinter,
    ) -> Vec<Message> {
        let (of_it, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| held.key == message.key);
        self.held = others;
        of_it.iter().for_each(|held| out.skip(held, "resolved while the rate limit held it back", now));
        let mut messages = Vec::new();
        self.summaries.retain_mut(|summary| {
            summary.firing.remove(&message.key);
            if summary.firing.is_empty() {
                let Summary { template, covered, .. } = summary;
                let alert = summary::resolved(template, "all that was held back", covered, message, now);
                messages.push(Message::new(fingerprinter.of_key(&template.dedup_key), Arc::new(alert), None, now));
            }
            !summary.firing.is_empty()
        });
        messages
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
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
    fn nothing_is_due_once_what_was_held_is_resolved() {
        let now = Timestamp::from_secs(1_790_000_000);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now));
        let limit = RateLimit { messages: NonZeroU32::MIN, per: Duration::from_secs(60) };
        let (mut throttle, fingerprinter) = (ChannelRateLimiter::new(Some(limit), &clock), Fingerprinter::new());
        let mut accept = |key: &str, severity| {
            let alert = Alert { severity, dedup_key: key.into(), ..Alert::new(key, "") };
            let message = Message::new(fingerprinter.of(&alert), Arc::new(alert), None, now);
            let passed = throttle.accept(message, now, &mut DeliveryLog::default(), fingerprinter).0.is_some();
            (passed, throttle.next_due())
        };
        assert_eq!(accept("a", Severity::Warning), (true, None));
        assert_eq!(accept("b", Severity::Warning), (false, Some(now.saturating_add(Duration::from_secs(60)))));
        assert_eq!(accept("b", Severity::Resolved), (true, None));
    }
}
