//! Reads the messages and logs of AutoGen (`autogen-agentchat`).
//!
//! Forward `model_dump()` of every message of `run_stream` and the records of the logger `autogen_core.events`, one a line with a
//! `time`. AutoGen reports neither the start nor an exception of a conversation, so add a line
//! `{"type": "conversation_start", "time": …, "initiator": …}` before it, `{"type": "TaskResult", …}` after it, and
//! `{"type": "raised", "error": …, "message": …}` when the call raises. If conversations overlap, add a `run_id` to every line,
//! because AutoGen's records name none.
//!
//! ```
//! use sre_adapter_autogen::AutoGenAdapter;
//! use sre_core::Adapter;
//! let mut adapter = AutoGenAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"type":"conversation_start","time":1790000000,"initiator":"support"}"#,
//!     r#"{"type":"TaskResult","time":1790000002,"stop_reason":null}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((&*events[1].agent, events[1].event.duration_ms()), ("support", Some(2000.0)));
//! ```
//!
//! A conversation is a task of its initiator, or of `agent`, if that is added to its start. AutoGen logs a model call when it has
//! succeeded; it starts with the message before it, and has failed if the conversation raises instead.
//!
//! Without a stream, record the same events manually:
//!
//! ```
//! use sre_adapter_autogen::AutoGenAdapter;
//! let adapter = AutoGenAdapter::default();
//! let conversation = adapter.on_conversation_start("user-proxy");
//! conversation.on_message("assistant");
//! conversation.on_function_call("search", None);
//! conversation.on_conversation_end(true, None);
//! assert_eq!(adapter.snapshot().tool_accuracy, Some(1.0));
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::AutoGenAdapter;
pub use manual::Conversation;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
