mod error;
mod report;
mod request;
mod resource;
mod span;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::error::ExportError;
pub use self::report::{ExportReport, Rejection};
pub use self::request::send_export;
pub use self::resource::Resource;
pub use self::span::{EventSpan, stable_id};
use crate::{AgentEvent, HttpClient, Metric, Snapshot, Timestamp};

/// Publishes metrics, snapshots or events to a backend.
///
/// An exporter is a mapping from a batch to the backend's requests ([`send_export`]) and from its answers to an
/// [`ExportReport`]. Batching, retries, splitting and spooling are the outbox's (`sre-http`). Events as spans, with their
/// ids, parents and times, are [`EventSpan`]s. Like everything else, `Debug` shows no secret.
///
/// ```
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use sre_core::{ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Wants, send_export};
///
/// /// Posts events as JSON Lines.
/// #[derive(Debug)]
/// struct Lines {
///     url: String,
/// }
///
/// #[async_trait]
/// impl Exporter for Lines {
///     fn name(&self) -> &str {
///         "lines"
///     }
///
///     fn wants(&self) -> Wants {
///         Wants::EVENTS
///     }
///
///     async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
///         let invalid = |error: &dyn std::fmt::Display| ExportError::invalid("lines", error.to_string());
///         let lines: Result<Vec<String>, _> = batch.events.iter().map(|event| serde_json::to_string(event)).collect();
///         let body = Bytes::from(lines.map_err(|error| invalid(&error))?.join("\n"));
///         let request = http::Request::post(&self.url).body(body).map_err(|error| invalid(&error))?;
///         send_export(self.name(), request, &[], batch.at, http).await?;
///         Ok(ExportReport::accepted(batch.events.len()))
///     }
/// }
/// ```
#[async_trait]
pub trait Exporter: fmt::Debug + Send + Sync {
    /// The backend's name, for logs, metrics and spools.
    fn name(&self) -> &str;

    /// What it reads of a batch. The rest is left empty, and nobody pays for it.
    fn wants(&self) -> Wants;

    /// Sends one batch, once. The caller sends the same batch, or the rest of it, again where the error is retryable or
    /// the report says so. An empty batch makes no request.
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

    /// Returns the same with metrics.
    #[must_use]
    pub const fn and_metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Returns the same with snapshots.
    #[must_use]
    pub const fn and_snapshots(mut self) -> Self {
        self.snapshots = true;
        self
    }
}

/// What is to be published. The outbox sends state (metrics and snapshots) and events in batches of their own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportBatch<'a> {
    /// When metrics and snapshots were taken; the time of sending where it holds events only.
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
