//! Sends agent runs, their costs, evaluations and objectives to Langfuse as observations and scores.
//!
//! Observations are sent as OTLP spans with `langfuse.*` attributes to `/api/public/otel/v1/traces`, scores in batches
//! to `/api/public/scores`, as Langfuse's own clients do since their version 5. The older `/api/public/ingestion` is
//! not used: Langfuse has removed it from its cloud and from version 4. Rejected records are read from the responses
//! (partial success in OTLP; status 207 for scores).
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_langfuse::{LangfuseExporter, LangfuseSettings};
//!
//! let settings = LangfuseSettings::new(Secret::new("pk-lf-1"), Secret::new("sk-lf-1"));
//! let exporter = LangfuseExporter::new(settings)?;
//! assert!(!format!("{exporter:?}").contains("-lf-"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Differences from Langfuse's own client
//!
//! - `x-langfuse-public-key` is not sent: the key is in the basic authentication. Nor is it an attribute of the scope.
//! - `langfuse.observation.input` and `.output` are not sent: inputs and outputs never leave an adapter.
//! - Agent, task, provider and attributes of an event are metadata of its observation; the recorded client was given none.
//! - A call has the number of its cached input tokens.
//! - The resource has no `telemetry.sdk.*` and `service.instance.id`.
//! - A task's own cost is metadata of its observation, because Langfuse adds up the costs of a trace's observations.
//!
//! For the same run, the requests are at most 1.1 times as long as those of the client (`tests/client.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `score_slo(trace_id, slo)` | [`LangfuseExporter::score_slo`]; an objective of a runtime also has a trace of its own, with scores at every interval |
//! | `score_trace(trace_id, name, value, comment)` | [`LangfuseExporter::score_trace`] |
//! | `record_cost(trace_id, agent_id, cost_usd, …)` | [`LangfuseExporter::record_cost`] |
//! | `is_offline`, `scores`, `observations`, `clear()` | `Outbox::stats`: what was sent is not kept |
mod exporter;
mod manual;
mod mapping;
mod objectives;
mod score;
mod settings;

pub use exporter::LangfuseExporter;
pub use manual::CostObservation;
pub use settings::LangfuseSettings;
