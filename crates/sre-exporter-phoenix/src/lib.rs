//! Sends agent runs, their evaluations and objectives to Arize Phoenix as spans and annotations.
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_phoenix::{PhoenixExporter, PhoenixSettings};
//!
//! let settings =
//!     PhoenixSettings { api_key: Some(Secret::new("s3cr3t")), ..PhoenixSettings::new("http://127.0.0.1:6006") };
//! let exporter = PhoenixExporter::new(settings)?;
//! assert!(!format!("{exporter:?}").contains("s3cr3t"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Spans and annotations
//!
//! Spans are sent as OTLP to `/v1/traces` with the attributes of OpenInference, and evaluations and policy checks as
//! annotations to `/v1/span_annotations` and `/v1/trace_annotations`. Phoenix answers before it has stored a span. An
//! annotation is of use only once its span is stored:
//!
//! - With `sync=true`, Phoenix stores annotations at once, or answers 404 and stores none if a span is missing. The exporter
//!   tries this first, since the response shows whether the span is stored.
//! - With `sync=false`, Phoenix queues them, tries for ten minutes, and then silently drops them. The exporter requests this only
//!   for spans that it has sent before and that Phoenix therefore has in its queue.
//! - A span arrives when it ends, which may be long after its evaluation. An evaluation of such a span annotates the trace
//!   instead, with the span's id in its metadata, and if nothing of the trace has arrived, it brings a span of its own.
//!
//! # The same record twice
//!
//! Spans have stable ids; Phoenix keeps the first. Annotations have the `identifier` of their event and replace themselves. One
//! case remains: an evaluation that annotated the trace, and is sent again after its span has arrived, annotates the span too.
//!
//! # Differences from Phoenix's own clients
//!
//! - An exception has no type and is not marked as escaped: an event has only a message.
//! - `input.mime_type` is not sent: without it, an input is text.
//! - Spans are compressed, and sent in batches.
//!
//! For the same run, the requests are at most 1.1 times as long as those of the clients (`tests/client.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `export_slo_evaluation(slo_name, status, …)` | [`PhoenixExporter::export_slo_evaluation`]; objectives of a runtime are exported with their snapshots |
//! | `export_cost_record(agent_id, task_id, cost_usd, …)` | [`PhoenixExporter::export_cost_record`] |
//! | `export_incident(incident_id, severity, description, …)` | [`PhoenixExporter::export_incident`] |
//! | `on_span`, `is_offline`, `spans`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
//! | `EvaluationImporter` | evaluations come as events, by an adapter or `POST /v1/events` |
mod annotation;
mod exporter;
mod manual;
mod objective;
mod recent;
mod settings;
mod spans;

pub use exporter::PhoenixExporter;
pub use manual::{CostRecord, Incident, SloEvaluation};
pub use settings::PhoenixSettings;
