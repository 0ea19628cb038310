use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{AgentEvent, ExportError, ExportReport, Rejection, RetryPolicy, SpoolSize, Timestamp};

use super::deadline::{Backoff, Deadline};
use super::options::OutboxLimits;
use super::record::{Batch, Record, StateBatch};
use super::spool_queue::SpoolQueue;
use super::state_queue::{Reading, StateQueue};
use super::state_spool::StateSpool;
use super::stats::{DropReason, OutboxStats, RecordCounts};
use super::step::{Kind, Outgoing, Step};

/// Decides the next step of an outbox. The worker performs each step and reports the result. Time is passed in.
///
/// Events move from `memory` through the spool, if there is one and it is needed, to `batches`, the first of which is
/// sent. Events in the spool are newer than those in batches, and older than those in memory.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) limits: OutboxLimits,
    retry: RetryPolicy,
    pub(super) memory: VecDeque<Record>,
    pub(super) memory_bytes: usize,
    pub(super) batches: VecDeque<Batch>,
    pub(super) states: StateQueue,
    pub(super) state_spool: StateSpool,
    /// Readings older than this make way for newer ones.
    pub(super) state_max_age: Option<Duration>,
    /// The interval at which metrics and snapshots are collected, longer than the configured one while too many wait.
    state_interval: Duration,
    /// When they are collected next, if they are wanted.
    state_due: Option<Deadline>,
    /// Whether they are collected immediately.
    is_state_wanted_now: bool,
    pub(super) in_flight: Option<Kind>,
    /// The kind of the last batch. The other kind goes first then, so that neither holds up the other.
    last: Option<Kind>,
    pub(super) spool: Option<SpoolQueue>,
    pub(super) backoff: Backoff,
    is_flushing: bool,
    pub(super) stats: OutboxStats,
}

/// The longest interval at which metrics and snapshots are collected while the backend takes none.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);

impl Machine {
    /// `spooled` is the size of the queue in the spool, if there is a spool.
    pub(super) fn new(
        limits: OutboxLimits,
        retry: RetryPolicy,
        wants_state: bool,
        spooled: Option<SpoolSize>,
        now: Timestamp,
    ) -> Self {
        let mut stats = OutboxStats::default();
        stats.events.restored = spooled.map_or(0, |size| size.records);
        Self {
            limits,
            retry,
            memory: VecDeque::new(),
            memory_bytes: 0,
            batches: VecDeque::new(),
            states: StateQueue::default(),
            state_spool: StateSpool::new(wants_state && spooled.is_some()),
            state_max_age: None,
            state_interval: limits.interval,
            state_due: wants_state.then(|| Deadline::after(now, limits.interval)),
            is_state_wanted_now: false,
            in_flight: None,
            last: None,
            spool: spooled.map(SpoolQueue::new),
            backoff: Backoff::default(),
            is_flushing: false,
            stats,
        }
    }

    /// Takes over what is in the spool, before the first step.
    pub(super) fn restore(&mut self, spooled: SpoolSize) {
        self.stats.events.restored = spooled.records;
        self.spool = Some(SpoolQueue::new(spooled));
    }

    /// Adds an event, or drops it. Returns true if the worker should ask for the next step.
    pub(super) fn push(&mut self, event: Arc<AgentEvent>, now: Timestamp) -> bool {
        self.stats.events.received += 1;
        let (bytes, limits) = (event.size(), &self.limits);
        if self.memory.len() >= limits.queue_events || self.memory_bytes + bytes > limits.queue_bytes {
            self.stats.events.drop(DropReason::QueueFull, 1);
            return false;
        }
        let was_due = self.has_batch() || self.is_half_full();
        self.memory.push_back(Record { event, at: now, bytes, spool_id: None });
        self.memory_bytes += bytes;
        self.memory.len() == 1 || (!was_due && (self.has_batch() || self.is_half_full()))
    }

    /// Returns the next step.
    pub(super) fn step(&mut self, now: Timestamp) -> Step {
        self.expire(now);
        if let Some(step) = self.spool_step(now) {
            return step;
        }
        // Also while the backend is away, so that charts have no gap.
        if self.is_state_wanted_now || self.state_due.is_some_and(|due| due.is_over(now)) {
            return Step::Collect;
        }
        if self.in_flight.is_some() || self.stats.is_halted || !self.backoff.is_over(now) {
            return Step::Wait(self.next_due(now));
        }
        if let Some(max_age) = self.state_max_age {
            let removed = self.states.remove_older(max_age, now);
            self.stats.state.drop(DropReason::Superseded, removed);
        }
        let state = self.states.front().cloned();
        let events_first = self.last == Some(Kind::State);
        if let Some(state) = state.clone().filter(|_| !events_first) {
            self.in_flight = Some(Kind::State);
            return Step::Send(Outgoing::State(state));
        }
        let is_spool_readable =
            self.spool.as_ref().is_some_and(|spool| spool.waiting > 0 && spool.backoff.is_over(now));
        if self.batches.is_empty() && !is_spool_readable && self.is_batch_due(now) {
            let records = self.take_from_memory();
            self.batches.push_back(Batch { records, attempts: 0 });
        }
        let Some(batch) = self.batches.front() else {
            return match state {
                Some(state) => {
                    self.in_flight = Some(Kind::State);
                    Step::Send(Outgoing::State(state))
                }
                None => Step::Wait(self.next_due(now)),
            };
        };
        self.in_flight = Some(Kind::Events);
        Step::Send(Outgoing::Events(batch.records.iter().map(|record| record.event.clone()).collect()))
    }

