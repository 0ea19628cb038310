use std::fmt;
use std::fmt::Display;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Builder;
use http::{Method, Request, Response, Uri};

use super::request::send_export;
use super::{ExportError, ExportReport};
use crate::{HttpClient, Secret, Timestamp};

/// A backend's HTTP API: its base URL, the headers of every request, and the secrets that no error may show.
///
/// ```
/// use sre_core::{BackendApi, Secret};
///
/// let api = BackendApi::new("lines", "https://lines.example/api/")?;
/// let api = api.with_secret_header("authorization", "Bearer ", &Secret::new("s3cr3t"))?;
/// assert_eq!(api.url("/v1/runs"), "https://lines.example/api/v1/runs");
/// assert!(!format!("{api:?}").contains("s3cr3t"));
/// assert_eq!(
///     BackendApi::new("lines", "lines.example").unwrap_err().to_string(),
///     "lines: `url`: expected a URL such as https://example.com, without user, password or query",
/// );
/// # Ok::<(), sre_core::InvalidExporter>(())
/// ```
#[derive(Clone)]
pub struct BackendApi {
    exporter: &'static str,
    base: String,
    host: String,
    headers: HeaderMap,
    secrets: Vec<Secret>,
}

/// A setting of an exporter that is invalid. The message shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{exporter}: `{setting}`: {message}")]
pub struct InvalidExporter {
    exporter: &'static str,
    setting: String,
    message: String,
}

impl InvalidExporter {
    /// Creates an error. The message names what was found, unless that may be a secret, and what was expected.
    pub fn new(exporter: &'static str, setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { exporter, setting: setting.into(), message: message.into() }
    }
}

/// Maximum length of a backend's reason for a rejection, in characters.
const REASON_CHARS: usize = 100;

impl BackendApi {
    /// Creates an API without headers. A slash at the end of the URL is ignored.
    pub fn new(exporter: &'static str, url: &str) -> Result<Self, InvalidExporter> {
        let expected = "expected a URL such as https://example.com, without user, password or query";
        let invalid = || InvalidExporter::new(exporter, "url", expected);
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?.as_str();
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() || authority.contains('@') {
            return Err(invalid());
        }
        Ok(Self {
            exporter,
            base: url.trim_end_matches('/').to_owned(),
            host: authority.to_owned(),
            headers: HeaderMap::new(),
            secrets: Vec::new(),
        })
    }

    /// Adds a header to every request.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, InvalidExporter> {
        let (name, value) = self.header(name, value)?;
        self.headers.append(name, value);
        Ok(self)
    }

    /// Adds a header with a secret, such as `authorization` with the prefix `Bearer ` and a key.
    pub fn with_secret_header(mut self, name: &str, prefix: &str, secret: &Secret) -> Result<Self, InvalidExporter> {
        if secret.expose().is_empty() {
            return Err(self.invalid_header(name));
        }
        let (name, mut value) = self.header(name, &format!("{prefix}{}", secret.expose()))?;
        value.set_sensitive(true);
        self.headers.append(name, value);
        Ok(self.with_secret(secret.clone()))
    }

    /// Hides a text in every error and reason.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        if !secret.expose().is_empty() {
            self.secrets.push(secret);
        }
        self
    }

    /// Returns the URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Returns the host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the headers of every request.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Begins a request to a path, with the headers.
    pub fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(self.url(path));
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// Finishes a request and sends it. Any status other than success is an error with the backend's message.
    pub async fn send(
        &self,
        request: Builder,
        body: impl Into<Bytes>,
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Response<Bytes>, ExportError> {
        let request = request.body(body.into()).map_err(|error| self.invalid(error))?;
        let secrets: Vec<&Secret> = self.secrets.iter().collect();
        send_export(self.exporter, request, &secrets, at, http).await
    }

    /// Posts JSON.
    pub async fn post_json(
        &self,
        path: &str,
        body: &(impl serde::Serialize + Sync),
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Response<Bytes>, ExportError> {
        let body = serde_json::to_vec(body).map_err(|error| self.invalid(error))?;
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        self.send(request, body, at, http).await
    }

    /// Returns the report of `sent` records, of which the backend rejected `rejected` for a reason.
    pub fn report(&self, sent: usize, rejected: u64, reason: &str) -> ExportReport {
        let rejected = rejected.min(sent as u64);
        let reason = if reason.is_empty() { "no reason given".to_owned() } else { self.redact(reason, REASON_CHARS) };
        ExportReport::accepted(sent - rejected as usize).with_rejected(rejected, reason)
    }

    /// Returns the first `chars` characters of a backend's text, without secrets.
    pub fn redact(&self, text: &str, chars: usize) -> String {
        let text = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "***"));
        text.chars().take(chars).collect()
    }

    /// Returns the error for a batch whose conversion to a request failed.
    pub fn invalid(&self, error: impl Display) -> ExportError {
        ExportError::invalid(self.exporter, format!("cannot make a request: {error}"))
    }

    fn header(&self, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidExporter> {
        let invalid = || self.invalid_header(name);
        Ok((HeaderName::try_from(name).map_err(|_| invalid())?, HeaderValue::try_from(value).map_err(|_| invalid())?))
    }

    fn invalid_header(&self, name: &str) -> InvalidExporter {
        let expected = "expected letters, digits and dashes as the header's name, and one line as its value, not empty";
        InvalidExporter::new(self.exporter, name, expected)
    }
}

impl fmt::Debug for BackendApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("BackendApi").field("url", &self.base).field("headers", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_without_secrets() {
        for url in ["", "example.com:4318", "ftp://a", "http://user:key@a", "http://a/?key=1", "/v1"] {
            let error = BackendApi::new("test", url).unwrap_err().to_string();
            assert!(error.starts_with("test: `url`: expected a URL"), "{url}: {error}");
        }
        let api = BackendApi::new("test", "http://a").unwrap();
        for secret in ["one\ntwo", ""] {
            let error = api.clone().with_secret_header("api-key", "", &Secret::new(secret)).unwrap_err().to_string();
            assert!(error.contains("api-key") && !error.contains("two"), "{error}");
        }
        assert!(api.with_header("two words", "x").is_err());
    }

    #[test]
    fn a_reason_is_redacted_before_it_is_cut() {
        let api = BackendApi::new("test", "http://a").unwrap().with_secret(Secret::new("s3cr3t"));
        assert_eq!(api.redact("no s3cr3t here", 8), "no *** h");
        assert_eq!(api.redact("no s3cr3t here", 6), "no ***");
        let report = api.report(3, 9, "");
        assert_eq!((report.accepted, report.rejected_count(), &*report.rejected[0].reason), (0, 3, "no reason given"));
    }
}
