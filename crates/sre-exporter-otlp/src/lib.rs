//! Sends metrics, and agent runs as traces, to an OpenTelemetry collector or any backend that speaks OTLP.
//!
//! A task is a trace: the task is its root span, and steps, model calls, tool calls, handoffs, evaluations, policy checks
//! and HTTP requests are the spans below it, with the attributes of OpenTelemetry's conventions for generative AI (and
//! `gen_ai.usage.cost` in US dollars, which several backends read). What these conventions do not name is under `sre.`.
//! Metrics are gauges, monotonic cumulative sums and exponential histograms.
//!
//! ```
//! use sre_core::Exporter;
//! use sre_exporter_otlp::{OtlpExporter, OtlpSettings};
//!
//! let exporter = OtlpExporter::new(OtlpSettings::new("http://127.0.0.1:4318"))?;
//! assert_eq!(exporter.name(), "otlp");
//! assert!(OtlpExporter::new(OtlpSettings::new("127.0.0.1:4318")).is_err(), "not a URL");
//! # Ok::<(), sre_exporter_otlp::InvalidSettings>(())
//! ```
//!
//! # Which parts of the OpenTelemetry crates are used
//!
//! `opentelemetry-proto`: the protobuf messages, and with the feature `grpc` its clients for tonic. The pipelines of
//! `opentelemetry_sdk` (batch span processor, periodic reader) and the exporters of `opentelemetry-otlp` are not used:
//! they queue, batch, retry and time out themselves, drop what they cannot send without saying so by reason, and cannot
//! spool, split on 413 or say which records were refused. Here the outbox of `sre-http` does that for every exporter, and
//! spans end in the past with ids of their own, which the tracing API has no way to say.
mod attribute;
mod exporter;
#[cfg(feature = "grpc")]
mod grpc;
mod metrics;
mod partial_success;
mod settings;
mod spans;

pub use exporter::OtlpExporter;
pub use settings::{InvalidSettings, OtlpSettings, Protocol, UnknownProtocol};
