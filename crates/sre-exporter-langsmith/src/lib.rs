//! Sends agent runs, their tokens and costs, evaluations and objectives to LangSmith as runs and feedback.
//!
//! Runs and feedback are the parts of `POST /runs/multipart`, as LangSmith's own client sends them. Whether the body may be
//! compressed is asked of `GET /info` once. Source of the format: the
//! [API](https://docs.langchain.com/langsmith/smith-api/runs/ingest-runs-multipart), the
//! [run format](https://docs.langchain.com/langsmith/run-data-format) and `langsmith-sdk`.
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_langsmith::{LangSmithExporter, LangSmithSettings};
//!
//! let settings = LangSmithSettings::new(Secret::new("lsv2-1"));
//! let exporter = LangSmithExporter::new(settings)?;
//! assert!(!format!("{exporter:?}").contains("lsv2-1"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Runs
//!
//! - A task is posted when it starts, and patched when it ends. If both are in one batch, one post has everything. A task
//!   whose start this process did not send is posted as a whole when it ends.
//! - The root run has the id of the trace, as LangSmith requires; any other run has the id that LangSmith's OpenTelemetry
//!   bridge derives from a span's id. So the same event is the same run, also after a restart. Handoffs and messages, which
//!   often share the span of a step, have ids of their own.
//! - `dotted_order` has times and ids from the root down, but a call ends before its parents do. The time of a root comes from
//!   the task's start, or else from the batch, or else it is the start of the first call that was sent; all runs of the trace
//!   then keep it. A step that ends in a later batch than its calls is left out of their place: they are shown directly
//!   below the task, and their metadata has `otel_parent_span_id`. The state of the last 10,000 traces is kept.
//! - LangSmith refuses a run that is placed before its parent. Where clocks differ, the run's place is moved to its parent's
//!   start; its `start_time` is not changed.
//! - After a restart in the middle of a task without its start event, later runs may have a root time that differs from that of
//!   earlier ones. They are in the same trace, but LangSmith sorts them apart.
//! - Evaluations and policy checks are feedback on their parent's run, or on the root. If the root is not known, the run
//!   that the trace is named after is taken for it.
//! - An objective is one run per agent and day (UTC), with feedback at every interval. Its id depends only on project,
//!   objective, agent and day. It is not one run for ever, because LangSmith deletes traces at the end of their retention.
//!
//! # Differences from LangSmith's own client
//!
//! - There is no part `inputs`: events have no inputs of calls.
//! - `tags`, and fields that are `null`, are left out.
//! - `extra.metadata` has no `revision_id`, and `extra.runtime` only the name and version of this library.
//! - A patch repeats name, type, start and project, so that it is complete if its post was lost.
//! - The `events` of a model call have the time of its first token, but no tokens.
//! - Bodies are compressed with gzip where `/info` has `gzip_body_enabled`, as by LangSmith's client for JavaScript; the one for
//!   Python uses zstd.
//! - The project's id, which feedback needs, is looked up by `GET /sessions`. The recorded client was given it.
//! - A response of 409 is a success, as for LangSmith's client: the runs were received before.
//!
//! For the same run, the parts are at most 1.1 times as long as those of the client (`tests/protocol.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `create_run(name, run_type, inputs, parent_run_id, tags)` | [`LangSmithExporter::create_run`]; runs of events are created by the exporter |
//! | `end_run(run_id, outputs, error)` | [`LangSmithExporter::end_run`] |
//! | `add_feedback(run_id, key, score, comment)` | [`LangSmithExporter::add_feedback`] |
//! | `export_slo(slo, run_id)` | [`LangSmithExporter::export_slo`]; without a run, the objective of a runtime is a run of its own |
//! | `is_offline`, `runs`, `feedbacks`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod exporter;
mod feedback;
mod manual;
mod multipart;
mod objectives;
mod run;
mod run_id;
mod server;
mod settings;
mod traces;

pub use exporter::LangSmithExporter;
pub use manual::{NewRun, RunType, StartedRun};
pub use settings::LangSmithSettings;
