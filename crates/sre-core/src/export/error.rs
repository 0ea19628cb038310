use std::time::Duration;

use crate::HttpError;

/// An export that failed. No record of the batch is known to be accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The request got no response.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The backend answered with an error status.
    #[error("{exporter} answered {status}: {message}")]
    Rejected {
        /// The exporter's name.
        exporter: String,
        /// The HTTP status; for another protocol, the closest HTTP status.
        status: u16,
        /// The backend's message, shortened and without secrets.
        message: String,
        /// The delay that the backend requests.
        retry_after: Option<Duration>,
    },
    /// The response is not one of the backend's API but an HTML page, such as a proxy's login page.
    #[error("{exporter}: found an HTML page with status {status}, expected a response of the API; check the URL")]
    Page {
        /// The exporter's name.
        exporter: String,
        /// The HTTP status (2xx).
        status: u16,
    },
    /// The batch cannot be converted to the backend's format: a bug, which is not retried.
    #[error("{exporter}: {message}")]
    Invalid {
        /// The exporter's name.
        exporter: String,
        /// The error.
        message: String,
    },
}

impl ExportError {
    /// Creates an [`Invalid`](Self::Invalid) error.
    pub fn invalid(exporter: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { exporter: exporter.into(), message: message.into() }
    }

    /// Returns true if the same batch may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Page { .. } => true,
            Self::Invalid { .. } => false,
        }
    }

    /// Returns true if the cause is the backend's state and not the batch: no response, a page instead of one, 429, 502, 503 or 504.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 429 | 502..=504),
            Self::Page { .. } => true,
            Self::Invalid { .. } => false,
        }
    }

    /// Returns true if the backend rejects the credentials: 401 or 403.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Rejected { status: 401 | 403, .. })
    }

    /// Returns true if a smaller batch may succeed: 413.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Rejected { status: 413, .. })
    }

    /// Returns true if the same records may be accepted later, or in smaller batches, or after new credentials.
    pub fn is_temporary(&self) -> bool {
        self.is_retryable() || self.is_too_large() || self.is_unauthorized()
    }

    /// Returns the delay that the backend requests.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
