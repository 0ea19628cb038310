//! Reads the events of Dify workflows.
//!
//! Forward the `data:` payloads of a workflow's event stream (`POST /v1/workflows/run` or `/v1/chat-messages` with
//! `response_mode: streaming`), one a line. A run is a task of the workflow, or of `agent`, if that is added to the payloads.
//! Dify's own times are whole seconds; with a `time` added to each payload, events are exact.
//!
//! ```
//! use sre_adapter_dify::DifyAdapter;
//! use sre_core::Adapter;
//! let mut adapter = DifyAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"event":"workflow_started","task_id":"1","data":{"workflow_id":"support","created_at":1790000000}}"#,
//!     r#"{"event":"workflow_finished","task_id":"1","data":{"status":"succeeded","elapsed_time":1.2,"finished_at":1790000001}}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((&*events[1].agent, events[1].event.duration_ms()), ("support", Some(1200.0)));
//! ```
//!
//! Nodes of the types `llm`, `question-classifier` and `parameter-extractor` are model calls, with tokens and Dify's price;
//! nodes of the type `tool` are tool calls; the others are steps. A node that failed and whose error the workflow handled
//! (`exception`) does not fail the task.
//!
//! Without an event stream, record the same events manually:
//!
//! ```
//! use sre_adapter_dify::DifyAdapter;
//! let adapter = DifyAdapter::default();
//! let mut run = adapter.on_workflow_start("my-workflow");
//! run.on_node_start("code-1", "code");
//! run.on_http_request("https://example.com/orders", Some(200), None);
//! run.on_node_end("code-1", None);
//! run.on_workflow_end(true, None);
//! assert_eq!(adapter.snapshot().task_success_rate, Some(1.0));
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::DifyAdapter;
pub use manual::WorkflowRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
