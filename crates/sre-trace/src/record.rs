use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use sre_core::event::HttpRequest;
use sre_core::{Span, SpanId, SpanRole, Timestamp, TraceId};

use crate::a2a::{MESSAGE_ID, TASK_ID};
use crate::attributes::{Attributes, Stored};
use crate::context::TraceContext;
use crate::mcp::{REQUEST_ID, TOOL_NAME};
use crate::traceparent::TraceFlags;

/// What a span is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProtocolType {
    /// The Agent2Agent protocol.
    A2a,
    /// The Model Context Protocol.
    Mcp,
    /// A task of the agent itself.
    #[default]
    Internal,
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

/// A span of a protocol: times, place and outcome in [`span`](Self::span), and what OpenTelemetry's conventions name as attributes. It
/// has no contents of messages, and no arguments and answers of tools.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SpanRecord {
    /// Times, place and outcome.
    #[serde(flatten)]
    pub span: Span,
    /// The protocol.
    pub protocol: ProtocolType,
    /// The URL of the other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_url: Option<String>,
    /// The number of artifacts in the response of an A2A call.
    pub a2a_artifact_count: usize,
    /// The attributes, by the names of OpenTelemetry's conventions.
    pub attributes: Attributes,
    /// What happened meanwhile, such as the states of an A2A task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<SpanEvent>,
    /// Spans that it is related to, but not below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<SpanLink>,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpanEvent {
    /// The time.
    pub time: Timestamp,
    /// The name.
    pub name: Cow<'static, str>,
    /// The attributes.
    pub attributes: BTreeMap<&'static str, String>,
}

/// A relation to a span that is not the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpanLink {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The relation: `follows_from` by default, or `caused_by`, `related_to` and the like.
    pub relationship: Cow<'static, str>,
    /// The attributes.
    pub attributes: BTreeMap<Cow<'static, str>, String>,
}

impl SpanLink {
    /// Creates a link that says that a span follows from another.
    ///
    /// ```
    /// use sre_trace::{ProtocolTracer, SpanLink};
    /// let tracer = ProtocolTracer::new("planner");
    /// let first = tracer.task("draft");
    /// let mut second = tracer.task("review");
    /// second.add_link(SpanLink::new(first.context().trace_id, first.span_id()).with_attribute("reason", "retry"));
    /// assert_eq!(second.record().links[0].relationship, "follows_from");
    /// ```
    pub fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { trace_id, span_id, relationship: Cow::Borrowed("follows_from"), attributes: BTreeMap::new() }
    }

    /// Sets the relation.
    #[must_use]
    pub fn with_relationship(self, relationship: impl Into<Cow<'static, str>>) -> Self {
        Self { relationship: relationship.into(), ..self }
    }

    /// Sets an attribute.
    #[must_use]
    pub fn with_attribute(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }
}

impl SpanRecord {
    pub(crate) fn new(span: Span, protocol: ProtocolType) -> Self {
        let (attributes, events, links) = Default::default();
        Self { span, protocol, peer_url: None, a2a_artifact_count: 0, attributes, events, links }
    }

