use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sre_core::{Clock, Collect, Resource, RetryPolicy, Spool, SystemClock};

/// How an outbox works; every field has a default.
#[derive(Clone)]
pub struct OutboxOptions {
    /// What it keeps and sends at most.
    pub limits: OutboxLimits,
    /// When a failed batch is sent again. A batch is given up after so many attempts that the backend answered with an
    /// error of its own; while the backend is away, batches wait until they are too old.
    pub retry: RetryPolicy,
    /// The process that exports.
    pub resource: Resource,
    /// Where metrics and snapshots are taken from at every interval, if the exporter wants them.
    pub collect: Vec<Arc<dyn Collect>>,
    /// Where events wait that memory has no room for, or that the backend cannot take now. One outbox uses the queue of
    /// its exporter's name at a time.
    pub spool: Option<Arc<dyn Spool>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Numbers between 0 and 1 for the jitter of retries.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// How long an outbox that is dropped waits for what is still to be sent; 5 seconds.
    pub shutdown_timeout: Duration,
}

/// The bounds of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Events in memory, beside the batch that is being sent; 65,536. Further ones are dropped, and counted, unless the
    /// spool takes some in time.
    pub queue_events: usize,
    /// Bytes of events in memory, as JSON; 32 MiB.
    pub queue_bytes: usize,
    /// Bytes of events in the spool; 1 GiB.
    pub spool_bytes: u64,
    /// Events older than this, from when they were recorded, are dropped, and counted; 24 hours.
    pub max_age: Duration,
    /// Events of one batch; 512.
    pub batch_events: usize,
    /// Bytes of events of one batch, as JSON, beyond its first event; 1 MiB.
    pub batch_bytes: usize,
    /// How long an event waits for others at most; 2 seconds.
    pub max_delay: Duration,
    /// How often metrics and snapshots are sent; 60 seconds.
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
