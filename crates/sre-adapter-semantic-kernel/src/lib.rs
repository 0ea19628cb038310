//! Reads the functions that Semantic Kernel invokes.
//!
//! Add a function-invocation filter that forwards `{"event": "function_invoking", "plugin": …, "function": …}` before each call and
//! `function_invoked`, or `function_failed` with an `error`, after it; and lines `{"event": "kernel_start", "kernel": …}` and
//! `{"event": "kernel_end", "success": …, "usage": …}` around the invocation of the kernel. Each has a `time`. If invocations
//! overlap, add a `run_id` to every line, because filters name none.
//!
//! ```
//! use sre_adapter_semantic_kernel::SemanticKernelAdapter;
//! use sre_core::Adapter;
//! let mut adapter = SemanticKernelAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"event":"kernel_start","time":1790000000,"kernel":"support"}"#,
//!     r#"{"event":"kernel_end","time":1790000002,"success":true,"usage":{"prompt_tokens":55,"completion_tokens":30}}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((&*events[2].agent, events[2].event.duration_ms()), ("support", Some(2000.0)));
//! ```
//!
//! Filters see no model calls. One model call is assumed before each function and before the end; **only the tokens of the last one
//! are known**, so costs by tokens are too low. Semantic Kernel's own OpenTelemetry spans report all of them (format `otlp`). A
//! forwarder that wraps the model client can add a line `{"event": "model_call", "model": …, "usage": …}` after each call; then
//! all tokens are known.
//!
//! Without a filter, record the same events manually:
//!
//! ```
//! use sre_adapter_semantic_kernel::SemanticKernelAdapter;
//! let adapter = SemanticKernelAdapter::default();
//! let run = adapter.on_kernel_start("my-kernel");
//! run.on_plan_step("find the order");
//! run.on_function_result("WebSearchPlugin", "search", true, None);
//! run.on_kernel_end(true, None);
//! assert_eq!(adapter.snapshot().tool_accuracy, Some(1.0));
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::SemanticKernelAdapter;
pub use manual::KernelRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
