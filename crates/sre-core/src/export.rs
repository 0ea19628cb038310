use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{AgentEvent, HttpClient, HttpError, Metric, Snapshot, Timestamp};

/// Publishes metrics, snapshots or events to a backend by HTTP.
///
/// An exporter is a mapping from a batch to the backend's requests and from its answers to an [`ExportReport`]. Batching,
/// retries, splitting and spooling are the outbox's (`sre-http`).
#[async_trait]
pub trait Exporter: Send + Sync {
    /// The backend's name, for logs, metrics and spools.
    fn name(&self) -> &str;

    /// What it reads of a batch. The rest is left empty, and nobody pays for it.
    fn wants(&self) -> Wants;

    /// Sends one batch, once. On a retryable error, the caller sends the same batch again.
    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError>;
}

/// What an exporter reads of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wants {
    /// Metrics, collected at every interval.
    pub metrics: bool,
    /// Snapshots, taken at every interval.
    pub snapshots: bool,
    /// Every event.
    pub events: bool,
}

impl Wants {
    /// Metrics only.
    pub const METRICS: Self = Self { metrics: true, snapshots: false, events: false };
    /// Events only.
    pub const EVENTS: Self = Self { metrics: false, snapshots: false, events: true };
    /// Everything.
    pub const ALL: Self = Self { metrics: true, snapshots: true, events: true };

    /// Returns the same with snapshots.
    #[must_use]
    pub const fn and_snapshots(mut self) -> Self {
        self.snapshots = true;
        self
    }
}

/// What is to be published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportBatch<'a> {
    /// When metrics and snapshots were taken; the time of the batch where it holds events only.
    pub at: Timestamp,
    /// What sends it.
    pub resource: &'a Resource,
    /// Metrics, where wanted.
    pub metrics: &'a [Metric<'static>],
    /// Snapshots, where wanted.
    pub snapshots: &'a [Snapshot],
    /// Events in the order in which they were recorded, where wanted.
    pub events: &'a [Arc<AgentEvent>],
}

impl<'a> ExportBatch<'a> {
    /// Returns a batch of nothing.
    pub const fn new(at: Timestamp, resource: &'a Resource) -> Self {
        Self { at, resource, metrics: &[], snapshots: &[], events: &[] }
    }

    /// Returns the batch with metrics and snapshots.
    #[must_use]
    pub const fn with_state(mut self, metrics: &'a [Metric<'static>], snapshots: &'a [Snapshot]) -> Self {
        (self.metrics, self.snapshots) = (metrics, snapshots);
        self
    }

    /// Returns the batch with events.
    #[must_use]
    pub const fn with_events(mut self, events: &'a [Arc<AgentEvent>]) -> Self {
        self.events = events;
        self
    }

    /// Returns how many records it holds.
    pub const fn len(&self) -> usize {
        self.metrics.len() + self.snapshots.len() + self.events.len()
    }

    /// Returns true where there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The process that exports, as OpenTelemetry's resource attributes describe it (`service.name` and so on).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Attributes by name.
    pub attributes: BTreeMap<String, String>,
}

impl Resource {
    /// Returns a resource of that `service.name`.
    pub fn new(service_name: impl Into<String>) -> Self {
        Self { attributes: BTreeMap::from([("service.name".to_owned(), service_name.into())]) }
    }

    /// Returns the resource with one more attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Returns the `service.name`.
    pub fn service_name(&self) -> &str {
        self.attributes.get("service.name").map_or("unknown_service", String::as_str)
    }
}

/// What a backend did with a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Records that the backend took.
    pub accepted: u64,
    /// Records that the backend refused for good, by reason.
    pub rejected: Vec<Rejection>,
    /// How long the backend asks to wait before the next batch.
    pub retry_after: Option<Duration>,
}

/// Records that a backend refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// How many.
    pub count: u64,
    /// Why, in the backend's words, shortened and without secrets.
    pub reason: Cow<'static, str>,
}

impl ExportReport {
    /// Returns the report that all of a batch was taken.
    pub fn accepted(count: usize) -> Self {
        Self { accepted: count as u64, ..Self::default() }
    }

    /// Returns the report with records that were refused for good.
    #[must_use]
    pub fn with_rejected(mut self, count: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        if count > 0 {
            self.rejected.push(Rejection { count, reason: reason.into() });
        }
        self
    }
}

/// A batch of which nothing is known to have been taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The request got no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The backend answered with an error status.
    #[error("{exporter} answered {status}: {message}")]
    Rejected {
        /// The exporter's name.
        exporter: String,
        /// The HTTP status.
        status: u16,
        /// The backend's message, shortened and without secrets.
        message: String,
        /// How long the backend asks to wait.
        retry_after: Option<Duration>,
    },
    /// The batch cannot be put into the backend's form: a bug, which no retry mends.
    #[error("{exporter}: {message}")]
    Invalid {
        /// The exporter's name.
        exporter: String,
        /// What cannot be.
        message: String,
    },
}

impl ExportError {
    /// Returns true where the same batch may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Invalid { .. } => false,
        }
    }

    /// Returns true where a smaller batch may succeed: the answer was 413.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Rejected { status: 413, .. })
    }

    /// Returns how long the backend asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
