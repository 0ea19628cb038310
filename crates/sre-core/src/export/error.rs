use std::time::Duration;

use crate::HttpError;

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
        /// The HTTP status; for another protocol the one that comes closest.
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
        /// What is wrong with it.
        message: String,
    },
}

impl ExportError {
    /// Returns the error of a batch that cannot be put into the backend's form.
    pub fn invalid(exporter: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { exporter: exporter.into(), message: message.into() }
    }

    /// Returns true where the same batch may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Invalid { .. } => false,
        }
    }

    /// Returns true where the cause is the backend's state and not the batch: no answer, 429, 502, 503 or 504.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 429 | 502..=504),
            Self::Invalid { .. } => false,
        }
    }

    /// Returns true where the backend refuses the credentials: 401 or 403.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Rejected { status: 401 | 403, .. })
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
