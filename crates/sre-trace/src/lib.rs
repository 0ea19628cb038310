//! One trace through agents, tools and models.
//!
//! - [`TraceContext`] is the position of a call within a trace: it is read from the headers of a request and written into those of the next
//!   one, by the [W3C Trace Context](https://www.w3.org/TR/trace-context-2/) (level 2) and [W3C Baggage](https://www.w3.org/TR/baggage/). The
//!   working group's own test suite passes.
//! - [`ProtocolTracer`] makes spans of an agent's calls over A2A, MCP and HTTP, with the attributes of OpenTelemetry's conventions.
//! - [`TailSampler`] keeps the traces of tasks that were bad or slow by an objective.
//! - [`TraceTree`] arranges spans of any source, and finds where the time went, what it cost, what failed, and where a trace is incomplete.
//!
//! ```
//! use sre_trace::{A2aRequest, McpRequest, ProtocolTracer};
//!
//! let tracer = ProtocolTracer::new("writer");
//! let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
//! let request = tracer.receive_a2a("planner", headers, A2aRequest::task("summarize"));
//! let search = request.tracer().mcp_call("web", McpRequest::tool("search"));
//! for (name, value) in tracer.inject(&search) {
//!     println!("{name}: {value}");
//! }
//! search.end();
//! request.end();
//! let trees = tracer.report().traces;
//! assert_eq!(trees[0].trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
//! println!("{}", trees[0]);
//! ```
//!
//! With the features `a2a-client` and `a2a-server`, clients and servers of the official A2A crates make these spans for every method and
//! binding (`TracedA2aTransport`, `TracedA2aHandler`), and push notifications continue the trace (`TracedA2aExecutor`). With `rmcp`, clients
//! and servers of the official MCP crate do (`TracedMcpTransport`, `TracedMcpHandler`); with `tower`, those of HTTP (`TracedClientLayer`,
//! `TracedServerLayer`).
//!
//! With the features `opentelemetry` and `tracing`, the spans are those of these crates, too ([`SpanLibrary`]). With `opentelemetry`,
//! `Propagator` reads and writes its headers.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod a2a;
#[cfg(feature = "a2a-client")]
mod a2a_client;
#[cfg(feature = "a2a-server")]
mod a2a_executor;
#[cfg(any(feature = "a2a-client", feature = "a2a-server"))]
mod a2a_requests;
#[cfg(any(feature = "a2a-client", feature = "a2a-server"))]
mod a2a_responses;
#[cfg(feature = "a2a-server")]
mod a2a_server;
mod agent_events;
mod attributes;
mod baggage;
#[cfg_attr(not(feature = "opentelemetry"), allow(dead_code, reason = "each library is a feature"))]
mod bridge;
mod context;
#[cfg(feature = "tower")]
mod http_layers;
mod mcp;
#[cfg(feature = "rmcp")]
mod mcp_handler;
#[cfg(feature = "tower")]
mod mcp_headers;
#[cfg(feature = "rmcp")]
mod mcp_transport;
mod meta;
#[cfg(feature = "opentelemetry")]
mod opentelemetry_bridge;
#[cfg(feature = "opentelemetry")]
mod propagator;
mod protocol_span;
mod record;
mod report;
mod shared;
mod span_buffer;
mod span_library;
mod summary;
mod tail_sampler;
mod traceparent;
mod tracer;
mod tracestate;
#[cfg(feature = "tracing")]
mod tracing_bridge;
mod tree;

pub use a2a::A2aRequest;
#[cfg(feature = "a2a-client")]
pub use a2a_client::{TracedA2aTransport, TracedA2aTransportFactory};
#[cfg(feature = "a2a-server")]
pub use a2a_executor::TracedA2aExecutor;
#[cfg(feature = "a2a-server")]
pub use a2a_server::TracedA2aHandler;
pub use attributes::{AttributeValue, Attributes};
pub use baggage::{Baggage, BaggageEntry, InvalidBaggage};
pub use context::{HeaderError, TraceContext};
#[cfg(feature = "tower")]
pub use http_layers::{TracedClient, TracedClientLayer, TracedResponse, TracedServer, TracedServerLayer};
pub use mcp::{McpRequest, McpTransport};
#[cfg(feature = "rmcp")]
pub use mcp_handler::TracedMcpHandler;
#[cfg(feature = "tower")]
pub use mcp_headers::McpHeaders;
#[cfg(feature = "rmcp")]
pub use mcp_transport::{TracedMcpTransport, WithParent};
pub use meta::meta_headers;
#[cfg(feature = "opentelemetry")]
pub use propagator::Propagator;
pub use protocol_span::ProtocolSpan;
pub use record::{ProtocolType, SpanEvent, SpanLink, SpanRecord};
pub use report::{ProtocolTimelineEntry, TracingReport};
pub use span_library::SpanLibrary;
pub use sre_core::{Span, SpanId, SpanRole, TraceId};
pub use summary::TraceSummary;
pub use tail_sampler::{TailSampler, TailSamplerOptions};
pub use traceparent::{InvalidTraceparent, TraceFlags, Traceparent, TraceparentText};
pub use tracer::{ProtocolTracer, TracerOptions};
pub use tracestate::{InvalidTracestate, Tracestate};
pub use tree::{BrokenHop, SpanNode, SpanRef, TraceTree};

/// Runs the README's examples as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
