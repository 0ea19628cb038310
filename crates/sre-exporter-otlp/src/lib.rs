//! Sends metrics, and agent runs as traces, to an OpenTelemetry collector or any backend that supports OTLP.
//!
//! A task is a trace: the task is its root span, and steps, model calls, tool calls, handoffs, evaluations, policy
//! checks and HTTP requests are the spans below it, with the attributes of OpenTelemetry's conventions for generative
//! AI, version 0.1.0 of their own repository (and `gen_ai.usage.cost` in US dollars, which several backends read; and
//! `gen_ai.usage.cache_creation.input_tokens`, the name that `cache_write` had up to 1.41). Other attributes begin with
//! `sre.`. Metrics are gauges, monotonic cumulative sums and exponential histograms. Their names begin with `sre.`, too: those
//! of the conventions, such as `gen_ai.client.inference.duration` (up to 1.41 `gen_ai.client.operation.duration`), are left to
//! instrumentations, so that no call is counted twice.
//!
//! ```
//! use sre_core::Exporter;
//! use sre_exporter_otlp::{OtlpExporter, OtlpSettings};
//!
//! let exporter = OtlpExporter::new(OtlpSettings::new("http://127.0.0.1:4318"))?;
//! assert_eq!(exporter.name(), "otlp");
//! assert!(OtlpExporter::new(OtlpSettings::new("127.0.0.1:4318")).is_err(), "not a URL");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Use of the OpenTelemetry crates
//!
//! `opentelemetry-proto` provides the protobuf messages of responses, against which tests read what `sre-otlp` encodes: an event
//! is written to the request without a message of its own. The pipelines
//! of `opentelemetry_sdk` (batch span processor, periodic reader) and the exporters of `opentelemetry-otlp` are not
//! used: they have their own queues, batches, retries and time-outs, do not count dropped records by reason, and cannot
//! spool, split on 413 or report which records were rejected. The outbox of `sre-http` does this for every exporter.
//! Also, the tracing API cannot create spans that ended in the past with given ids, and the SDK sends no exemplars.
//!
//! For the same metrics and spans, the messages are those of `opentelemetry-otlp` (`tests/opentelemetry.rs`), except that an empty
//! status or list of negative buckets is left out, a sum has no start, since it may be older than this process, and the flags of
//! a span do not record whether its parent is of the same process.
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `MetricsExporter.record_sli`, `record_slo`, `record_cost`, `record_latency`, … | the metrics of engines, which the outbox exports at every interval |
//! | `TraceExporter.export_trace(trace)`, `export_span_simple(…)` | events, each a span |
//! | `OTelSpanSink.record_span(…)` | a `step_finished` event |
//! | `EventLogger.log_…` | no log records are sent: what it logs are signals, which handlers turn to alerts, and metrics |
mod exporter;
#[cfg(feature = "grpc")]
mod grpc;
mod metrics;
mod settings;

pub use exporter::OtlpExporter;
pub use settings::{OtlpSettings, Protocol, UnknownProtocol};
