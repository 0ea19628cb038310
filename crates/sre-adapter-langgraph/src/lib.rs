//! Reads the events of LangGraph.
//!
//! Forward the events of a graph with `async for e in graph.astream_events(input, version="v2"): forward(e)`, and add a
//! `time` to each. If the call raises, add one line `{"event": "raised", "time": …, "error": …, "message": …}`, because
//! LangGraph itself does not report the exception. If runs overlap, give that line the `run_id` of the graph's root
//! run, if known.
//!
//! ```
//! use sre_adapter_langgraph::LangGraphAdapter;
//! use sre_core::{Adapter, Event};
//! let mut adapter = LangGraphAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"event":"on_chain_start","time":1790000000,"name":"support","run_id":"1","parent_ids":[]}"#,
//!     r#"{"event":"on_chain_end","time":1790000002,"name":"support","run_id":"1","parent_ids":[]}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!(events[1].event.duration_ms(), Some(2000.0));
//! ```
//!
//! Without an event stream, record the same events manually:
//!
//! ```
//! use sre_adapter_langgraph::LangGraphAdapter;
//! use sre_core::LlmUsage;
//! let adapter = LangGraphAdapter::default();
//! let mut run = adapter.on_graph_start("support");
//! run.on_node_start("retriever");
//! run.on_tool_call("search", None);
//! run.on_llm_call(LlmUsage { input_tokens: 100, output_tokens: 50, cost_usd: "0.01".parse().ok() });
//! run.on_node_end("retriever", None);
//! run.on_graph_end(true, None);
//! assert_eq!(adapter.snapshot().task_success_rate, Some(1.0));
//! ```
mod adapter;
mod manual;
mod raised;
mod wire;

pub use adapter::LangGraphAdapter;
pub use manual::GraphRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
