use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use sre_core::{Accepted, AlertChannel, ChannelError, DeliveryRecord, HttpClient, Notice, Timestamp};

use crate::manager::{Shared, note_store};
use crate::message::Message;

/// Delivers what the state says is due, and tells it how that went.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    running: FuturesUnordered<BoxFuture<'static, Attempt>>,
    /// What the store is to be told.
    records: Vec<DeliveryRecord>,
    adopted_at: Option<Timestamp>,
    pruned_at: Option<Timestamp>,
}

/// A finished attempt: whose it was, and how it went.
type Attempt = (u32, Message, Result<Accepted, ChannelError>);

/// How many attempts may run at a time, over all channels.
const LIMIT: usize = 256;
/// How many results are written together at most, where more keep coming.
const BATCH: usize = 1_024;
/// While the store cannot be written, so many results are kept; the oldest beyond go.
const MOST_RECORDS: usize = 65_536;
/// How often to look for deliveries of processes that are no more.
const ADOPT_EVERY: Duration = Duration::from_secs(60);
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, running: FuturesUnordered::new(), records: Vec::new(), adopted_at: None, pruned_at: None }
    }

    /// Works until it is told to stop.
    pub(crate) async fn run(mut self) {
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            let started = self.start_due();
            self.settle_finished();
            let wait = self.wait();
            if (started > 0 || wait.is_zero()) && self.records.len() < BATCH {
                // More may be due already. The connections of the HTTP client live on this thread too.
                tokio::task::yield_now().await;
                continue;
            }
            self.write_records();
            if self.is_idle() {
                self.shared.set_idle(true);
            }
            let shared = self.shared.clone();
            tokio::select! {
                Some(attempt) = self.running.next() => self.settle(vec![attempt]),
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.write_records();
    }

    /// Works until nothing more is due.
    pub(crate) async fn deliver_due(mut self) {
        loop {
            let started = self.start_due();
            match self.running.next().await {
                Some(attempt) => self.settle(vec![attempt]),
                None if started == 0 => break,
                None => {}
            }
        }
        self.write_records();
        self.shared.set_idle(true);
    }

    /// Starts every attempt that is due; says how many.
    fn start_due(&mut self) -> usize {
        let now = self.shared.now();
        self.adopt(now);
        let mut due = Vec::new();
        let mut state = self.shared.state();
        state.tick(now, false);
        state.take(now, LIMIT.saturating_sub(self.running.len()), &mut due);
        let channels: Vec<(u32, Arc<dyn AlertChannel>)> =
            state.lanes.iter().map(|lane| (lane.number, lane.channel.clone())).collect();
        drop(state);
        let started = due.len();
        for (number, message) in due {
            let Some((_, channel)) = channels.iter().find(|(known, _)| *known == number) else { continue };
            let http = self.shared.options.http.clone();
            self.running.push(attempt(number, channel.clone(), message, http, now).boxed());
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
            note_store(&mut self.shared.state(), pruned.map(|_| ()), now);
        }
    }

    fn has_spilled(&self) -> bool {
        let half = self.shared.options.queue_limit.div_ceil(2);
        self.shared.state().lanes.iter().any(|lane| lane.has_spilled && lane.room() >= half)
    }

    /// Takes in every attempt that has finished by now, without waiting.
    fn settle_finished(&mut self) {
        let mut finished = Vec::new();
        while let Some(Some(attempt)) = self.running.next().now_or_never() {
            finished.push(attempt);
        }
        self.settle(finished);
    }

    fn settle(&mut self, finished: Vec<Attempt>) {
        let now = self.shared.now();
        let mut state = self.shared.state();
        for (lane, message, result) in finished {
            state.settle(lane, message, result, now);
        }
        state.take_records(&mut self.records);
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
        note_store(&mut self.shared.state(), written, now);
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
        self.running.is_empty() && self.records.is_empty() && self.shared.state().is_idle()
    }
}

/// Makes one attempt; a panic of the channel is an error like any other.
async fn attempt(
    lane: u32,
    channel: Arc<dyn AlertChannel>,
    message: Message,
    http: Arc<dyn HttpClient>,
    at: Timestamp,
) -> Attempt {
    let notice = Notice { alert: &message.alert, id: message.id(), at };
    let outcome = AssertUnwindSafe(async {
        match &message.acknowledged_by {
            Some(by) => channel.acknowledge(notice, by, &*http).await.map(|()| Accepted::default()),
            None => channel.deliver(notice, &*http).await,
        }
    });
    let result = outcome.catch_unwind().await.unwrap_or_else(|panic| Err(ChannelError::Panicked(said(&*panic))));
    (lane, message, result)
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "for a reason that is no text".to_owned())
}