    /// Accepts the metrics and snapshots that [`Step::Collect`] asked for.
    pub(super) fn collected(&mut self, now: Timestamp, state: StateBatch) {
        self.is_state_wanted_now = false;
        self.stats.state.received += state.len() as u64;
        if state.len() > 0 {
            self.states.push(Reading::new(state, now));
        }
        if self.thin_out_states() > 0 {
            self.state_interval = self.state_interval.saturating_mul(2).min(LONGEST_INTERVAL.max(self.limits.interval));
        }
        self.state_due = Some(Deadline::after(now, self.state_interval));
    }

    /// Drops readings while too many wait. Returns the number of their records.
    pub(super) fn thin_out_states(&mut self) -> usize {
        let removed = self.states.thin_out(self.limits.queue_state, self.in_flight == Some(Kind::State));
        self.stats.state.drop(DropReason::Superseded, removed);
        removed
    }

    /// Accepts the result of [`Step::Send`].
    pub(super) fn settle(&mut self, result: Result<ExportReport, ExportError>, now: Timestamp, random: f64) {
        let kind = self.in_flight.take();
        self.last = kind;
        match result {
            Ok(report) => {
                let again = match kind {
                    Some(Kind::Events) => self.settle_events(&report),
                    Some(Kind::State) => {
                        self.reset_state_interval(now);
                        self.settle_state(&report)
                    }
                    None => false,
                };
                if again {
                    self.stats.retries += 1;
                    self.back_off(report.retry_after, now, random);
                } else {
                    self.stats.last_error.clear();
                    self.backoff = Backoff {
                        failures: 0,
                        until: report
                            .retry_after
                            .map(|wait| Deadline::after(now, wait.min(RetryPolicy::LONGEST_RETRY_AFTER))),
                    };
                }
            }
            Err(error) => self.settle_error(kind, &error, now, random),
        }
        self.update_settled();
    }

    /// Resumes sending after the backend rejected the credentials.
    pub(super) fn resume(&mut self) {
        self.stats.is_halted = false;
        self.backoff = Backoff::default();
    }

    /// Sends everything, including metrics and snapshots, without waiting for full batches.
    pub(super) fn flush(&mut self) {
        self.is_flushing = true;
        self.is_state_wanted_now = self.state_due.is_some();
    }

    /// Returns to batching.
    pub(super) fn end_flush(&mut self) {
        self.is_flushing = false;
        self.is_state_wanted_now = false;
    }

    /// Cancels the batch in flight, which may be sent again.
    pub(super) fn cancel(&mut self) {
        self.in_flight = None;
    }

    /// Returns true if nothing is left to send.
    pub(super) fn is_idle(&self) -> bool {
        let is_spool_empty = self.spool.as_ref().is_none_or(|spool| spool.size.records == 0);
        let has_state = !self.states.is_empty() || self.is_state_wanted_now || self.state_spool.is_load_due;
        self.memory.is_empty() && self.batches.is_empty() && !has_state && is_spool_empty
    }

    /// Drops everything that is not in the spool. Returns the number of lost events.
    pub(super) fn drop_remaining(&mut self) -> u64 {
        self.in_flight = None;
        let in_batches = self.batches.drain(..).flat_map(|batch| batch.records);
        let lost = in_batches.filter(|record| record.spool_id.is_none()).count() + self.memory.len();
        self.memory.clear();
        self.memory_bytes = 0;
        self.stats.events.drop(DropReason::Shutdown, lost);
        let states = self.states.remove_not_in_spool();
        self.stats.state.drop(DropReason::Shutdown, states);
        lost as u64
    }

    pub(super) fn stats(&self) -> OutboxStats {
        let size = self.spool.as_ref().map(|spool| spool.size).unwrap_or_default();
        let unspooled =
            || self.batches.iter().flat_map(|batch| &batch.records).filter(|record| record.spool_id.is_none());
        OutboxStats {
            queue_length: (self.memory.len() + unspooled().count()) as u64,
            queue_bytes: (self.memory_bytes + unspooled().map(|record| record.bytes).sum::<usize>()) as u64,
            spool_length: size.records,
            spool_bytes: size.bytes,
            state_queue_length: self.states.records() as u64,
            ..self.stats.clone()
        }
    }

