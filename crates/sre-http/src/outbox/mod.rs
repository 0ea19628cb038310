mod deadline;
mod machine;
mod options;
mod record;
#[cfg(test)]
mod simulation;
mod spool_queue;
mod spooling;
mod state_queue;
mod state_spool;
mod stats;
mod step;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sre_core::private::lock;
use sre_core::{AgentEvent, Collect, Exporter, HttpClient, Metric, Snapshot, StoreError, Timestamp};

use self::machine::Machine;
pub use self::options::{OutboxLimits, OutboxOptions};
pub use self::stats::{DropReason, OutboxStats, RecordCounts};
use self::worker::Shared;

/// Sends events, metrics and snapshots to the backend of an exporter: in order, in batches and with retries.
///
/// [`Outbox::push`] never waits and never fails; a separate thread sends. Lost records are counted by reason
/// ([`OutboxStats`]). While the backend is unavailable or memory is full, events are written to the spool, if there is
/// one, and sent from there in order, also after a restart. Without a spool they wait in memory, within
/// [`OutboxLimits`]. If the process is killed, records that were only in memory are lost, and the last ones sent may be
/// sent again.
///
/// - A response of 413 halves the batch, down to a single event, which is dropped.
/// - A retryable error is retried by the [`RetryPolicy`](sre_core::RetryPolicy), not before `Retry-After`.
/// - 401 and 403 halt the outbox until [`Outbox::resume`]: nothing is sent, and events wait.
/// - Any other response rejects the batch, with the backend's reason.
/// - Metrics and snapshots are collected at every interval, also while the backend is unavailable, and sent in order. They
///   wait in memory, within [`OutboxLimits`], and the spool has a copy for a restart.
///
/// ```
/// use std::sync::Arc;
/// use std::time::{Duration, Instant};
/// use sre_core::{AgentEvent, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, NoHttp, Wants};
/// use sre_http::{Outbox, OutboxOptions};
///
/// #[derive(Debug)]
/// struct Print;
///
/// #[async_trait::async_trait]
/// impl Exporter for Print {
///     fn name(&self) -> &str {
///         "print"
///     }
///
///     fn wants(&self) -> Wants {
///         Wants::EVENTS
///     }
///
///     async fn export(&self, batch: &ExportBatch<'_>, _http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
///         println!("{:?}", batch.events);
///         Ok(ExportReport::accepted(batch.len()))
///     }
/// }
///
/// let outbox = Outbox::start(Arc::new(Print), Arc::new(NoHttp), OutboxOptions::default())?;
/// let event = AgentEvent::from_json(br#"{"event":"heartbeat","time":1790000000,"agent":"support"}"#)?;
/// outbox.push(Arc::new(event));
/// assert!(outbox.flush(Duration::from_secs(60)));
/// assert_eq!(outbox.stats().events.sent, 1);
/// assert_eq!(outbox.shutdown(Duration::from_secs(60)), 0, "nothing is lost");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Outbox {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The error of starting an outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] StoreError),
    /// The thread cannot be started.
    #[error("cannot start the thread of an outbox: {0}")]
    Thread(#[from] std::io::Error),
}

impl Outbox {
    /// What the names of queues of metrics and snapshots in the spool begin with; the exporter's name follows.
    pub const STATE_QUEUES: &str = "state/";

    /// Starts an outbox with a thread that sends. Events that an earlier run left in the spool are sent first.
    pub fn start(
        exporter: Arc<dyn Exporter>,
        http: Arc<dyn HttpClient>,
        options: OutboxOptions,
    ) -> Result<Self, OutboxError> {
        let outbox = Self::without_thread(exporter, http, options)?;
        outbox.start_thread()?;
        Ok(outbox)
    }

