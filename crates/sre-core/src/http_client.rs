use async_trait::async_trait;
use bytes::Bytes;

/// The one way out: exporters and channels are plain logic over it, and tests hand in their own.
#[async_trait]
pub trait HttpClient: Send + Sync {
    /// Makes one request, with time-outs and without retries. An error status is an answer, not an error.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError>;
}

/// A request that got no answer. Names the host at most: a URL may hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Nobody answers there, or the connection broke.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Why, without URL or headers.
        reason: String,
    },
    /// No whole answer came in time.
    #[error("no answer from {host} in {seconds} s")]
    TimedOut {
        /// The host.
        host: String,
        /// The time-out.
        seconds: f64,
    },
    /// The answer is larger than anybody should read.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl HttpError {
    /// Whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}
