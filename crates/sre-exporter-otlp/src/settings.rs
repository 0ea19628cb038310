use std::str::FromStr;

use sre_core::{BackendApi, InvalidExporter, Secret};

/// The exporter's name.
pub(crate) const NAME: &str = "otlp";

/// The endpoint, and how to send to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OtlpSettings {
    /// The base URL. Over HTTP, `/v1/traces` and `/v1/metrics` are added.
    pub url: String,
    /// Headers sent with every request, such as an API key.
    pub headers: Vec<(String, Secret)>,
    /// The protocol; HTTP by default.
    pub protocol: Protocol,
}

impl OtlpSettings {
    /// Creates settings for an endpoint, over HTTP and without headers.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), headers: Vec::new(), protocol: Protocol::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: Secret) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads `url`, `headers` and `protocol`.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let url = fields.text("url")?.ok_or_else(|| fields.missing("url", "the URL of a collector"))?;
        let protocol = match fields.text("protocol")? {
            Some(protocol) => protocol.parse().map_err(|error| fields.invalid(error))?,
            None => Protocol::default(),
        };
        Ok(Self { url, headers: fields.secrets("headers")?, protocol })
    }

    pub(crate) fn api(&self) -> Result<BackendApi, InvalidExporter> {
        let api = BackendApi::new(NAME, &self.url)?;
        // A value may be empty here, unlike a key.
        self.headers.iter().try_fold(api, |api, (name, value)| match value.expose() {
            "" => api.with_header(name, ""),
            _ => api.with_secret_header(name, "", value),
        })
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
