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
//! - `x-langfuse-public-key` is not sent: the key is in the basic authentication.
//! - Spans are compressed.
//! - A task's own cost is metadata of its observation, because Langfuse adds up the costs of a trace's observations.
mod exporter;
mod mapping;
mod objectives;
mod observation;
mod settings;

pub use exporter::LangfuseExporter;
pub use settings::LangfuseSettings;
