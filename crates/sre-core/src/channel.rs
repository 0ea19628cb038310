use std::time::Duration;

use async_trait::async_trait;

use crate::{Alert, HttpClient, HttpError, Timestamp};

/// Delivers alerts to a receiver such as a chat, a pager or a file.
///
/// ```
/// # use async_trait::async_trait;
/// # use sre_core::{AlertChannel, ChannelError, DeliveryReceipt, HttpClient, HttpError, Notification, retry_after};
/// /// Posts the title of an alert as plain text to a URL.
/// struct PlainText(String);
///
/// #[async_trait]
/// impl AlertChannel for PlainText {
///     fn name(&self) -> &str { "plain-text" }
///
///     fn needs_http(&self) -> bool { true }
///
///     async fn deliver(&self, of: Notification<'_>, http: &dyn HttpClient) -> Result<DeliveryReceipt, ChannelError> {
///         let request = http::Request::post(&self.0).body(of.alert.title.clone().into());
///         let answer = http.send(request.map_err(|_| HttpError::Invalid { what: "plain-text".to_owned() })?).await?;
///         let status = answer.status().as_u16();
///         if answer.status().is_success() { return Ok(DeliveryReceipt::with_status(status)); }
///         let retry_after = retry_after(answer.headers(), of.at);
///         Err(ChannelError::Rejected { status, message: "not accepted".to_owned(), retry_after })
///     }
/// }
/// ```
#[async_trait]
pub trait AlertChannel: Send + Sync {
    /// Returns the channel's name, for routing and statistics.
    fn name(&self) -> &str;

    /// Returns whether deliveries use the HTTP client, without which an alert manager refuses the channel. By default, false.
    fn needs_http(&self) -> bool {
        false
    }

    /// Makes one attempt to deliver an alert; one of severity `resolved` ends the incident of its key. Order, retries and
    /// durability are up to the alert manager.
    async fn deliver(
        &self,
        notification: Notification<'_>,
        http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError>;

    /// Notifies the receiver that the incident was acknowledged. By default, does nothing.
    async fn acknowledge(
        &self,
        _notice: Notification<'_>,
        _by: &str,
        _http: &dyn HttpClient,
    ) -> Result<(), ChannelError> {
        Ok(())
    }
}

/// An alert to deliver, for one attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Notification<'a> {
    /// The alert; its `dedup_key` and `starts_at` are always set.
    pub alert: &'a Alert,
    /// Identifies the message; the same at every attempt, also after a restart.
    pub id: u128,
    /// When the attempt is made.
    pub at: Timestamp,
}

impl<'a> Notification<'a> {
    /// Creates a notification.
    pub const fn new(alert: &'a Alert, id: u128, at: Timestamp) -> Self {
        Self { alert, id, at }
    }
}

/// A receiver's confirmation that it accepted an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryReceipt {
    /// The HTTP status, if delivered by HTTP.
    pub status: Option<u16>,
}

impl DeliveryReceipt {
    /// Creates a receipt with the HTTP status of the answer.
    pub const fn with_status(status: u16) -> Self {
        Self { status: Some(status) }
    }
}

/// A failed attempt to deliver an alert.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The vendor answered with an error status.
    #[error("answered {status}: {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The answer, shortened and without secrets.
        message: String,
        /// How long the vendor asks to wait before a retry.
        retry_after: Option<Duration>,
    },
    /// A local failure that may be temporary, such as a file that cannot be written.
    #[error("{0}")]
    Local(String),
    /// The channel panicked: a bug, which is not retried.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl ChannelError {
    /// Returns whether a retry may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Rejected { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Local(_) => true,
            Self::Panicked(_) => false,
        }
    }

    /// Returns how long the vendor asked to wait before a retry.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns the HTTP status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Rejected { status, .. } => Some(*status),
            _ => None,
        }
    }
}