    /// Returns the text of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.text(key)
    }

    /// Returns the other side: the agent or server that is called, or else the caller.
    pub fn peer(&self) -> Option<&str> {
        self.attribute(match (self.protocol, self.span.role) {
            (ProtocolType::A2a, SpanRole::Client) => AGENT_NAME,
            (ProtocolType::Http, SpanRole::Client) => SERVER_ADDRESS,
            _ => PEER_NAME,
        })
    }

    /// Returns the agent or service on the other side, unless it is an MCP server.
    pub fn remote_agent_id(&self) -> Option<&str> {
        self.peer().filter(|_| (self.protocol, self.span.role) != (ProtocolType::Mcp, SpanRole::Client))
    }

    /// Returns the URL of the agent on the other side of an A2A call.
    pub fn remote_agent_url(&self) -> Option<&str> {
        self.peer_url.as_deref().filter(|_| self.protocol == ProtocolType::A2a)
    }

    /// Returns the id of the A2A task.
    pub fn a2a_task_id(&self) -> Option<&str> {
        self.attribute(TASK_ID)
    }

    /// Returns the id of the A2A message.
    pub fn a2a_message_id(&self) -> Option<&str> {
        self.attribute(MESSAGE_ID)
    }

    /// Returns the MCP server, or else the client that calls it.
    pub fn mcp_server_id(&self) -> Option<&str> {
        self.peer().filter(|_| self.protocol == ProtocolType::Mcp)
    }

    /// Returns the tool of an MCP call.
    pub fn mcp_tool_name(&self) -> Option<&str> {
        self.attribute(TOOL_NAME)
    }

    /// Returns the JSON-RPC id of an MCP request.
    pub fn mcp_request_id(&self) -> Option<&str> {
        self.attribute(REQUEST_ID)
    }

    /// Returns the fields of `ProtocolSpan.to_dict` in the Python package `agent-sre`. `input_data` and `output_data` are empty: contents are
    /// not kept.
    pub fn to_dict(&self) -> Value {
        let Span { trace_id, span_id, parent_span_id, name, role, start, end, error, cost_usd, .. } = &self.span;
        let kind = match self.protocol {
            ProtocolType::Internal => "agent_task",
            ProtocolType::A2a if *role == SpanRole::Server => "agent_task",
            ProtocolType::Mcp => "tool_call",
            _ => "delegation",
        };
        let status = match self.attribute(ERROR_TYPE) {
            Some(TIMEOUT) => "timeout",
            _ if error.is_some() => "error",
            _ => "ok",
        };
        let mut fields = json!({
            "span_id": span_id,
            "parent_id": parent_span_id,
            "trace_id": trace_id,
            "kind": kind,
            "name": name,
            "start_time": start,
            "end_time": end,
            "duration_ms": end.millis_since(*start),
            "status": status,
            "attributes": self.attributes,
            "input_data": {},
            "output_data": null,
            "error": error,
            "cost_usd": cost_usd.unwrap_or_default(),
            "protocol": self.protocol,
            "role": role,
            "remote_agent_id": self.remote_agent_id().unwrap_or_default(),
            "remote_agent_url": self.remote_agent_url().unwrap_or_default(),
            "links": self.links,
            // Of others, no spans are kept.
            "traceparent": TraceContext::new(*trace_id, *span_id, TraceFlags::SAMPLED).to_traceparent().to_string(),
        });
        match self.protocol {
            ProtocolType::A2a => {
                fields["a2a_task_id"] = self.a2a_task_id().unwrap_or_default().into();
                fields["a2a_message_id"] = self.a2a_message_id().unwrap_or_default().into();
                fields["a2a_artifact_count"] = self.a2a_artifact_count.into();
            }
            ProtocolType::Mcp => {
                fields["mcp_server_id"] = self.mcp_server_id().unwrap_or_default().into();
                fields["mcp_tool_name"] = self.mcp_tool_name().unwrap_or_default().into();
                fields["mcp_request_id"] = self.mcp_request_id().unwrap_or_default().into();
            }
            _ => {}
        }
        fields
    }

    pub(crate) fn set(&mut self, key: &'static str, value: Option<impl Into<Stored>>) {
        if let Some(value) = value {
            self.attributes.set(key, value.into());
        }
    }

    /// Sets the class of the error and its message.
    pub(crate) fn fail(&mut self, kind: impl Into<Stored>, message: impl Into<String>) {
        self.set(ERROR_TYPE, Some(kind));
        self.span.error = Some(message.into());
    }

    /// Returns the result in a JSON-RPC response, or the response itself if it is a bare result; `None` after an error, which it sets.
    pub(crate) fn read_json_rpc<'a>(&mut self, response: &'a Value) -> Option<&'a Value> {
        let (error, result) = (&response["error"], &response["result"]);
        if let Some(message) = error["message"].as_str() {
            match error["code"].as_i64() {
                Some(code) => self.set_rpc_error(code, message),
                None => {
                    self.set(RPC_STATUS, Some(OTHER_ERROR));
                    self.fail(OTHER_ERROR, message);
                }
            }
            return None;
        }
        Some(if result.is_object() { result } else { response })
    }

    /// Sets the code and the message of a JSON-RPC error.
    pub(crate) fn set_rpc_error(&mut self, code: i64, message: &str) {
        let code = code.to_string();
        self.set(RPC_STATUS, Some(&*code));
        self.fail(code, message);
    }

    /// Sets the attributes of the server's address.
    pub(crate) fn set_server(&mut self, url: Option<&str>) {
        let Some(url) = url else { return };
        let request = HttpRequest::new(url);
        let url = request.url_without_secrets();
        self.peer_url = Some(url.to_owned());
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
        // An IPv6 address is in brackets.
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok()),
            _ => (host, None),
        };
        self.set(SERVER_ADDRESS, Some(host.trim_matches(['[', ']'])));
        self.set(SERVER_PORT, port);
    }

    /// Returns the approximate memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        const ENTRY: usize = 64;
        let of_event = |event: &SpanEvent| {
            size_of::<SpanEvent>() + event.attributes.values().map(|value| ENTRY + value.len()).sum::<usize>()
        };
        let of_link = |link: &SpanLink| {
            size_of::<SpanLink>()
                + link.attributes.iter().map(|(key, value)| ENTRY + key.len() + value.len()).sum::<usize>()
        };
        size_of::<Self>() - size_of::<Span>()
            + self.span.size()
            + self.attributes.size()
            + self.peer_url.as_ref().map_or(0, String::len)
            + self.events.iter().map(of_event).sum::<usize>()
            + self.links.iter().map(of_link).sum::<usize>()
    }
}

pub(crate) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(crate) const CONVERSATION_ID: &str = "gen_ai.conversation.id";
pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const OPERATION_NAME: &str = "gen_ai.operation.name";
/// The class of an error: the caller got no response in time.
pub(crate) const TIMEOUT: &str = "timeout";
/// The name of the other side, as it calls itself.
pub(crate) const PEER_NAME: &str = "service.peer.name";
/// The class of an error of which nothing else is known.
pub(crate) const OTHER_ERROR: &str = "_OTHER";
const RPC_STATUS: &str = "rpc.response.status_code";
pub(crate) const SERVER_ADDRESS: &str = "server.address";
const SERVER_PORT: &str = "server.port";
