//! Reads the instrumentation of LlamaIndex.
//!
//! Add a span handler that forwards `{"kind": "span_enter", "id": …, "parent": …}`, `span_exit`, and `span_drop` with `error` and
//! `message`; and an event handler that forwards `event.model_dump()` with `"kind": "event"` and its `class_name`. Each has a
//! `time`. A span without a parent that runs, queries or chats is a task of the agent that its class is named after, or of `agent`,
//! if that is added to the lines.
//!
//! ```
//! use sre_adapter_llamaindex::LlamaIndexAdapter;
//! use sre_core::Adapter;
//! let mut adapter = LlamaIndexAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"kind":"span_enter","time":1790000000,"id":"FunctionAgent.run-1","parent":null,"agent":"support"}"#,
//!     r#"{"kind":"span_exit","time":1790000002,"id":"FunctionAgent.run-1"}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((&*events[1].agent, events[1].event.duration_ms()), ("support", Some(2000.0)));
//! ```
//!
//! Spans directly below a task are its steps. A failed run drops its spans from the innermost outwards: that is one failure. A tool
//! whose exception the agent catches is a failed tool call in a task that may succeed.
//!
//! Without handlers, record the same events manually:
//!
//! ```
//! use sre_adapter_llamaindex::LlamaIndexAdapter;
//! use sre_core::LlmUsage;
//! use sre_core::adapter::TokenCosts;
//! let adapter = LlamaIndexAdapter::default().with_token_costs(TokenCosts::default());
//! let mut query = adapter.on_query_start("support");
//! query.on_retriever_start();
//! query.on_retriever_end();
//! query.on_llm_start();
//! query.on_llm_end(LlmUsage { input_tokens: 1_000, output_tokens: 100, ..LlmUsage::default() });
//! query.on_query_end();
//! assert_eq!(adapter.snapshot().total_cost_usd, "0.0045".parse().unwrap());
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::LlamaIndexAdapter;
pub use manual::QueryRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
