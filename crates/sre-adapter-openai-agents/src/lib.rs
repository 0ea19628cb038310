//! Reads the traces of the OpenAI Agents SDK.
//!
//! Use a `TracingProcessor` that forwards `trace.export()` and `span.export()` at start and end, each with `event`
//! (`trace_start`, `span_start`, `span_end`, `trace_end`) and `time`. A trace is a task of the agent that its workflow
//! is named after.
//!
//! ```
//! use sre_adapter_openai_agents::OpenAiAgentsAdapter;
//! use sre_core::Adapter;
//! let mut adapter = OpenAiAgentsAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"event":"trace_start","time":1790000000,"id":"trace_1","workflow_name":"support"}"#,
//!     r#"{"event":"trace_end","time":1790000002,"id":"trace_1","workflow_name":"support"}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((events[1].agent.as_str(), events[1].event.outcome()), ("support", Some(true)));
//! ```
//!
//! The SDK's traces do not report streaming, so model calls have no time to first token.
//!
//! Without a processor, record the same events manually:
//!
//! ```
//! use sre_adapter_openai_agents::OpenAiAgentsAdapter;
//! let adapter = OpenAiAgentsAdapter::default();
//! let mut run = adapter.on_run_start("triage-agent");
//! run.on_tool_call("file_search", None);
//! run.on_handoff("triage-agent", "specialist-agent");
//! run.on_guardrail_check("content-filter", true);
//! run.on_run_end(true, None);
//! assert_eq!(adapter.snapshot().tool_accuracy, Some(1.0));
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::OpenAiAgentsAdapter;
pub use manual::AgentRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
