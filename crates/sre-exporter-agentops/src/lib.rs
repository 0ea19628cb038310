//! Sends agent runs, their costs and the state of objectives to AgentOps.
//!
//! The API key is exchanged for a token at `/v3/auth/token`, with which spans are sent to `/v1/traces` as OTLP. The token is
//! kept until it expires, and replaced once if a request is answered with 401. A task is a trace in AgentOps: its root is a
//! `session` with its end state, below it are spans of the kinds `agent`, `task`, `operation`, `llm`, `tool`, `guardrail`
//! and `http`. An objective is a span with `trace.metadata.slo.*` at every interval.
//!
//! Sources: the semantic conventions and the exporter of [AgentOps' own client](https://github.com/AgentOps-AI/agentops), and
//! the queries of its server, which add up `gen_ai.usage.prompt_tokens` and `cache_read_input_tokens`.
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_agentops::{AgentOpsExporter, AgentOpsSettings};
//!
//! let exporter = AgentOpsExporter::new(AgentOpsSettings::new(Secret::new("an API key")))?;
//! assert_eq!(exporter.name(), "agentops");
//! assert!(!format!("{exporter:?}").contains("an API key"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Differences from AgentOps' own client
//!
//! - `agentops.project.id` is the project's from the start; the client sends `temporary` until it has a token.
//! - Spans are compressed, and have no inputs and outputs: they never leave an adapter.
//! - `imported_libraries` is not sent, and neither are `flags`.
//! - The state of each objective is a span of its own; the recorded client adds it to a session.
//!
//! For the same run, the requests are at most 1.1 times as long as those of the client (`tests/sessions.rs`).
//!
//! # The reference's methods
//!
//! A session is a task, so the exporter has no methods for it: what the `Recorder` of `sre-core` (feature `adapter`) records into a
//! runtime is exported.
//!
//! | of the reference | here |
//! | --- | --- |
//! | `start_session(agent_id, tags)` | `Recorder::start(agent)`; tags are those of the [settings](AgentOpsSettings::tags) |
//! | `end_session(session_id, success, end_state)` | `Run::end(success, error)` |
//! | `record_event(session_id, event_type, data)` | `Run::record(event)` |
//! | `record_tool_call(session_id, tool_name, success, latency_ms)` | `Run::tool_call(tool, error)`; with a latency, `Run::record` of a `ToolCall` with `duration_ms` |
//! | `record_slo_check(session_id, slo)` | the snapshot of an objective, which the outbox exports at every interval as a session of its own: an objective is about many sessions |
//! | `is_offline`, `sessions`, `events`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod exporter;
mod mapping;
mod objective;
mod settings;
mod token;

pub use exporter::AgentOpsExporter;
pub use settings::AgentOpsSettings;
