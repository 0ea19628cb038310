//! Reads the events of CrewAI.
//!
//! Register a handler on `crewai_event_bus` that forwards `event.model_dump(mode="json")` with a `time`, one event a line. An
//! event that does not serialize is forwarded with its `type` only. A kickoff of a crew is a task of the agent that its crew is
//! named after, or of `agent`, if that is added to the lines.
//!
//! ```
//! use sre_adapter_crewai::CrewAiAdapter;
//! use sre_core::Adapter;
//! let mut adapter = CrewAiAdapter::default();
//! let mut events = Vec::new();
//! for line in [
//!     r#"{"type":"crew_kickoff_started","time":1790000000,"event_id":"1","crew_name":"research"}"#,
//!     r#"{"type":"crew_kickoff_completed","time":1790000002,"event_id":"2","started_event_id":"1"}"#,
//! ] {
//!     adapter.ingest(line.as_bytes(), &mut |event| events.push(event)).unwrap();
//! }
//! assert_eq!((&*events[1].agent, events[1].event.outcome()), ("research", Some(true)));
//! ```
//!
//! A task of the crew is a step, named after the role of the agent that works at it. A failed model call, which CrewAI reports
//! twice, counts once.
//!
//! Without a handler, record the same events manually:
//!
//! ```
//! use sre_adapter_crewai::CrewAiAdapter;
//! let adapter = CrewAiAdapter::default();
//! let mut run = adapter.on_crew_start("research-crew");
//! run.on_agent_task("researcher");
//! run.on_tool_use("search", None);
//! run.on_agent_complete("researcher", true, "0.05".parse().ok());
//! run.on_crew_end(true, None);
//! assert_eq!(adapter.snapshot().total_cost_usd, "0.05".parse().unwrap());
//! ```
mod adapter;
mod manual;
mod wire;

pub use adapter::CrewAiAdapter;
pub use manual::CrewRun;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
