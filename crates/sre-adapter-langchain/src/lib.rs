//! Reads the callbacks of LangChain.
//!
//! Pass a `BaseCallbackHandler` to the chain whose methods forward `{event, time, args, run_id, parent_run_id, …}`: the name of
//! the method, its positional arguments, and its keyword arguments as fields. A run without a parent is a task of the agent that
//! is named after it, or of `agent`, if that is added to the lines.
//!
//! ```
//! use sre_adapter_langchain::LangChainAdapter;
//! use sre_core::Adapter;
//! let mut adapter = LangChainAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"event":"on_chain_start","time":1790000000,"run_id":"1","parent_run_id":null,"name":"support"}"#,
//!     r#"{"event":"on_chain_end","time":1790000002,"run_id":"1","parent_run_id":null}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((&*events[1].agent, events[1].event.duration_ms()), ("support", Some(2000.0)));
//! ```
//!
//! A chain that is a node of a graph, and a retriever, is a step; other chains inside a run only wrap what they call.
//!
//! Without callbacks, record the same events manually:
//!
//! ```
//! use sre_adapter_langchain::LangChainAdapter;
//! use sre_core::LlmUsage;
//! use sre_core::adapter::TokenCosts;
//! let adapter = LangChainAdapter::default().with_token_costs(TokenCosts::default());
//! let mut run = adapter.on_chain_start("support");
//! run.on_llm_start("gpt-4o-mini", "1");
//! run.on_llm_end("1", LlmUsage { input_tokens: 1_000, output_tokens: 100, ..LlmUsage::default() });
//! run.on_tool_start("search", "2");
//! run.on_tool_end("2");
//! run.on_chain_end();
//! assert_eq!(adapter.snapshot().total_cost_usd, "0.0045".parse().unwrap());
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::LangChainAdapter;
pub use manual::ChainRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
