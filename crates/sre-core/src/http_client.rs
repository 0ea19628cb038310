use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use jiff::fmt::rfc2822;

use crate::Timestamp;

/// An HTTP client. Exporters and channels use it; tests provide their own.
///
/// Requests and responses are read as a whole. Streaming is not part of this trait: a proxy that streams bodies uses
/// hyper directly.
///
/// ```
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use sre_core::{HttpClient, HttpError};
///
/// /// Answers every request with 200, for tests.
/// struct AcceptAll;
///
/// #[async_trait]
/// impl HttpClient for AcceptAll {
///     async fn send(&self, _request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
///         Ok(http::Response::new(Bytes::new()))
///     }
/// }
/// ```
#[async_trait]
pub trait HttpClient: Send + Sync {
    /// Makes one request, with time-outs and without retries. An error status is a response, not an error.
    ///
    /// A [`ResponseLimit`] in the request's extensions limits the size of the response. Without one, the client's own
    /// limit applies.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError>;

    /// Returns whether requests can be sent at all: false for [`NoHttp`], so that what needs HTTP is refused at the start
    /// instead of failing later.
    fn can_send(&self) -> bool {
        true
    }
}

/// The maximum size of a response, in bytes. A larger one is [`HttpError::TooLarge`].
///
/// ```
/// use sre_core::ResponseLimit;
/// let request = http::Request::get("https://example.com/model").extension(ResponseLimit(64 << 20)).body(())?;
/// assert_eq!(request.extensions().get(), Some(&ResponseLimit(64 << 20)));
/// # Ok::<(), http::Error>(())
/// ```
///
/// Exhaustive: it is a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimit(pub usize);

/// A request that got no response. Names at most the host, because a URL may hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The connection could not be established, or broke.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// The reason, without URL or headers.
        reason: String,
    },
    /// The complete response did not arrive in time.
    #[error("no response from {host} in {seconds} s")]
    TimedOut {
        /// The host.
        host: String,
        /// The time-out, in seconds.
        seconds: f64,
    },
    /// The request is invalid, such as one without a host.
    #[error("{what}: expected an absolute http or https URL")]
    Invalid {
        /// The error, without the URL.
        what: String,
    },
    /// The client is [`NoHttp`].
    #[error("no HTTP client configured; set one to reach {host}")]
    NoClient {
        /// The host.
        host: String,
    },
    /// The response exceeds the size limit.
    #[error("the response of {host} (status {status}) is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The status of the response. The request did arrive.
        status: u16,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl HttpError {
    /// Returns whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::TooLarge { .. } | Self::Invalid { .. } | Self::NoClient { .. })
    }
}

/// A client that fails every request, with an error that is not retryable.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or("nowhere").to_owned();
        Err(HttpError::NoClient { host })
    }

    fn can_send(&self) -> bool {
        false
    }
}

/// Returns the delay that a response requests before the next request: its `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3). A
/// date counts from the response's own `Date`, so that the server's clock need not agree with ours; without one from `now`.
pub fn retry_after(headers: &http::HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |text: &str| {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Timestamp::from_secs(date.as_second()))
    };
    let wait = text(RETRY_AFTER)?;
    if let Ok(seconds) = wait.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(date(wait)?.since(text(DATE).and_then(date).unwrap_or(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_secs(1_445_412_400);
        let wait = |text: &str| {
            let headers = http::HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(80), "the example of RFC 9110, 10.2.3");
        assert_eq!(wait("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0), "a date in the past");
        assert_eq!((wait("soon"), wait("-1")), (None, None));
        assert_eq!(retry_after(&http::HeaderMap::new(), now), None);
        let [date, later] = ["Wed, 21 Oct 2015 07:27:50 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"];
        let of_server = [(DATE, date.parse().unwrap()), (RETRY_AFTER, later.parse().unwrap())];
        assert_eq!(
            retry_after(&of_server.into_iter().collect(), now),
            Some(Duration::from_secs(10)),
            "by the server's clock"
        );
    }
}
