use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use sre_core::{
    AlertChannel, ChannelError, DeliveryReceipt, DeliveryRecord, HttpClient, Notification, Severity, Timestamp,
};

use crate::channel_pipeline::ChannelId;
use crate::fingerprint::ByFingerprint;
use crate::message::Message;
use crate::shared::Shared;

/// Attempts the deliveries that are due and records their results.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// Messages about to be attempted.
    due: Vec<(ChannelId, Message)>,
    running: FuturesUnordered<BoxFuture<'static, Attempt>>,
    /// Finished attempts that are not in the state yet.
    finished: Vec<Attempt>,
    /// Finished messages, kept to be freed outside the lock.
    done: Vec<Message>,
    /// Results that are not in the store yet.
    records: Vec<DeliveryRecord>,
    /// The keys of the messages that those results are of.
    unwritten: ByFingerprint<()>,
    /// When to renew the lease on this process's deliveries; `None` if it does not expire.
    renew_at: Option<Timestamp>,
    adopted_at: Option<Timestamp>,
    pruned_at: Option<Timestamp>,
    /// Whether attempts were started since the worker last waited.
    was_busy: bool,
}

/// A finished attempt: channel, message and result.
type Attempt = (ChannelId, Message, Result<DeliveryReceipt, ChannelError>);

