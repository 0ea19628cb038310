mod api;
mod error;
#[cfg(feature = "gzip")]
mod gzip;
mod object;
mod report;
mod request;
mod resource;
mod span;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::api::{BackendApi, InvalidExporter};
pub use self::error::ExportError;
pub use self::object::{JsonEntry, JsonObject};
pub use self::report::{ExportReport, Rejection};
pub use self::resource::Resource;
pub use self::span::EventSpan;
use crate::{AgentEvent, HttpClient, Metric, SloSnapshot, Snapshot, Timestamp};

/// Publishes metrics, snapshots or events to a backend.
///
/// An exporter converts a batch to requests ([`BackendApi`] for HTTP) and the responses to an [`ExportReport`]. Batching,
/// retries, splitting and spooling are up to the outbox (`sre-http`). [`EventSpan`] converts events to spans with ids,
/// parents and times. `Debug` must not show secrets.
///
/// ```
/// use async_trait::async_trait;
/// use http::Method;
/// use sre_core::{BackendApi, ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Wants};
///
/// /// Posts events as JSON Lines.
/// #[derive(Debug)]
/// struct Lines(BackendApi);
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
///         let lines: Result<Vec<String>, _> = batch.events.iter().map(|event| serde_json::to_string(event)).collect();
///         let body = lines.map_err(|error| self.0.invalid(error))?.join("\n");
///         self.0.send(self.0.request(Method::POST, "/lines"), body, batch.at, http).await?;
///         Ok(ExportReport::accepted(batch.events.len()))
///     }
/// }
/// ```
#[async_trait]
pub trait Exporter: fmt::Debug + Send + Sync {
    /// Returns the backend's name, for logs, metrics and spools.
    fn name(&self) -> &str;

    /// Returns which parts of a batch the exporter needs. Other parts are not collected.
    fn wants(&self) -> Wants;

    /// Returns the age up to which the backend takes metrics and snapshots; `None` if it takes any. The outbox drops older
    /// ones if newer ones wait.
    fn state_max_age(&self) -> Option<Duration> {
        None
    }

    /// Sends one batch, once. The caller sends the batch, or the rest of it, again if the error is retryable or the
    /// report requests it. An empty batch makes no request.
    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError>;
}

/// The parts of a batch that an exporter needs.
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

    /// Adds metrics.
    #[must_use]
    pub const fn and_metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Adds snapshots.
    #[must_use]
    pub const fn and_snapshots(mut self) -> Self {
        self.snapshots = true;
        self
    }
}

/// A batch to export. The outbox sends metrics and snapshots separately from events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportBatch<'a> {
    /// When metrics and snapshots were taken; for a batch of events, the time of sending.
    pub at: Timestamp,
    /// The exporting process.
    pub resource: &'a Resource,
    /// Metrics, if wanted.
    pub metrics: &'a [Metric<'static>],
    /// Snapshots, if wanted.
    pub snapshots: &'a [Snapshot],
    /// Events in the order in which they were recorded, if wanted.
    pub events: &'a [Arc<AgentEvent>],
}

impl<'a> ExportBatch<'a> {
    /// Creates an empty batch.
    pub const fn new(at: Timestamp, resource: &'a Resource) -> Self {
        Self { at, resource, metrics: &[], snapshots: &[], events: &[] }
    }

    /// Sets metrics and snapshots.
    #[must_use]
    pub const fn with_state(mut self, metrics: &'a [Metric<'static>], snapshots: &'a [Snapshot]) -> Self {
        (self.metrics, self.snapshots) = (metrics, snapshots);
        self
    }

    /// Sets events.
    #[must_use]
    pub const fn with_events(mut self, events: &'a [Arc<AgentEvent>]) -> Self {
        self.events = events;
        self
    }

    /// Returns the snapshots of objectives.
    pub fn objectives(&self) -> impl Iterator<Item = &'a SloSnapshot> {
        self.snapshots.iter().filter_map(|snapshot| match snapshot {
            Snapshot::Slo(slo) => Some(&**slo),
            _ => None,
        })
    }

    /// Returns the number of records.
    pub const fn len(&self) -> usize {
        self.metrics.len() + self.snapshots.len() + self.events.len()
    }

    /// Returns true if there are no records.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
