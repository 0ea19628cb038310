use std::time::Duration;

use async_trait::async_trait;

use crate::{Alert, HttpClient, HttpError};

/// A way for an alert to reach people.
#[async_trait]
pub trait AlertChannel: Send + Sync {
    /// The name that routing and statistics know it by.
    fn name(&self) -> &str;

    /// Sends one alert, once. Order, retries and durability are the alert manager's.
    async fn deliver(&self, alert: &Alert, http: &dyn HttpClient) -> Result<(), ChannelError>;
}

/// An alert that a channel did not take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The request did not get through.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The vendor answered with an error status.
    #[error("{channel} answered {status}: {message}")]
    Rejected {
        /// The channel's name.
        channel: String,
        /// The HTTP status.
        status: u16,
        /// What the vendor said, shortened and without secrets.
        message: String,
        /// When the vendor wants to be asked again.
        retry_after: Option<Duration>,
    },
}
