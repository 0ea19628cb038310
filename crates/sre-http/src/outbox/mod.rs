mod deadline;
mod machine;
mod options;
mod record;
mod spool_queue;
mod stats;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sre_core::private::lock;
use sre_core::{AgentEvent, Collect, Exporter, HttpClient, Metric, Snapshot, StoreError, Timestamp};

use self::machine::Machine;
pub use self::options::{OutboxLimits, OutboxOptions};
pub use self::stats::{DropReason, OutboxStats, RecordCounts};
use self::worker::Shared;

/// Sends events, metrics and snapshots to an exporter's backend: in batches, in order, and for as long as it takes.
///
/// [`Outbox::push`] never waits and never fails; a thread of its own sends. What is lost is counted by reason
/// ([`OutboxStats`]). While the backend is away, or where memory is full, events go to the spool, if there is one, and are
/// sent from there in order, after a restart too. Without a spool they wait in memory, within
/// [`OutboxLimits`]. A process that is killed loses what was in memory only, and may send again what was sent last.
///
/// - An answer of 413 halves the batch, down to one event, which is dropped.
/// - A retryable error is retried by the [`RetryPolicy`](sre_core::RetryPolicy), not before `Retry-After`.
/// - 401 and 403 halt it until [`Outbox::resume`]: nothing is sent, and events wait.
/// - Any other error drops the batch.
/// - Metrics and snapshots are taken and sent at every interval. Those that could not be sent until the next are dropped.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use sre_core::{AgentEvent, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Offline, Wants};
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
/// let outbox = Outbox::start(Arc::new(Print), Arc::new(Offline), OutboxOptions::default())?;
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

/// Error of starting an outbox.
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
    /// Starts an outbox with a thread that sends. What an earlier run left in the spool is sent first.
    pub fn start(
        exporter: Arc<dyn Exporter>,
        http: Arc<dyn HttpClient>,
        options: OutboxOptions,
    ) -> Result<Self, OutboxError> {
        let outbox = Self::driven(exporter, http, options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = outbox.shared.clone();
        let thread =
            std::thread::Builder::new().name("sre-outbox".to_owned()).spawn(move || runtime.block_on(shared.run()))?;
        *lock(&outbox.thread) = Some(thread);
        Ok(outbox)
    }

    /// Returns an outbox without a thread: the caller calls [`Outbox::send_due`], from a runtime of its own or in a test with
    /// a manual clock.
    pub fn driven(
        exporter: Arc<dyn Exporter>,
        http: Arc<dyn HttpClient>,
        options: OutboxOptions,
    ) -> Result<Self, OutboxError> {
        let wants = exporter.wants();
        let spooled = options.spool.as_ref().map(|spool| spool.size(exporter.name())).transpose()?;
        let wants_state = wants.metrics || wants.snapshots;
        let mut machine = Machine::new(options.limits, options.retry, wants_state, spooled, options.clock.now());
        machine.stats.exporter = exporter.name().to_owned();
        let shared = Arc::new(Shared::new(exporter, http, options, machine));
        Ok(Self { shared, thread: Mutex::new(None) })
    }

    /// Takes an event, if the exporter wants events. Never waits for the backend or a disk, and never fails: where there is
    /// no room the event is dropped, and counted.
    pub fn push(&self, event: Arc<AgentEvent>) {
        if !self.shared.exporter.wants().events {
            return;
        }
        let bytes = record::size(&event);
        let now = self.shared.options.clock.coarse_now();
        if self.shared.machine().push(event, bytes, now) {
            self.shared.wake.notify_one();
        }
    }

    /// Sends everything that is due by the clock, and returns when nothing more is.
    pub async fn send_due(&self) {
        self.shared.send_due().await;
    }

    /// Sends everything there is, metrics and snapshots included, without waiting for a batch to fill; retries still wait
    /// for their time. For an outbox without a thread.
    pub async fn flush_due(&self) {
        self.shared.machine().flush();
        self.shared.send_due().await;
        self.shared.machine().end_flush();
    }

    /// Waits until everything is sent, metrics and snapshots included, at most so long; false where something is left.
    /// Needs the outbox's thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.flush(timeout)
    }

    /// Sends again after the backend refused the credentials.
    pub fn resume(&self) {
        self.shared.machine().resume();
        self.shared.wake.notify_one();
    }

    /// Returns what became of everything so far.
    pub fn stats(&self) -> OutboxStats {
        self.shared.machine().stats()
    }

    /// Sends what it can within that time, and ends the thread. What is left waits in the spool for the next run; without
    /// one it is lost. Returns how many events are lost.
    pub fn shutdown(self, timeout: Duration) -> u64 {
        self.stop(timeout)
    }

    fn stop(&self, timeout: Duration) -> u64 {
        if let Some(thread) = lock(&self.thread).take() {
            self.shared.flush(timeout);
            self.shared.stop();
            // The thread contains the panics of exporters; it has none of its own to report.
            let _ = thread.join();
        }
        self.shared.put_away()
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
        self.stop(self.shared.options.shutdown_timeout);
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
