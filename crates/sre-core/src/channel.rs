use std::time::Duration;

use async_trait::async_trait;

use crate::{Alert, HttpClient, HttpError, Timestamp};

/// A way for an alert to reach people.
#[async_trait]
pub trait AlertChannel: Send + Sync {
    /// The name that routing and statistics know it by.
    fn name(&self) -> &str;

    /// Sends one alert, once; one of severity `resolved` ends the incident of its key. Order, retries and durability are
    /// the alert manager's.
    async fn deliver(
        &self,
        notification: Notification<'_>,
        http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError>;

    /// Tells the other side that somebody has taken the incident on. Channels without such a notion do nothing.
    async fn acknowledge(
        &self,
        _notice: Notification<'_>,
        _by: &str,
        _http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        Ok(())
    }
}

/// What is to be delivered, as one attempt sees it.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// The alert; its `dedup_key` and `starts_at` are always set.
    pub alert: &'a Alert,
    /// What tells this message from every other one; the same at every attempt, after a restart too.
    pub id: u128,
    /// When this attempt is made.
    pub at: Timestamp,
}

/// What the other side said when it took an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReceipt {
    /// The HTTP status, where there is one.
    pub status: Option<u16>,
}

/// An alert that a channel did not take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The request did not get through.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The vendor answered with an error status.
    #[error("answered {status}: {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What the vendor said, shortened and without secrets.
        message: String,
        /// When the vendor wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Something on our own side that may go better later, such as a file that cannot be written.
    #[error("{0}")]
    Local(String),
    /// The channel's own code panicked: a bug, which no retry mends.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl ChannelError {
    /// Whether the same alert may be taken later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Local(_) => true,
            Self::Panicked(_) => false,
        }
    }

    /// When the other side wants to be asked again, where it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Rejected { status, .. } => Some(*status),
            _ => None,
        }
    }
}
