//! Reads agent runs from OpenTelemetry traces.
//!
//! The input is the bodies of OTLP export requests, as protobuf or as JSON (OTLP/JSON, and protobuf's own JSON form),
//! with spans in any order. A trace is converted to events two seconds after its root arrived, by the time of the
//! input, so that it may come in several requests. `dialects.rs` has a table for each dialect: the GenAI conventions
//! of all versions, OpenInference, OpenLLMetry, the Vercel AI SDK, A2A, MCP, Haystack and the Claude Agent SDK. In a trace without
//! any dialect, the root is the task.
//!
//! ```
//! use sre_adapter_otel::OtelAdapter;
//! use sre_core::Adapter;
//! let mut adapter = OtelAdapter::default();
//! let mut events = Vec::new();
//! let body = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
//!     "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"invoke_agent support",
//!     "startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000002000000000","attributes":[
//!         {"key":"gen_ai.operation.name","value":{"stringValue":"invoke_agent"}},
//!         {"key":"gen_ai.agent.name","value":{"stringValue":"support"}}]}]}]}]}"#;
//! adapter.ingest(body, &mut |event| events.push(event)).unwrap();
//! adapter.finish(&mut |event| events.push(event));
//! assert_eq!((events[1].agent.as_str(), events[1].event.outcome()), ("support", Some(true)));
//! ```
mod adapter;
mod attributes;
mod converted;
mod decode;
mod dialects;
mod json;
mod json_span;
mod protobuf;
mod request;
mod span;
mod span_header;
mod spans;
mod trace;
mod wire;

pub use adapter::OtelAdapter;
pub use decode::data_points;
pub use spans::read_spans;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
