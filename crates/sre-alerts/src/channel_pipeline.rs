use std::sync::Arc;
use std::time::Duration;

use sre_core::{
    Alert, AlertChannel, ChannelError, ChannelSnapshot, DeliveryReceipt, DeliveryState, RetryPolicy, Severity,
    Timestamp,
};

use crate::delivery_log::DeliveryLog;
use crate::escalation::EscalationPolicy;
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::group::Groups;
use crate::matcher::all_match;
use crate::message::Message;
use crate::queue::Queue;
use crate::rate_limit::ChannelRateLimiter;
use crate::{AlertOptions, ChannelConfig, Decision};

/// How many attempts one channel may have in flight.
const CONCURRENCY: usize = 32;

/// The stages between an alert and its channel: grouping, then the rate limit, then the queue.
pub(crate) struct ChannelPipeline {
    pub(crate) id: ChannelId,
    pub(crate) name: Arc<str>,
    pub(crate) channel: Arc<dyn AlertChannel>,
    config: ChannelConfig,
    /// True for the later channels of an escalation policy.
    is_escalation_only: bool,
    groups: Groups,
    rate_limiter: ChannelRateLimiter,
    queue: Queue,
    queue_limit: usize,
    /// Whether messages that did not fit into the queue wait in the store; later ones must wait behind them.
    pub(crate) has_spilled: bool,
    stats: ChannelSnapshot,
    /// The incidents of which a message was lost, since it was last looked at.
    pub(crate) lost: Vec<Fingerprint>,
    pub(crate) log: DeliveryLog,
}

/// Identifies a registered channel; never reused, so incidents may refer to it after the channel is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelId(pub(crate) u32);

impl ChannelPipeline {
    pub(crate) fn new(
        id: ChannelId,
        channel: Arc<dyn AlertChannel>,
        config: ChannelConfig,
        options: &AlertOptions,
    ) -> Self {
        let name: Arc<str> = channel.name().into();
        let escalates_to_it =
            |policy: &EscalationPolicy| policy.channels.iter().skip(1).any(|channel| **channel == *name);
        Self {
            id,
            channel,
            is_escalation_only: options.escalations.iter().any(escalates_to_it),
            groups: Groups::new(options.group_by.clone().into(), options.group_wait),
            rate_limiter: ChannelRateLimiter::new(config.rate_limit, &options.clock),
            config,
            queue: Queue::default(),
            queue_limit: options.queue_limit,
            has_spilled: false,
            stats: ChannelSnapshot::new(&*name),
            lost: Vec::new(),
            log: DeliveryLog { channel: name.clone(), records: Vec::new() },
            name,
        }
    }

    /// Returns why the alert is not routed to this channel; `None` if it is.
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

    /// Returns how many more messages the queue can hold.
    pub(crate) fn free_capacity(&self) -> usize {
        self.queue_limit.saturating_sub(self.queue.len())
    }

    /// Accepts a message for delivery: now, with its group, or once the rate limit allows it.
    pub(crate) fn accept(&mut self, message: Message, now: Timestamp, fingerprinter: Fingerprinter) -> Decision {
        match self.groups.accept(message, now, &mut self.log, fingerprinter) {
            Some(message) => self.rate_limit(message, now, fingerprinter),
            None => Decision::Grouped,
        }
    }

    fn rate_limit(&mut self, message: Message, now: Timestamp, fingerprinter: Fingerprinter) -> Decision {
        let (admitted, resolutions) = self.rate_limiter.accept(message, now, &mut self.log, fingerprinter);
        let decision = admitted.map_or(Decision::RateLimited, |message| self.enqueue(message, now));
        for resolution in resolutions {
            self.enqueue(resolution, now);
        }
        decision
    }

    /// Enqueues the groups whose wait is over and what the rate limit allows by now; everything if `flush`.
    pub(crate) fn release(&mut self, now: Timestamp, flush: bool, fingerprinter: Fingerprinter) {
        for message in self.groups.due(now, flush, fingerprinter) {
            self.stats.summarised += message.alert_ids.len().max(1) as u64;
            self.rate_limit(message, now, fingerprinter);
        }
        let delayed = self.rate_limiter.delayed();
        if let Some(message) = self.rate_limiter.due(now, flush, fingerprinter) {
            self.stats.summarised += if delayed > 1 { delayed as u64 } else { 0 };
            self.enqueue(message, now);
        }
    }