    /// Starts the thread of an outbox that was created [without](Self::without_thread). Until then, events wait in memory. Events
    /// that another outbox has left in the spool meanwhile are sent first.
    pub fn start_thread(&self) -> Result<(), OutboxError> {
        let mut thread = lock(&self.thread);
        if thread.is_some() {
            return Ok(());
        }
        let Shared { exporter, options, .. } = &*self.shared;
        if let Some(spool) = &options.spool {
            self.shared.machine().restore(spool.size(exporter.name())?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = self.shared.clone();
        let run = move || runtime.block_on(shared.run());
        *thread = Some(std::thread::Builder::new().name("sre-outbox".to_owned()).spawn(run)?);
        Ok(())
    }

    /// Creates an outbox without a thread. The caller calls [`Outbox::send_due`], from a runtime of its own or in a
    /// test with a manual clock; or [`Outbox::start_thread`] later.
    pub fn without_thread(
        exporter: Arc<dyn Exporter>,
        http: Arc<dyn HttpClient>,
        options: OutboxOptions,
    ) -> Result<Self, OutboxError> {
        let wants = exporter.wants();
        let spooled = options.spool.as_ref().map(|spool| spool.size(exporter.name())).transpose()?;
        let wants_state = wants.metrics || wants.snapshots;
        let mut machine = Machine::new(options.limits, options.retry, wants_state, spooled, options.clock.now());
        machine.stats.exporter = exporter.name().to_owned();
        machine.state_max_age = exporter.state_max_age();
        let shared = Arc::new(Shared::new(exporter, http, options, machine));
        Ok(Self { shared, thread: Mutex::new(None) })
    }

    /// Adds an event, if the exporter wants events. Never waits for the backend or a disk, and never fails: if the
    /// queue is full, the event is dropped and counted.
    pub fn push(&self, event: Arc<AgentEvent>) {
        if !self.shared.exporter.wants().events {
            return;
        }
        let now = self.shared.options.clock.coarse_now();
        if self.shared.machine().push(event, now) {
            self.shared.wake.notify_one();
        }
    }

    /// Waits until the queue in memory is less than half full, so that no event is dropped. For a program that reads
    /// events faster than they can be sent. Returns false if it is still full after `timeout`.
    pub fn wait_for_capacity(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.shared.machine().is_half_full() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Sends everything that is due, and returns when nothing more is due.
    pub async fn send_due(&self) {
        self.shared.send_due().await;
    }

    /// Sends everything, including metrics and snapshots, without waiting for full batches. Retries still wait for
    /// their delay. For an outbox without a thread.
    pub async fn flush_due(&self) {
        self.shared.machine().flush();
        self.shared.send_due().await;
        self.shared.machine().end_flush();
    }

    /// Waits until everything is sent, including metrics and snapshots, for at most `timeout`. Returns false if
    /// something is left. Requires the outbox's thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.flush(timeout)
    }

    /// Returns the name of the exporter, which is that of its queue in the spool.
    pub fn exporter(&self) -> &str {
        self.shared.exporter.name()
    }

    /// Resumes sending after the backend rejected the credentials.
    pub fn resume(&self) {
        self.shared.machine().resume();
        self.shared.wake.notify_one();
    }

    /// How long an outbox that is dropped waits for unsent records.
    pub fn shutdown_timeout(&self) -> Duration {
        self.shared.options.shutdown_timeout
    }

    /// Returns the counters.
    pub fn stats(&self) -> OutboxStats {
        self.shared.machine().stats()
    }

    /// Sends as much as possible within `timeout`, and ends the thread. The rest waits in the spool for the next run;
    /// without a spool it is lost. Returns the number of lost events.
    pub fn shutdown(&self, timeout: Duration) -> u64 {
        if let Some(thread) = lock(&self.thread).take() {
            // A flush takes a reading of metrics and snapshots, which there would be no time to send.
            if !timeout.is_zero() {
                self.shared.flush(timeout);
            }
            self.shared.stop();
            // The thread catches panics of exporters, and does not panic itself.
            let _ = thread.join();
        }
        self.shared.spool_remaining()
    }
}

impl Collect for Outbox {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        Vec::new()
    }

    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        self.stats().metrics(emit);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shutdown(self.shared.options.shutdown_timeout);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("exporter", &self.shared.exporter.name())
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
