use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::DATE;
use http::{HeaderValue, Request, Response};
use reqwest::redirect::Policy;
use rustls_platform_verifier::BuilderVerifierExt;
use sre_core::{HttpClient, HttpError, ResponseLimit};

/// An HTTP client based on reqwest. Cheap to clone; clones share connections. A response without a `Date` gets the time of its arrival
/// (RFC 9110, 6.6.1).
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    options: Options,
}

/// Time-outs and the size limit of responses.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Time until the connection is established.
    pub connect_timeout: Duration,
    /// Time until the whole response is received.
    pub timeout: Duration,
    /// The maximum size of a response, in bytes, unless a request carries its own [`ResponseLimit`].
    pub max_response: usize,
}

impl Default for Options {
    /// Returns 5 s to connect, 10 s in total, and responses of up to 1 MiB.
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), timeout: Duration::from_secs(10), max_response: 1 << 20 }
    }
}

/// A client that cannot be created: the system's TLS roots cannot be read, or a proxy in the environment is invalid.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct BuildError(String);

impl Client {
    /// Creates a client with its own connections.
    pub fn new(options: Options) -> Result<Self, BuildError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(|error| BuildError(error.to_string()))?
            .with_no_client_auth();
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            .redirect(Policy::none())
            .user_agent(concat!("agent-sre/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| BuildError(reason(&error.without_url())))?;
        Ok(Self { inner, options })
    }

    async fn execute(&self, request: reqwest::Request, limit: usize, host: &str) -> Result<Response<Bytes>, HttpError> {
        let failed = |error: reqwest::Error| self.failed(&error.without_url(), host);
        let mut response = self.inner.execute(request).await.map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > limit {
                let status = response.status().as_u16();
                return Err(HttpError::TooLarge { host: host.to_owned(), status, limit });
            }
            body.extend_from_slice(&chunk);
        }
        let mut received = Response::new(body.freeze());
        *received.status_mut() = response.status();
        *received.headers_mut() = std::mem::take(response.headers_mut());
        if !received.headers().contains_key(DATE)
            && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        {
            received.headers_mut().insert(DATE, date);
        }
        Ok(received)
    }

    fn failed(&self, error: &reqwest::Error, host: &str) -> HttpError {
        let host = host.to_owned();
        if error.is_timeout() {
            let limit = if error.is_connect() { self.options.connect_timeout } else { self.options.timeout };
            return HttpError::TimedOut { host, seconds: limit.as_secs_f64() };
        }
        if error.is_builder() {
            return HttpError::Invalid { what: "an invalid request".to_owned() };
        }
        HttpError::Unreachable { host, reason: reason(error) }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let Some(host) = request.uri().authority().map(|authority| host_of(authority.as_str())) else {
            return Err(HttpError::Invalid { what: "a URL without a host".to_owned() });
        };
        let invalid = |_| HttpError::Invalid { what: format!("an invalid URL of {host}") };
        let limit = request.extensions().get().map_or(self.options.max_response, |ResponseLimit(bytes)| *bytes);
        let request = reqwest::Request::try_from(request).map_err(invalid)?;
        self.execute(request, limit, &host).await
    }
}

/// Returns the authority without user and password.
fn host_of(authority: &str) -> String {
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Returns the innermost cause, which is the most specific: "connection refused" rather than "error sending request".
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
