use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Uri};
use sre_core::Secret;

/// The endpoint, and how to send to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OtlpSettings {
    /// The base URL. Over HTTP, `/v1/traces` and `/v1/metrics` are added.
    pub endpoint: String,
    /// Headers sent with every request, such as an API key.
    pub headers: Vec<(String, Secret)>,
    /// The protocol; HTTP by default.
    pub protocol: Protocol,
}

impl OtlpSettings {
    /// Creates settings for an endpoint, over HTTP and without headers.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), headers: Vec::new(), protocol: Protocol::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: Secret) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }
}

/// The transport protocol of OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// Protobuf over HTTP, compressed.
    #[default]
    HttpProtobuf,
    /// gRPC, compressed.
    #[cfg(feature = "grpc")]
    Grpc,
}

/// A protocol that this build does not support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found protocol `{found}`, expected {expected}")]
pub struct UnknownProtocol {
    found: String,
    expected: &'static str,
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    /// Parses the values of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "http/protobuf" => Ok(Self::HttpProtobuf),
            #[cfg(feature = "grpc")]
            "grpc" => Ok(Self::Grpc),
            _ => {
                let both = cfg!(feature = "grpc");
                let expected = if both { "`http/protobuf` or `grpc`" } else { "`http/protobuf`" };
                Err(UnknownProtocol { found: text.to_owned(), expected })
            }
        }
    }
}

/// Invalid settings. The message shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// The endpoint is not a valid URL.
    #[error("otlp: `endpoint`: expected a URL such as http://127.0.0.1:4318, without user, password or query")]
    Endpoint,
    /// A header's name or value has invalid characters.
    #[error(
        "otlp: `headers`: `{0}` cannot be sent: expected letters, digits and dashes as the name, and one line as the value"
    )]
    Header(String),
}

/// Validated settings.
#[derive(Clone)]
pub(crate) struct Checked {
    pub(crate) endpoint: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) secrets: Vec<Secret>,
}

impl Checked {
    /// Returns a backend's text without secrets, and of that at most the first `chars` characters.
    pub(crate) fn redacted(&self, text: &str, chars: usize) -> String {
        let secrets = self.secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty());
        let text = secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
        text.chars().take(chars).collect()
    }
}

impl TryFrom<&OtlpSettings> for Checked {
    type Error = InvalidSettings;

    fn try_from(settings: &OtlpSettings) -> Result<Self, InvalidSettings> {
        let uri: Uri = settings.endpoint.parse().map_err(|_| InvalidSettings::Endpoint)?;
        let authority = uri.authority().ok_or(InvalidSettings::Endpoint)?;
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return Err(InvalidSettings::Endpoint);
        }
        let header = |(name, value): &(String, Secret)| {
            let invalid = || InvalidSettings::Header(name.clone());
            let mut text = HeaderValue::try_from(value.expose()).map_err(|_| invalid())?;
            text.set_sensitive(true);
            Ok((HeaderName::try_from(name.as_str()).map_err(|_| invalid())?, text))
        };
        Ok(Self {
            endpoint: settings.endpoint.trim_end_matches('/').to_owned(),
            host: authority.to_string(),
            headers: settings.headers.iter().map(header).collect::<Result<_, _>>()?,
            secrets: settings.headers.iter().map(|(_, value)| value.clone()).collect(),
        })
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Checked").field("host", &self.host).field("headers", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_without_secrets() {
        let check = |settings: OtlpSettings| Checked::try_from(&settings).map(|_| ()).unwrap_err();
        for endpoint in ["", "localhost:4318", "ftp://a", "http://user:key@a", "http://a/?key=1", "/v1"] {
            assert_eq!(check(OtlpSettings::new(endpoint)), InvalidSettings::Endpoint, "{endpoint}");
        }
        let settings = OtlpSettings::new("http://a").with_header("api-key", Secret::new("one\ntwo"));
        let error = check(settings).to_string();
        assert!(error.contains("api-key") && !error.contains("two"), "{error}");
        assert_eq!("grpc".parse::<Protocol>().is_ok(), cfg!(feature = "grpc"));
        assert!("http/json".parse::<Protocol>().unwrap_err().to_string().contains("`http/json`"));
    }

    #[test]
    fn a_text_is_redacted_before_it_is_cut() {
        let settings = OtlpSettings::new("http://a").with_header("api-key", Secret::new("s3cr3t"));
        let settings = Checked::try_from(&settings.with_header("empty", Secret::new(""))).unwrap();
        assert_eq!(settings.redacted("no s3cr3t here", 8), "no *** h");
        assert_eq!(settings.redacted("no s3cr3t here", 6), "no ***");
    }
}
