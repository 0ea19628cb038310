use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::mcp::McpRequest;

/// The headers in which an MCP request over HTTP repeats its method, name and version, since version 2026-07-28, so that a proxy need not parse the body.
///
/// A [`TracedServerLayer`](crate::TracedServerLayer) and a [`TracedClientLayer`](crate::TracedClientLayer) name their spans by them. The
/// latter also writes those that are in the extensions of a request.
///
/// ```
/// use sre_trace::{McpHeaders, McpRequest};
/// let sent = McpHeaders::of(&McpRequest { protocol_version: Some("2026-07-28"), ..McpRequest::tool("prüfen") });
/// let mut headers = http::HeaderMap::new();
/// sent.write(&mut headers);
/// assert_eq!(headers["mcp-name"], "=?base64?cHLDvGZlbg==?=");
/// assert_eq!(McpHeaders::read(&headers), Some(sent));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpHeaders {
    /// `Mcp-Method`: the method.
    pub method: String,
    /// `Mcp-Name`: the tool, prompt or resource that the request is for.
    pub name: Option<String>,
    /// `MCP-Protocol-Version`: the version of the protocol.
    pub protocol_version: Option<String>,
}

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// What is around a value in Base64.
const BASE64: (&str, &str) = ("=?base64?", "?=");

impl McpHeaders {
    /// Returns the headers of a request.
    pub fn of(request: &McpRequest<'_>) -> Self {
        Self {
            method: request.method.to_owned(),
            name: request.tool.or(request.prompt).or(request.resource_uri).map(str::to_owned),
            protocol_version: request.protocol_version.map(str::to_owned),
        }
    }

    /// Reads the headers of a request; `None` without a method, which requests of earlier versions do not have. A name that is not valid is
    /// left out.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name)?.to_str().ok().filter(|value: &&str| !value.is_empty());
        Some(Self {
            method: text(METHOD)?.to_owned(),
            name: text(NAME).and_then(decode),
            protocol_version: text(PROTOCOL_VERSION).map(str::to_owned),
        })
    }

    /// Writes them into the headers of a request, in place of earlier ones. What no header can have is left out.
    pub fn write(&self, headers: &mut HeaderMap) {
        let values = [
            (METHOD, Some(Cow::Borrowed(&*self.method))),
            (NAME, self.name.as_deref().map(encode)),
            (PROTOCOL_VERSION, self.protocol_version.as_deref().map(Cow::Borrowed)),
        ];
        for (name, value) in values {
            match value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                Some(value) => _ = headers.insert(name, value),
                None => _ = headers.remove(name),
            }
        }
    }

    /// Returns the request as far as the headers tell of it, for a span of it.
    pub fn request(&self) -> McpRequest<'_> {
        let (method, name) = (&*self.method, self.name.as_deref());
        let protocol_version = self.protocol_version.as_deref();
        let request = McpRequest { method, protocol_version, ..McpRequest::default() };
        match method {
            "tools/call" => McpRequest { tool: name, ..request },
            "prompts/get" => McpRequest { prompt: name, ..request },
            _ if method.starts_with("resources/") => McpRequest { resource_uri: name, ..request },
            _ => request,
        }
    }

    /// Returns the name of the span of the HTTP request.
    pub(crate) fn span_name(&self, http_method: &str) -> String {
        [http_method, &self.request().span_name()].join(" ")
    }
}

/// Returns the value of a header: in Base64 where HTTP does not allow it as it is, or where it looks like Base64.
fn encode(value: &str) -> Cow<'_, str> {
    let is_allowed = value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim_matches(' ') == value;
    if is_allowed && unwrapped(value).is_none() {
        return Cow::Borrowed(value);
    }
    Cow::Owned([BASE64.0, &BASE64_STANDARD.encode(value), BASE64.1].concat())
}

fn decode(header: &str) -> Option<String> {
    match unwrapped(header) {
        Some(text) => String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok(),
        None => Some(header.to_owned()),
    }
}

fn unwrapped(value: &str) -> Option<&str> {
    value.strip_prefix(BASE64.0)?.strip_suffix(BASE64.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The examples of the specification of streamable HTTP.
    #[test]
    fn names_are_encoded_as_the_specification_has_them() {
        for (name, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!((&*encode(name), decode(header).as_deref()), (header, Some(name)));
        }
        assert_eq!((decode("=?base64?_?="), decode("=?base64?/w==?=")), (None, None));
    }

    proptest! {
        #[test]
        fn any_name_is_read_as_it_was_written(name in "(?s).{1,40}|=\\?base64\\?.{0,9}\\?=") {
            let sent = McpHeaders::of(&McpRequest::tool(&name));
            let mut headers = HeaderMap::new();
            sent.write(&mut headers);
            prop_assert_eq!(McpHeaders::read(&headers), Some(sent));
        }
    }
}
