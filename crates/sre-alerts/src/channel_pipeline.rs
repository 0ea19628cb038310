use std::sync::Arc;
use std::time::Duration;

use sre_core::{
    Alert, AlertChannel, ChannelError, ChannelSnapshot, Clock, DeliveryReceipt, DeliveryState, RetryPolicy, Severity,
    Timestamp,
};

use crate::fingerprint::Fingerprinter;
use crate::group::Groups;
use crate::matcher::all_match;
use crate::message::{DeliveryLog, Message};
use crate::queue::Queue;
use crate::rate_limit::ChannelRateLimiter;
use crate::{AlertOptions, ChannelConfig, Decision};

/// How many messages of one channel may be on their way at a time.
const CONCURRENCY: usize = 32;

/// A channel, and what stands between it and an alert: grouping, then the rate limit, then the queue.
pub(crate) struct ChannelPipeline {
    /// Never used again, so that an incident may name it.
    pub(crate) number: u32,
    pub(crate) name: Arc<str>,
    pub(crate) channel: Arc<dyn AlertChannel>,
    config: ChannelConfig,
    /// True for those that are told by escalation only.
    is_escalation_only: bool,
    groups: Groups,
    rate_limiter: ChannelRateLimiter,
    queue: Queue,
    queue_limit: usize,
    /// Whether messages wait in the store that had no room here; what follows must wait behind them.
    pub(crate) has_spilled: bool,
    stats: ChannelSnapshot,
    pub(crate) out: DeliveryLog,
}

impl ChannelPipeline {
    pub(crate) fn new(
        number: u32,
        channel: Arc<dyn AlertChannel>,
        config: ChannelConfig,
        options: &AlertOptions,
    ) -> Self {
        let name: Arc<str> = channel.name().into();
        let clock: &Arc<dyn Clock> = &options.clock;
        let is_follower = |escalation: &crate::EscalationPolicy| {
            escalation.channels.iter().skip(1).any(|follower| **follower == *name)
        };
        Self {
            number,
            channel,
            is_escalation_only: options.escalations.iter().any(is_follower),
            groups: Groups::new(options.group_by.clone().into(), options.group_wait),
            rate_limiter: ChannelRateLimiter::new(config.rate_limit, clock),
            config,
            queue: Queue::default(),
            queue_limit: options.queue_limit,
            has_spilled: false,
            stats: ChannelSnapshot { name: name.to_string(), ..ChannelSnapshot::default() },
            out: DeliveryLog { channel: name.clone(), records: Vec::new() },
            name,
        }
    }

    /// Why an alert is not for this channel, if it is not.
    pub(crate) fn skip_reason(&self, alert: &Alert) -> Option<Decision> {
        if !self.config.enabled {
            Some(Decision::Disabled)
        } else if self.is_escalation_only {
            Some(Decision::EscalationOnly)
        } else if alert.severity < self.config.min_severity {
            Some(Decision::BelowSeverity)
        } else if !all_match(&self.config.matchers, alert) {
            Some(Decision::NotMatched)
        } else {
            None
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.config.enabled
    }

    /// Whether the queue can take another message.
    pub(crate) fn free_capacity(&self) -> usize {
        self.queue_limit.saturating_sub(self.queue.len())
    }

    /// Takes a message in, which goes out now, or in a group, or once the rate limit allows it.
    pub(crate) fn accept(&mut self, message: Message, now: Timestamp, fingerprinter: Fingerprinter) -> Decision {
        let Some(message) = self.groups.accept(message, now, &mut self.out, fingerprinter) else {
            return Decision::Grouped;
        };
        match self.throttle(message, now, fingerprinter) {
            None => Decision::RateLimited,
            Some(true) => Decision::Queued,
            Some(false) => Decision::QueueFull,
        }
    }

    /// Puts into the queue what the rate limit lets through: whether it fitted, or nothing where it holds the message.
    fn throttle(&mut self, message: Message, now: Timestamp, fingerprinter: Fingerprinter) -> Option<bool> {
        let (passed, ends) = self.rate_limiter.accept(message, now, &mut self.out, fingerprinter);
        let fits = passed.map(|message| self.enqueue(message, now));
        for end in ends {
            self.enqueue(end, now);
        }
        fits
    }

    /// Lets out what has waited long enough in a group or behind the rate limit; everything where `flush`.
    pub(crate) fn release(&mut self, now: Timestamp, flush: bool, fingerprinter: Fingerprinter) {
        for message in self.groups.due(now, flush, fingerprinter) {
            self.stats.summarised += message.alert_ids.len().max(1) as u64;
            self.throttle(message, now, fingerprinter);
        }
        let held = self.rate_limiter.waiting();
        if let Some(message) = self.rate_limiter.due(now, flush, fingerprinter) {
            self.stats.summarised += if held > 1 { held as u64 } else { 0 };
            self.enqueue(message, now);
        }
    }

    /// When [`ChannelPipeline::release`] or [`ChannelPipeline::take`] next has something to do that waits for its time.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let retry = self.queue.next_due().filter(|_| self.queue.running() < CONCURRENCY);
        [self.groups.next_due(), self.rate_limiter.next_due(), retry].into_iter().flatten().min()
    }

