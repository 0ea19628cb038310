use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Clock, Collect, Resource, RetryPolicy, Spool, SystemClock};

/// Options of an outbox; every field has a default.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone)]
pub struct OutboxOptions {
    /// Limits of queues and batches.
    pub limits: OutboxLimits,
    /// The retry policy. A batch is dropped after this number of error responses from the backend; while the backend is
    /// unavailable, batches wait until they are too old.
    pub retry: RetryPolicy,
    /// The exporting process.
    pub resource: Resource,
    /// Sources of metrics and snapshots, collected at every interval if the exporter wants them.
    pub collect: Vec<Arc<dyn Collect>>,
    /// Stores events that do not fit into memory, and all records that the backend cannot accept now. The queue of events has the
    /// exporter's name, and that of metrics and snapshots has it after [`Outbox::STATE_QUEUES`](crate::Outbox::STATE_QUEUES). Both
    /// may be used by one outbox at a time only.
    pub spool: Option<Arc<dyn Spool>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The clock by which metrics and snapshots are read, for events of the past; `None` for `clock`.
    pub collect_clock: Option<Arc<dyn Clock>>,
    /// Returns numbers between 0 and 1 for the jitter of retries.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// How long an outbox that is dropped waits for unsent records; 5 seconds.
    pub shutdown_timeout: Duration,
}

/// The limits of an outbox.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Maximum number of events in memory, besides the batch in flight; 65,536. Further events are dropped and counted,
    /// unless the spool makes room in time.
    pub queue_events: usize,
    /// Maximum size of the events in memory, approximately, in bytes; 32 MiB.
    pub queue_bytes: usize,
    /// Maximum number of metrics and snapshots in memory; 65,536. They wait here during an outage. Beyond this, every second
    /// reading is dropped and counted, and the interval doubles until the backend is back, so that a long outage leaves fewer
    /// points, but no gap. The spool has as many.
    pub queue_state: usize,
    /// Maximum size of the events in the spool, in bytes; 1 GiB.
    pub spool_bytes: u64,
    /// Maximum age of events since they were recorded; 24 hours. Older events are dropped and counted.
    pub max_age: Duration,
    /// Maximum number of events in a batch; 512.
    pub batch_events: usize,
    /// Maximum size of the events in a batch beyond the first, approximately, in bytes; 1 MiB.
    pub batch_bytes: usize,
    /// Maximum time that an event waits for a full batch; 2 seconds.
    pub max_delay: Duration,
    /// Interval at which metrics and snapshots are sent; 60 seconds.
    pub interval: Duration,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            limits: OutboxLimits::default(),
            retry: RetryPolicy::default(),
            resource: Resource::new("agent-sre"),
            collect: Vec::new(),
            spool: None,
            clock: Arc::new(SystemClock),
            collect_clock: None,
            random: Arc::new(fastrand::f64),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            queue_events: 65_536,
            queue_bytes: 32 << 20,
            queue_state: 65_536,
            spool_bytes: 1 << 30,
            max_age: Duration::from_secs(86_400),
            batch_events: 512,
            batch_bytes: 1 << 20,
            max_delay: Duration::from_secs(2),
            interval: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for OutboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxOptions")
            .field("limits", &self.limits)
            .field("retry", &self.retry)
            .field("resource", &self.resource)
            .field("has_spool", &self.spool.is_some())
            .finish_non_exhaustive()
    }
}
