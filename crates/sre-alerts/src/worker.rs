use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use sre_core::{AlertChannel, ChannelError, DeliveryReceipt, DeliveryRecord, HttpClient, Notification, Timestamp};

use crate::message::Message;
use crate::shared::Shared;

/// Delivers what the state says is due, and tells it how that went.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// What is about to be tried.
    due: Vec<(u32, Message)>,
    running: FuturesUnordered<BoxFuture<'static, Attempt>>,
    /// What the state is to be told.
    finished: Vec<Attempt>,
    done: Vec<Message>,
    /// What the store is to be told.
    records: Vec<DeliveryRecord>,
    adopted_at: Option<Timestamp>,
    pruned_at: Option<Timestamp>,
    /// Whether there was something to do since it last waited.
    was_busy: bool,
}

/// A finished attempt: whose it was, and how it went.
type Attempt = (u32, Message, Result<DeliveryReceipt, ChannelError>);

/// How many attempts may run at a time, over all channels.
const LIMIT: usize = 256;
/// How many results are written together at most, where more keep coming.
const BATCH: usize = 1_024;
/// While the store cannot be written, so many results are kept; the oldest beyond go.
const MOST_RECORDS: usize = 65_536;
/// How often to look for deliveries of processes that are no more.
const ADOPT_EVERY: Duration = Duration::from_secs(60);
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Fewer attempts than this are not worth a turn of the loop while alerts come fast.
const FEW: usize = 16;
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
            adopted_at: None,
            pruned_at: None,
            was_busy: false,
        }
    }

    /// Works until it is told to stop.
    pub(crate) async fn run(mut self) {
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            // What is settled may set free what waited behind it, so this comes first.
            self.settle_finished();
            let started = self.start_due();
            let wait = self.wait();
            if started > 0 || wait.is_zero() {
                // More may be due already. The connections of the HTTP client live on this thread too.
                if self.records.len() >= BATCH {
                    self.write_records();
                }
                if !self.running.is_empty() {
                    tokio::task::yield_now().await;
                }
                if started < FEW {
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
        self.settle_finished();
        self.write_records();
    }

    /// Works until nothing more is due.
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
            self.settle_finished();
        }
        self.write_records();
        self.shared.set_idle(true);
    }

    /// Whether another alert comes within some microseconds: where many are sent, going to sleep and being woken would
    /// cost each sender more than its alert.
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

    /// Starts every attempt that is due; says how many.
    fn start_due(&mut self) -> usize {
        let now = self.shared.now();
        self.adopt(now);
        let mut state = self.shared.lock_state_spinning();
        state.tick(now, false);
        state.take(now, LIMIT.saturating_sub(self.running.len()), &mut self.due);
        let started = self.due.len();
        if started == 0 {
            return 0;
        }
        let channels: Vec<(u32, Arc<dyn AlertChannel>)> =
            state.pipelines.iter().map(|pipeline| (pipeline.number, pipeline.channel.clone())).collect();
        drop(state);
        self.was_busy = true;
        for (number, message) in self.due.drain(..) {
            let Some((_, channel)) = channels.iter().find(|(known, _)| *known == number) else { continue };
            let http = self.shared.options.http.clone();
            let mut attempt = attempt(number, channel.clone(), message, http, now).boxed();
            // A callback is done at once; what waits for a network is polled again by whoever waits for all.
            match (&mut attempt).now_or_never() {
                Some(finished) => self.finished.push(finished),
                None => self.running.push(attempt),
            }
        }
        started
    }

    fn adopt(&mut self, now: Timestamp) {
        let is_due =
            |last: Option<Timestamp>, every| last.is_none_or(|last: Timestamp| last.saturating_add(every) <= now);
        let all = is_due(self.adopted_at, ADOPT_EVERY);
        if all || self.has_spilled() {
            // What had no room must be in the store before it can be taken from there.
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

    /// Takes in every attempt that has finished by now, without waiting.
    fn settle_finished(&mut self) {
        while let Some(Some(attempt)) = self.running.next().now_or_never() {
            self.finished.push(attempt);
        }
        if self.finished.is_empty() {
            return;
        }
        let now = self.shared.now();
        let mut state = self.shared.lock_state_spinning();
        let done = self
            .finished
            .drain(..)
            .filter_map(|(pipeline, message, result)| state.settle(pipeline, message, result, now));
        self.done.extend(done);
        state.take_records(&mut self.records);
        drop(state);
        // Freed here, where nobody waits for the lock meanwhile.
        self.done.clear();
    }

    fn write_records(&mut self) {
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
            let beyond = self.records.len().saturating_sub(MOST_RECORDS);
            self.records.drain(..beyond);
        }
        let now = self.shared.now();
        self.shared.note_store(&mut self.shared.state(), written, now);
    }

    /// How long nothing will be due; zero where something is.
    fn wait(&self) -> Duration {
        let longest = ADOPT_EVERY;
        let due = self.shared.state().next_due();
        // With something running, the answer wakes us; the queue may be full of what must wait for it.
        let wait = due.map_or(longest, |due| due.since(self.shared.now()).min(longest));
        if wait.is_zero() && self.running.len() >= LIMIT { Duration::from_millis(1) } else { wait }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.finished.is_empty() && self.records.is_empty() && self.shared.state().is_idle()
    }
}

/// Lets some alerts gather while they come fast: to take each one on its own, the worker and the senders would spend their
/// time waiting for each other's lock.
fn pause() {
    let end = Instant::now() + SPIN / 2;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Makes one attempt; a panic of the channel is an error like any other.
async fn attempt(
    pipeline: u32,
    channel: Arc<dyn AlertChannel>,
    message: Message,
    http: Arc<dyn HttpClient>,
    at: Timestamp,
) -> Attempt {
    let notification = Notification { alert: &message.alert, id: message.id(), at };
    let outcome = AssertUnwindSafe(async {
        match &message.acknowledged_by {
            Some(by) => channel.acknowledge(notification, by, &*http).await.map(|()| DeliveryReceipt::default()),
            None => channel.deliver(notification, &*http).await,
        }
    });
    let result =
        outcome.catch_unwind().await.unwrap_or_else(|panic| Err(ChannelError::Panicked(panic_message(&*panic))));
    (pipeline, message, result)
}

/// What a panic says.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "for a reason that is no text".to_owned())
}