    /// The next message to try, if another one may be on its way.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Message> {
        if self.queue.running() >= CONCURRENCY { None } else { self.queue.take(now) }
    }

    /// Notes how an attempt went, and plans the next where there is one; hands back a message that is done with.
    pub(crate) fn settle(
        &mut self,
        mut message: Message,
        result: Result<DeliveryReceipt, ChannelError>,
        now: Timestamp,
        retry: &RetryPolicy,
    ) -> Option<Message> {
        message.attempts += 1;
        self.stats.retries += u64::from(message.attempts > 1);
        let error = match result {
            Ok(accepted) => {
                self.stats.delivered += 1;
                self.out.record(&message, DeliveryState::Delivered, accepted.status, None, now);
                self.queue.settle(message.key);
                return Some(message);
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let delay = retry.delay(message.attempts, error.retry_after(), fastrand::f64());
        self.stats.last_error.clone_from(&text);
        if let Some(delay) = delay.filter(|_| error.is_retryable()) {
            self.queue.retry(message, now.saturating_add(delay.max(Duration::from_millis(1))));
            return None;
        }
        self.stats.failed += 1;
        self.out.record(&message, DeliveryState::Failed, error.status(), Some(text), now);
        self.queue.settle(message.key);
        Some(message)
    }

    /// Nothing waits and nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.undelivered() == 0
    }

    pub(crate) fn snapshot(&self) -> ChannelSnapshot {
        ChannelSnapshot {
            queued: self.queue.len() as u64,
            held: (self.groups.waiting() + self.rate_limiter.waiting()) as u64,
            ..self.stats.clone()
        }
    }

    pub(crate) fn clear_stats(&mut self) {
        self.stats = ChannelSnapshot { name: self.name.to_string(), ..ChannelSnapshot::default() };
    }

    /// How many messages and alerts are not delivered yet.
    pub(crate) fn undelivered(&self) -> usize {
        self.queue.len() + self.groups.waiting() + self.rate_limiter.waiting()
    }

    /// False where the queue is full and the message is lost or has to wait in the store.
    fn enqueue(&mut self, message: Message, now: Timestamp) -> bool {
        // An end is never dropped: there are no more of those than there were triggers.
        let has_room = self.free_capacity() > 0 || message.alert.severity == Severity::Resolved;
        // What waits in the store must not be overtaken by what resolves it; what no store knows of cannot wait there.
        let must_wait = self.has_spilled && !message.alert_ids.is_empty();
        if has_room && !must_wait {
            self.queue.push(message);
            return true;
        }
        if message.alert_ids.is_empty() {
            self.stats.dropped += 1;
        } else {
            self.has_spilled = true;
            self.out.record(&message, DeliveryState::Released, None, None, now);
        }
        false
    }

    /// Takes in what was adopted from the store; `is_all` where nothing is left there.
    pub(crate) fn enqueue_adopted(
        &mut self,
        messages: Vec<Message>,
        is_all: bool,
        now: Timestamp,
        fingerprinter: Fingerprinter,
    ) {
        // What was released meanwhile is not in the store yet, so it was not adopted either.
        let is_unwritten = self.out.records.iter().any(|record| record.state == DeliveryState::Released);
        self.has_spilled = false;
        for message in messages {
            self.accept(message, now, fingerprinter);
        }
        self.has_spilled |= is_unwritten || !is_all;
    }
}
