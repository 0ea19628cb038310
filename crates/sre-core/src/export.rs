use async_trait::async_trait;

use crate::{AgentEvent, HttpClient, HttpError, Snapshot};

/// Somebody who publishes snapshots, and events where the backend wants them, by HTTP.
#[async_trait]
pub trait Exporter: Send + Sync {
    /// The backend's name, for logs and statistics.
    fn name(&self) -> &str;

    /// Sends one batch. The caller batches, retries what [`ExportError::is_retryable`], and counts what is dropped.
    async fn export(
        &self,
        snapshots: &[Snapshot],
        events: &[AgentEvent],
        http: &dyn HttpClient,
    ) -> Result<(), ExportError>;
}

/// A batch that the backend did not take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The request did not get through.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The backend answered with an error status.
    #[error("{exporter} answered {status}: {message}")]
    Rejected {
        /// The exporter's name.
        exporter: String,
        /// The HTTP status.
        status: u16,
        /// What the backend said, shortened and without secrets.
        message: String,
    },
}

impl ExportError {
    /// Whether the same batch may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 408 | 429 | 500..=599),
        }
    }
}
