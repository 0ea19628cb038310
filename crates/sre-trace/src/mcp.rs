use std::borrow::Cow;

use serde_json::Value;
use sre_core::event::HttpRequest;

use crate::record::{OPERATION_NAME, ProtocolType, SpanRecord};

/// A request of the Model Context Protocol, as far as a span has it.
///
/// Later versions may have more fields: end with `..Default::default()`.
///
/// ```
/// use serde_json::json;
/// use sre_trace::McpRequest;
/// let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "search", "arguments": {"q": "rust"}}});
/// let request = McpRequest::from_json_rpc(&body);
/// assert_eq!((request.tool, request.request_id.as_deref()), (Some("search"), Some("7")));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct McpRequest<'a> {
    /// The method: `tools/call` by default.
    pub method: &'a str,
    /// The tool that is called.
    pub tool: Option<&'a str>,
    /// Its arguments, of which only a hash is kept.
    pub params: Option<&'a Value>,
    /// The prompt that is asked for.
    pub prompt: Option<&'a str>,
    /// The resource that is asked for.
    pub resource_uri: Option<&'a str>,
    /// The JSON-RPC id.
    pub request_id: Option<Cow<'a, str>>,
    /// The id of the session.
    pub session_id: Option<&'a str>,
    /// The version of the protocol, such as `2025-11-25`.
    pub protocol_version: Option<&'a str>,
    /// How the messages travel.
    pub transport: Option<McpTransport>,
    /// The URL of the server.
    pub server_url: Option<&'a str>,
}

/// How messages of the Model Context Protocol travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum McpTransport {
    /// Standard input and output of a process.
    Stdio,
    /// Streamable HTTP.
    Http,
}

pub(crate) const METHOD_NAME: &str = "mcp.method.name";
pub(crate) const TOOL_NAME: &str = "gen_ai.tool.name";
pub(crate) const REQUEST_ID: &str = "jsonrpc.request.id";
const TOOLS_CALL: &str = "tools/call";
/// The key in `_meta` since version 2026-07-28, which has no `initialize`.
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

impl Default for McpRequest<'_> {
    fn default() -> Self {
        Self {
            method: TOOLS_CALL,
            tool: None,
            params: None,
            prompt: None,
            resource_uri: None,
            request_id: None,
            session_id: None,
            protocol_version: None,
            transport: None,
            server_url: None,
        }
    }
}

impl<'a> McpRequest<'a> {
    /// Creates a call of a tool.
    pub fn tool(tool: &'a str) -> Self {
        Self { tool: Some(tool), ..Self::default() }
    }

    /// Reads a JSON-RPC request or notification. Missing fields are `None`.
    pub fn from_json_rpc(body: &'a Value) -> Self {
        let (method, params) = (body["method"].as_str().unwrap_or_default(), &body["params"]);
        let name = params["name"].as_str();
        Self {
            method,
            tool: name.filter(|_| method == TOOLS_CALL),
            params: params.get("arguments").filter(|_| method == TOOLS_CALL),
            prompt: name.filter(|_| method == "prompts/get"),
            resource_uri: params["uri"].as_str(),
            request_id: match &body["id"] {
                Value::String(id) => Some(Cow::Borrowed(id)),
                Value::Number(id) => Some(Cow::Owned(id.to_string())),
                _ => None,
            },
            protocol_version: [&params["_meta"][PROTOCOL_VERSION], &params["protocolVersion"]]
                .into_iter()
                .find_map(Value::as_str),
            ..Self::default()
        }
    }

    /// Returns the hash of the arguments by which repeated calls are recognised.
    pub(crate) fn arguments_hash(&self) -> Option<String> {
        self.params.map(|params| sre_core::arguments_hash(&params.to_string()))
    }

    /// Returns the name of its span.
    pub(crate) fn span_name(&self) -> String {
        let target = self.tool.or(self.prompt);
        target.map_or_else(|| self.method.to_owned(), |target| [self.method, " ", target].concat())
    }

    pub(crate) fn describe(&self, record: &mut SpanRecord) {
        record.protocol = ProtocolType::Mcp;
        record.span.name = self.span_name();
        record.span.call_id =
            self.session_id.zip(self.request_id.as_ref()).map(|(session, request)| format!("{session}/{request}"));
        record.span.request_id = self.request_id.as_deref().map(str::to_owned);
        record.set(METHOD_NAME, Some(self.method));
        record.set(OPERATION_NAME, (self.method == TOOLS_CALL).then_some("execute_tool"));
        record.set(TOOL_NAME, self.tool);
        record.set("gen_ai.prompt.name", self.prompt);
        let resource = self.resource_uri.map(HttpRequest::new);
        record.set("mcp.resource.uri", resource.as_ref().map(HttpRequest::url_without_secrets));
        record.set("mcp.session.id", self.session_id);
        record.set("mcp.protocol.version", self.protocol_version);
        record.set(REQUEST_ID, self.request_id.as_deref());
        if let Some(transport) = self.transport {
            let (network, protocol) = match transport {
                McpTransport::Stdio => ("pipe", None),
                McpTransport::Http => ("tcp", Some("http")),
            };
            record.set("network.transport", Some(network));
            record.set("network.protocol.name", protocol);
        }
    }
}

/// Returns whether a span is of a call of a tool.
pub(crate) fn is_tool_call(record: &SpanRecord) -> bool {
    record.attribute(METHOD_NAME) == Some(TOOLS_CALL)
}

/// Returns whether a span is of the handshake of versions before 2026-07-28.
#[cfg(feature = "rmcp")]
pub(crate) fn is_initialize(record: &SpanRecord) -> bool {
    record.attribute(METHOD_NAME) == Some("initialize")
}

/// Reads a response: a result, or a JSON-RPC response with one or with an error.
pub(crate) fn read_response(record: &mut SpanRecord, response: &Value) {
    let Some(result) = record.read_json_rpc(response) else { return };
    if result["isError"] == Value::Bool(true) {
        // The text of the result may be a content.
        record.fail("tool_error", "the tool returned an error");
    }
}