    fn has_batch(&self) -> bool {
        self.memory.len() >= self.limits.batch_events || self.memory_bytes >= self.limits.batch_bytes
    }

    pub(super) fn is_half_full(&self) -> bool {
        let limits = &self.limits;
        let is_half =
            self.memory.len() >= limits.queue_events.div_ceil(2) || self.memory_bytes >= limits.queue_bytes / 2;
        is_half && !self.memory.is_empty()
    }

    pub(super) fn is_batch_due(&self, now: Timestamp) -> bool {
        let Some(first) = self.memory.front() else { return false };
        self.is_flushing || self.has_batch() || Deadline::after(first.at, self.limits.max_delay).is_over(now)
    }

    fn take_from_memory(&mut self) -> Vec<Record> {
        let mut left = self.limits.batch_bytes;
        let mut count = 0;
        for record in self.memory.iter().take(self.limits.batch_events.max(1)) {
            if count > 0 && record.bytes > left {
                break;
            }
            left = left.saturating_sub(record.bytes);
            count += 1;
        }
        let records: Vec<Record> = self.memory.drain(..count).collect();
        self.memory_bytes -= records.iter().map(|record| record.bytes).sum::<usize>();
        records
    }

    /// Drops records that are too old, except those in flight.
    fn expire(&mut self, now: Timestamp) {
        let max_age = self.limits.max_age;
        let is_old = |record: &Record| now.since(record.at) > max_age;
        let old_in_memory = self.memory.iter().take_while(|record| is_old(record)).count();
        for record in self.memory.drain(..old_in_memory) {
            self.memory_bytes -= record.bytes;
        }
        self.stats.events.drop(DropReason::Expired, old_in_memory);
        let in_flight = usize::from(self.in_flight == Some(Kind::Events));
        if !self.batches.iter().skip(in_flight).any(|batch| batch.records.first().is_some_and(is_old)) {
            return;
        }
        let mut old = Vec::new();
        for batch in self.batches.iter_mut().skip(in_flight) {
            old.extend(batch.records.extract_if(.., |record| is_old(record)));
        }
        self.batches.retain(|batch| !batch.records.is_empty());
        self.subtract(&old);
        self.stats.events.drop(DropReason::Expired, old.len());
        self.update_settled();
    }

    /// Counts the result of the first batch of events. Returns true if a part of it is to be sent again.
    fn settle_events(&mut self, report: &ExportReport) -> bool {
        let Some(batch) = self.batches.pop_front() else { return false };
        let mut again = report.retry.iter().copied().peekable();
        let (rest, settled): (Vec<_>, Vec<_>) = batch.records.into_iter().enumerate().partition(|(index, _)| {
            while again.next_if(|next| next < index).is_some() {}
            again.next_if_eq(index).is_some()
        });
        let settled: Vec<Record> = settled.into_iter().map(|(_, record)| record).collect();
        self.stats.events.report(report, settled.len());
        self.subtract(&settled);
        let rest: Vec<Record> = rest.into_iter().map(|(_, record)| record).collect();
        // Partial success resets the attempt count.
        let attempts = if settled.is_empty() { batch.attempts + 1 } else { 0 };
        let is_left = !rest.is_empty();
        self.requeue(Batch { records: rest, attempts }) && is_left
    }

    /// Returns to the configured interval, because the backend accepts metrics and snapshots.
    fn reset_state_interval(&mut self, now: Timestamp) {
        self.state_interval = self.limits.interval;
        let next = Deadline::after(now, self.state_interval);
        self.state_due = self.state_due.map(|due| if due.at > next.at { next } else { due });
    }

    /// Counts the result of the first batch of metrics and snapshots. Returns true if a part of it is to be sent again.
    fn settle_state(&mut self, report: &ExportReport) -> bool {
        let Some(reading) = self.states.pop() else { return false };
        let rest = reading.part(reading.state.select(&report.retry));
        let settled = reading.state.len() - rest.state.len();
        self.stats.state.report(report, settled);
        // Partial success resets the attempt count.
        let attempts = if settled == 0 { reading.attempts + 1 } else { 0 };
        rest.state.len() > 0 && self.requeue_state(Reading { attempts, ..rest })
    }