/// How many attempts may be in flight over all channels.
const CONCURRENCY: usize = 256;
/// After how many results to write them, while more keep coming.
const RECORD_BATCH: usize = 1_024;
/// How many results to keep while the store fails; beyond that, the oldest are dropped.
const MAX_UNWRITTEN_RECORDS: usize = 65_536;
const MIN_RENEW_INTERVAL: Duration = Duration::from_millis(100);
/// How soon to retry a failed renewal of the lease.
const RENEW_RETRY: Duration = Duration::from_secs(1);
/// How often to look for deliveries whose owner's lease has ended.
const ADOPT_EVERY: Duration = Duration::from_secs(60);
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// With fewer attempts than this in one turn of the loop, let more alerts gather before the next.
const SMALL_BATCH: usize = 16;
const SPIN: Duration = Duration::from_micros(20);

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            due: Vec::new(),
            running: FuturesUnordered::new(),
            finished: Vec::new(),
            done: Vec::new(),
            records: Vec::new(),
            unwritten: ByFingerprint::default(),
            renew_at: Some(Timestamp::default()),
            adopted_at: None,
            pruned_at: None,
            was_busy: false,
        }
    }

    /// Runs until the manager stops.
    pub(crate) async fn run(mut self) {
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            // A finished message may unblock the next of its key, so this comes first.
            self.record_finished();
            let started = self.start_due();
            let wait = self.wait();
            if started > 0 || wait.is_zero() {
                // More may be due already. Yields to the HTTP connections, which run on this thread.
                if self.records.len() >= RECORD_BATCH {
                    self.write_records();
                }
                if !self.running.is_empty() {
                    tokio::task::yield_now().await;
                }
                if started < SMALL_BATCH {
                    pause();
                }
                continue;
            }
            if self.records.is_empty() && self.is_woken_soon() {
                continue;
            }
            self.write_records();
            if self.is_idle() {
                self.shared.set_idle(true);
            }
            let shared = self.shared.clone();
            tokio::select! {
                Some(attempt) = self.running.next() => self.finished.push(attempt),
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.record_finished();
        self.write_records();
    }

    /// Runs until nothing more is due.
    pub(crate) async fn deliver_due(mut self) {
        loop {
            let started = self.start_due();
            if self.finished.is_empty() {
                match self.running.next().await {
                    Some(attempt) => self.finished.push(attempt),
                    None if started == 0 => break,
                    None => {}
                }
            }
            self.record_finished();
        }
        self.write_records();
        self.shared.set_idle(true);
    }

    /// Spins for some microseconds and returns whether another alert came: under load, waking a sleeping worker would cost
    /// each sender more than sending does.
    fn is_woken_soon(&mut self) -> bool {
        if !std::mem::take(&mut self.was_busy) {
            return false;
        }
        let end = Instant::now() + SPIN;
        while Instant::now() < end {
            if self.shared.wake.notified().now_or_never().is_some() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Starts every attempt that is due and returns how many.
    fn start_due(&mut self) -> usize {
        let now = self.shared.now();
        self.renew_lease(now);
        self.adopt(now);
        let mut state = self.shared.state_spinning();
        state.tick(now, false);
        state.take(now, CONCURRENCY.saturating_sub(self.running.len()), &mut self.due);
        let started = self.due.len();
        if started == 0 {
            return 0;
        }
        let channels: Vec<(ChannelId, Arc<dyn AlertChannel>)> =
            state.pipelines.iter().map(|pipeline| (pipeline.id, pipeline.channel.clone())).collect();
        drop(state);
        self.was_busy = true;
        // Otherwise a kill could leave both a trigger and its resolution to be delivered a second time.
        let follows_unwritten = |(_, message): &(ChannelId, Message)| {
            message.alert.severity == Severity::Resolved && self.unwritten.contains_key(&message.key)
        };
        if self.due.iter().any(follows_unwritten) {
            self.write_records();
        }
        for (id, message) in self.due.drain(..) {
            let Some((_, channel)) = channels.iter().find(|(known, _)| *known == id) else { continue };
            let http = self.shared.options.http.clone();
            let mut attempt = attempt(id, channel.clone(), message, http, now).boxed();
            // A callback finishes at once; the others are polled with all that are running.
            match (&mut attempt).now_or_never() {
                Some(finished) => self.finished.push(finished),
                None => self.running.push(attempt),
            }
        }
        started
    }

    fn renew_lease(&mut self, now: Timestamp) {
        if self.renew_at.is_none_or(|due| due > now) {
            return;
        }
        let renewed = self.shared.options.store.as_ref().map_or(Ok(None), |store| store.renew_lease(now));
        // Early enough that two renewals may fail.
        self.renew_at = match &renewed {
            Ok(expires) => expires.map(|expires| now.saturating_add((expires.since(now) / 3).max(MIN_RENEW_INTERVAL))),
            Err(_) => Some(now.saturating_add(RENEW_RETRY)),
        };
        if self.renew_at.is_some() {
            self.shared.note_store(&mut self.shared.state(), renewed.map(|_| ()), now);
        }
    }

    fn adopt(&mut self, now: Timestamp) {
        let is_due =
            |last: Option<Timestamp>, every| last.is_none_or(|last: Timestamp| last.saturating_add(every) <= now);
        let all = is_due(self.adopted_at, ADOPT_EVERY);
        if all || self.has_spilled() {
            // Spilled deliveries must be in the store before they can be adopted.
            self.write_records();
            self.shared.adopt(!all);
        }
        if all {
            self.adopted_at = Some(now);
        }
        if let Some(store) = self.shared.options.store.clone().filter(|_| is_due(self.pruned_at, PRUNE_EVERY)) {
            self.pruned_at = Some(now);
            let pruned = store.prune(&self.shared.options.retention, now);
            self.shared.note_store(&mut self.shared.state(), pruned.map(|_| ()), now);
        }
    }

    fn has_spilled(&self) -> bool {
        let half = self.shared.options.queue_limit.div_ceil(2);
        self.shared.state().pipelines.iter().any(|pipeline| pipeline.has_spilled && pipeline.free_capacity() >= half)
    }

    /// Passes the attempts that have finished by now to the state, without waiting.
    fn record_finished(&mut self) {
        while let Some(Some(attempt)) = self.running.next().now_or_never() {
            self.finished.push(attempt);
        }
        if self.finished.is_empty() {
            return;
        }
        let now = self.shared.now();
        let mut state = self.shared.state_spinning();
        let done = self
            .finished
            .drain(..)
            .filter_map(|(pipeline, message, result)| state.finish_attempt(pipeline, message, result, now));
        self.done.extend(done);
        if self.shared.options.store.is_some() {
            self.unwritten.extend(self.done.iter().map(|message| (message.key, ())));
        }
        state.take_records(&mut self.records);
        drop(state);
        // Freed here, outside the lock.
        self.done.clear();
    }

    fn write_records(&mut self) {
        self.unwritten.clear();
        let mut state = self.shared.state();
        state.take_records(&mut self.records);
        drop(state);
        let Some(store) = self.shared.options.store.clone().filter(|_| !self.records.is_empty()) else {
            return self.records.clear();
        };
        let written = store.record(&self.records);
        if written.is_ok() {
            self.records.clear();
        } else {
            let beyond = self.records.len().saturating_sub(MAX_UNWRITTEN_RECORDS);
            self.records.drain(..beyond);
        }
        let now = self.shared.now();
        self.shared.note_store(&mut self.shared.state(), written, now);
    }

    /// Returns how long until something is due; zero if something is.
    fn wait(&self) -> Duration {
        let due = [self.shared.state().next_due(), self.renew_at].into_iter().flatten().min();
        // At the concurrency limit, a due message cannot start until an attempt in flight finishes.
        let wait = due.map_or(ADOPT_EVERY, |due| due.since(self.shared.now()).min(ADOPT_EVERY));
        if wait.is_zero() && self.running.len() >= CONCURRENCY { Duration::from_millis(1) } else { wait }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.finished.is_empty() && self.records.is_empty() && self.shared.state().is_idle()
    }
}

/// Lets alerts gather while they come fast: taking each on its own would have the worker and the senders contend for the lock.
fn pause() {
    let end = Instant::now() + SPIN / 2;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Makes one attempt; a panic of the channel becomes an error.
async fn attempt(
    id: ChannelId,
    channel: Arc<dyn AlertChannel>,
    message: Message,
    http: Arc<dyn HttpClient>,
    at: Timestamp,
) -> Attempt {
    let notification = Notification::new(&message.alert, message.id(), at);
    let outcome = AssertUnwindSafe(async {
        match &message.acknowledged_by {
            Some(by) => channel.acknowledge(notification, by, &*http).await.map(|()| DeliveryReceipt::default()),
            None => channel.deliver(notification, &*http).await,
        }
    });
    let result = outcome.catch_unwind().await;
    let result = result.unwrap_or_else(|panic| Err(ChannelError::Panicked(panic_message(&*panic))));
    (id, message, result)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    message.unwrap_or_else(|| "without a message".to_owned())
}