    /// Returns when a group, the rate limit or a retry is next due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let retry = self.queue.next_due().filter(|_| self.queue.running() < CONCURRENCY);
        [self.groups.next_due(), self.rate_limiter.next_due(), retry].into_iter().flatten().min()
    }

    /// Takes the next message to attempt, if another attempt may start.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Message> {
        if self.queue.running() >= CONCURRENCY { None } else { self.queue.take(now) }
    }

    /// Records the result of an attempt. Returns the message if it is finished, `None` if it will be retried.
    pub(crate) fn finish_attempt(
        &mut self,
        mut message: Message,
        result: Result<DeliveryReceipt, ChannelError>,
        now: Timestamp,
        retry: &RetryPolicy,
    ) -> Option<Message> {
        message.attempts += 1;
        self.stats.retries += u64::from(message.attempts > 1);
        let error = match result {
            Ok(receipt) => {
                self.stats.delivered += 1;
                self.log.record(&message, DeliveryState::Delivered, receipt.status, None, now);
                self.queue.finish(message.key);
                return Some(message);
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let delay = retry.delay(message.attempts, error.retry_after(), fastrand::f64());
        self.stats.last_error.clone_from(&text);
        if let Some(delay) = delay.filter(|_| error.is_retryable()) {
            // Pending since the alert was sent: a delivery that only fails ends with the retention time.
            self.log.record(&message, DeliveryState::Pending, error.status(), Some(text), message.at);
            self.queue.retry(message, now.saturating_add(delay.max(Duration::from_millis(1))));
            return None;
        }
        self.stats.failed += 1;
        self.note_lost(&message);
        self.log.record(&message, DeliveryState::Failed, error.status(), Some(text), now);
        self.queue.finish(message.key);
        Some(message)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.undelivered() == 0
    }

    pub(crate) fn snapshot(&self) -> ChannelSnapshot {
        let mut snapshot = self.stats.clone();
        snapshot.queued = self.queue.len() as u64;
        snapshot.delayed = (self.groups.waiting() + self.rate_limiter.delayed()) as u64;
        snapshot
    }

    pub(crate) fn clear_stats(&mut self) {
        self.stats = ChannelSnapshot::new(&*self.name);
    }

    /// Returns how many messages are queued, in flight or delayed by a group or the rate limit.
    pub(crate) fn undelivered(&self) -> usize {
        self.queue.len() + self.groups.waiting() + self.rate_limiter.delayed()
    }

    fn enqueue(&mut self, message: Message, now: Timestamp) -> Decision {
        // A resolution always fits: there are no more of them than there were triggers.
        let fits = self.free_capacity() > 0 || message.alert.severity == Severity::Resolved;
        // Nothing may overtake what has spilled; a message that is not in the store cannot spill.
        let must_wait = self.has_spilled && !message.alert_ids.is_empty();
        if fits && !must_wait {
            self.queue.push(message);
            return Decision::Queued;
        }
        if message.alert_ids.is_empty() {
            self.stats.dropped += 1;
            self.note_lost(&message);
        } else {
            self.has_spilled = true;
            self.log.record(&message, DeliveryState::Released, None, None, now);
        }
        Decision::QueueFull
    }

    /// Notes the open incidents of which this channel missed the last alert.
    fn note_lost(&mut self, message: &Message) {
        if message.alert.severity != Severity::Resolved && message.acknowledged_by.is_none() {
            self.lost.extend(message.incidents());
        }
    }

    /// Accepts messages adopted from the store; `is_last` if the store has no more of them.
    pub(crate) fn accept_adopted(
        &mut self,
        messages: Vec<Message>,
        is_last: bool,
        now: Timestamp,
        fingerprinter: Fingerprinter,
    ) {
        // A release that is not written yet could not be adopted either.
        let has_unwritten = self.log.records.iter().any(|record| record.state == DeliveryState::Released);
        self.has_spilled = false;
        for message in messages {
            self.accept(message, now, fingerprinter);
        }
        self.has_spilled |= has_unwritten || !is_last;
    }
}