    fn settle_error(&mut self, kind: Option<Kind>, error: &ExportError, now: Timestamp, random: f64) {
        self.stats.failures += 1;
        self.stats.last_error = error.to_string();
        if error.is_too_large() {
            self.split(kind);
        } else if error.is_unauthorized() {
            self.stats.is_halted = true;
        } else if !error.is_retryable() {
            let reason = matches!(error, ExportError::Rejected { .. }).then(|| error.to_string());
            self.discard(kind, |counts, count| match reason {
                Some(reason) => counts.reject(&Rejection::new(count as u64, reason)),
                None => counts.drop(DropReason::Invalid, count),
            });
        } else {
            self.stats.retries += u64::from(self.retry_first(kind, error.is_unavailable()));
            self.back_off(error.retry_after(), now, random);
        }
    }

    /// Counts another attempt of the first batch. Returns false if it is given up.
    fn retry_first(&mut self, kind: Option<Kind>, is_unavailable: bool) -> bool {
        let attempt = u32::from(!is_unavailable);
        match kind {
            Some(Kind::Events) => {
                let Some(batch) = self.batches.pop_front() else { return false };
                self.requeue(Batch { attempts: batch.attempts + attempt, ..batch })
            }
            Some(Kind::State) => {
                let Some(reading) = self.states.pop() else { return false };
                self.requeue_state(Reading { attempts: reading.attempts + attempt, ..reading })
            }
            None => false,
        }
    }

    /// Puts a batch back at the front of the queue. Returns false if it has no attempts left.
    fn requeue(&mut self, batch: Batch) -> bool {
        if batch.attempts >= self.retry.attempts {
            self.stats.events.drop(DropReason::RetriesExhausted, batch.records.len());
            self.subtract(&batch.records);
            return false;
        }
        if !batch.records.is_empty() {
            self.batches.push_front(batch);
        }
        true
    }

    /// Puts metrics and snapshots back at the front of the queue. Returns false if they have no attempts left.
    fn requeue_state(&mut self, reading: Reading) -> bool {
        if reading.attempts >= self.retry.attempts {
            self.stats.state.drop(DropReason::RetriesExhausted, reading.state.len());
            return false;
        }
        self.states.push_front(reading);
        true
    }

    /// Halves a batch that is too large; a single record is dropped.
    fn split(&mut self, kind: Option<Kind>) {
        match kind {
            Some(Kind::Events) if self.batches.front().is_some_and(|batch| batch.records.len() > 1) => {
                let Some(Batch { mut records, .. }) = self.batches.pop_front() else { return };
                let second = records.split_off(records.len() / 2);
                for records in [second, records] {
                    self.batches.push_front(Batch { records, attempts: 0 });
                }
            }
            Some(Kind::State) if self.states.front().is_some_and(|state| state.len() > 1) => {
                let Some(reading) = self.states.pop() else { return };
                let [first, second] = reading.state.split();
                self.states.push_front(reading.part(second));
                self.states.push_front(reading.part(first));
            }
            kind => self.discard(kind, |counts, count| counts.drop(DropReason::TooLarge, count)),
        }
    }

    /// Removes the first batch, and counts its records.
    fn discard(&mut self, kind: Option<Kind>, count: impl FnOnce(&mut RecordCounts, usize)) {
        match kind {
            Some(Kind::Events) => {
                let Some(batch) = self.batches.pop_front() else { return };
                count(&mut self.stats.events, batch.records.len());
                self.subtract(&batch.records);
            }
            Some(Kind::State) => {
                let Some(reading) = self.states.pop() else { return };
                count(&mut self.stats.state, reading.state.len());
            }
            None => {}
        }
    }

    fn back_off(&mut self, retry_after: Option<Duration>, now: Timestamp, random: f64) {
        let failures = self.backoff.failures.saturating_add(1);
        // Only the delay is used here; batches are given up one by one.
        let policy = RetryPolicy { attempts: u32::MAX, ..self.retry };
        let wait = policy.delay(failures.min(u32::MAX - 1), retry_after, random).unwrap_or(self.retry.longest);
        self.backoff = Backoff { failures, until: Some(Deadline::after(now, wait)) };
    }

    /// Returns the time until the next step is due, if nothing is pushed and no response arrives before.
    fn next_due(&self, now: Timestamp) -> Option<Duration> {
        let max_age = self.limits.max_age.saturating_add(Duration::from_nanos(1));
        let first = self.memory.front();
        let first_in_batches = self.batches.iter().filter_map(|batch| batch.records.first());
        let due = [
            self.backoff.until.map(|until| until.at),
            self.spool.as_ref().and_then(|spool| spool.backoff.until).map(|until| until.at),
            self.state_due.map(|due| due.at),
            first.map(|record| record.at.saturating_add(self.limits.max_delay)),
        ];
        let expiry = first.into_iter().chain(first_in_batches).map(|record| record.at.saturating_add(max_age));
        due.into_iter().flatten().chain(expiry).filter(|due| *due > now).min().map(|due| due.since(now))
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
