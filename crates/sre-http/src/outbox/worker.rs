use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sre_core::private::lock;
use sre_core::{ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Metric, Snapshot};
use tokio::sync::Notify;

use super::machine::Machine;
use super::options::OutboxOptions;
use super::record::StateBatch;
use super::spool_queue::SpoolResult;
use super::state_queue::Reading;
use super::step::{Outgoing, Step};

/// The state shared by an outbox and its thread.
pub(super) struct Shared {
    pub(super) exporter: Arc<dyn Exporter>,
    pub(super) http: Arc<dyn HttpClient>,
    pub(super) options: OutboxOptions,
    machine: Mutex<Machine>,
    pub(super) wake: Notify,
    is_stopping: AtomicBool,
    /// The result of a flush, once it is over: whether everything was sent.
    flushed: (Mutex<Option<bool>>, Condvar),
}

type ExportResult = Result<ExportReport, ExportError>;

/// The maximum sleep of the thread, because the clock may be set while it sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

impl Shared {
    pub(super) fn new(
        exporter: Arc<dyn Exporter>,
        http: Arc<dyn HttpClient>,
        options: OutboxOptions,
        machine: Machine,
    ) -> Self {
        let (machine, flushed) = (Mutex::new(machine), (Mutex::new(None), Condvar::new()));
        Self { exporter, http, options, machine, wake: Notify::new(), is_stopping: AtomicBool::new(false), flushed }
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    /// Runs until it is stopped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut sending: Option<BoxFuture<'static, ExportResult>> = None;
        while !self.is_stopping.load(Ordering::Acquire) {
            let wait = match self.next_step() {
                Step::Send(outgoing) => {
                    sending = Some(self.clone().send(outgoing).boxed());
                    continue;
                }
                Step::Wait(wait) => wait.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP),
                _ => continue,
            };
            self.report_flushed(sending.is_some());
            tokio::select! {
                result = async { sending.as_mut().expect("guarded").await }, if sending.is_some() => {
                    sending = None;
                    self.settle(result);
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Runs until nothing more is due.
    pub(super) async fn send_due(self: &Arc<Self>) {
        /// Cancels the batch in flight when the future that sends it is dropped.
        struct CancelOnDrop<'a>(&'a Shared);

        impl Drop for CancelOnDrop<'_> {
            fn drop(&mut self) {
                self.0.machine().cancel();
            }
        }

        loop {
            match self.next_step() {
                Step::Send(outgoing) => {
                    let cancel = CancelOnDrop(self);
                    let result = self.clone().send(outgoing).await;
                    std::mem::forget(cancel);
                    self.settle(result);
                }
                Step::Wait(_) => return,
                _ => {}
            }
        }
    }

    /// Waits until everything is sent, for at most `timeout`. Returns false if something is left.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        {
            let mut machine = self.machine();
            machine.flush();
            *lock(&self.flushed.0) = None;
        }
        self.wake.notify_one();
        let deadline = Instant::now() + timeout;
        let mut flushed = lock(&self.flushed.0);
        while flushed.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.flushed.1.wait_timeout(flushed, left);
            flushed = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        let is_all_sent = *flushed == Some(true);
        drop(flushed);
        self.machine().end_flush();
        is_all_sent
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Moves what remains to the spool; without a spool it is lost. Returns the number of lost events.
    pub(super) fn spool_remaining(&self) -> u64 {
        let mut machine = self.machine();
        let records = machine.not_in_spool(true);
        let has_room = machine.spool.as_ref().is_some_and(|spool| spool.size.bytes < machine.limits.spool_bytes);
        if let Some(spool) = self.options.spool.as_ref().filter(|_| has_room && !records.is_empty())
            && let SpoolResult::Appended(sizes, result) = SpoolResult::append(&records, &**spool, self.exporter.name())
        {
            machine.spooled_at_shutdown(&sizes, result, self.options.clock.now());
        }
        let readings: Vec<Reading> = machine.states.not_in_spool().map(|reading| reading.clone()).collect();
        if let Some(spool) = self.options.spool.as_ref().filter(|_| !readings.is_empty()) {
            let result = SpoolResult::append_states(&readings, &**spool, self.exporter.name());
            machine.spooled(result, self.options.clock.now());
        }
        machine.drop_remaining()
    }

    /// Performs steps until one has to wait, and returns that step.
    fn next_step(&self) -> Step {
        loop {
            let now = self.options.clock.now();
            let step = self.machine().step(now);
            if let Step::Collect = step {
                let at = self.options.collect_clock.as_ref().map_or(now, |clock| clock.now());
                let (metrics, snapshots) = self.collect(at);
                self.machine().collected(now, StateBatch { at, metrics, snapshots });
                continue;
            }
            // Without holding the lock, so that a push never waits for a disk.
            let spool = self.options.spool.as_deref();
            let limits = &self.options.limits;
            match spool.and_then(|spool| SpoolResult::of(&step, spool, self.exporter.name(), limits)) {
                Some(result) => self.machine().spooled(result, now),
                None => return step,
            }
        }
    }

    fn collect(&self, at: sre_core::Timestamp) -> (Vec<Metric<'static>>, Vec<Snapshot>) {
        let (wants, sources) = (self.exporter.wants(), &self.options.collect);
        let (mut metrics, mut snapshots) = (Vec::new(), Vec::new());
        for source in sources {
            // If a source panics, the others are still collected.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
                if wants.metrics {
                    source.metrics(at, &mut |metric| metrics.push(metric.into_owned()));
                }
                if wants.snapshots {
                    snapshots.extend(source.snapshots(at));
                }
            }));
        }
        (metrics, snapshots)
    }

    /// Sends a batch once. A panic of the exporter is returned as an error.
    async fn send(self: Arc<Self>, outgoing: Outgoing) -> ExportResult {
        let resource = &self.options.resource;
        let result = match &outgoing {
            Outgoing::Events(events) => {
                let batch = ExportBatch::new(self.options.clock.now(), resource).with_events(events);
                AssertUnwindSafe(self.exporter.export(&batch, &*self.http)).catch_unwind().await
            }
            Outgoing::State(state) => {
                let batch = ExportBatch::new(state.at, resource).with_state(&state.metrics, &state.snapshots);
                AssertUnwindSafe(self.exporter.export(&batch, &*self.http)).catch_unwind().await
            }
        };
        result.unwrap_or_else(|panic| {
            let message = format!("the exporter panicked: {}", panic_message(&*panic));
            Err(ExportError::invalid(self.exporter.name(), message))
        })
    }

    fn settle(&self, result: ExportResult) {
        let random = (self.options.random)();
        self.machine().settle(result, self.options.clock.now(), random);
    }

    /// Wakes waiting flushes once nothing more can be sent.
    fn report_flushed(&self, is_sending: bool) {
        let machine = self.machine();
        let is_halted = machine.stats.is_halted;
        if (machine.is_idle() || is_halted) && !is_sending {
            // The machine is locked, so that a flush that begins now does not see an earlier result.
            *lock(&self.flushed.0) = Some(!is_halted);
            self.flushed.1.notify_all();
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}
