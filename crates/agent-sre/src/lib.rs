//! Reliability engineering for AI agents: the crates of agent-sre by feature, and the runtime that connects them.
//!
//! Adapters turn the records of frameworks into one stream of events. Engines, which are independent of each other, observe it and
//! raise signals, which the [`Runtime`] passes to every signal handler. The [`prelude`] has the main types of every feature.
//!
//! ```
//! # #[cfg(feature = "slo")] {
//! use std::sync::Arc;
//! use agent_sre::adapter::IngestLimits;
//! use agent_sre::{RunLimits, Runtime, Signal, Timestamp};
//! use agent_sre::slo::{Slo, TaskSuccessRate};
//!
//! let slo = Arc::new(Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.5).unwrap())]).unwrap());
//! let log = Arc::new(|signal: &Signal| println!("{}: {}", signal.title, signal.message));
//! let runtime = Runtime::builder().formats(RunLimits::default()).engine(slo).handle("log", log).build().unwrap();
//! let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":true}"#;
//! runtime.ingest_record("sre", line, &IngestLimits::default()).unwrap();
//! runtime.evaluate(Timestamp::from_secs(1_790_000_000));
//! runtime.shutdown();
//! # }
//! ```
#[cfg(feature = "alerts")]
pub mod alerts;
mod engines;
#[cfg(all(feature = "http", feature = "yaml"))]
mod exporters;
mod format;
pub mod prelude;
mod redaction;
mod runtime;
mod secrets;

pub use engines::{
    AgentReport, AgentTotals, EngineError, EngineSettings, ModelTotals, SettingsError, SettingsFile, settings_files,
};
#[cfg(all(feature = "http", feature = "yaml"))]
pub use exporters::{ExporterConfig, exporter_schemas, exporter_types, read_exporters};
#[doc(inline)]
#[allow(unused_imports, unreachable_pub, reason = "empty without the feature of an adapter")]
pub use format::adapters::*;
pub use format::{Format, UndetectedFormat, UnknownFormat, is_protobuf};
pub use redaction::{Redaction, Replacement};
pub use runtime::{HandlerStats, IngestError, Runtime, RuntimeBuilder, RuntimeError};
#[doc(inline)]
pub use sre_core::*;

/// Objectives, error budgets and burn-rate alerts.
#[cfg(feature = "slo")]
#[doc(inline)]
pub use sre_slo as slo;

/// Metrics and traces to OTLP backends.
#[cfg(feature = "otlp")]
#[doc(inline)]
pub use sre_exporter_otlp as otlp;

/// Traces and scores to Langfuse.
#[cfg(feature = "langfuse")]
#[doc(inline)]
pub use sre_exporter_langfuse as langfuse;

/// Metrics, costs and the state of objectives to Datadog.
#[cfg(feature = "datadog")]
#[doc(inline)]
pub use sre_exporter_datadog as datadog;

/// Sessions and spans to AgentOps.
#[cfg(feature = "agentops")]
#[doc(inline)]
pub use sre_exporter_agentops as agentops;

/// Headers for model calls through Helicone's proxy; scores and feedback to Helicone.
#[cfg(feature = "helicone")]
#[doc(inline)]
pub use sre_exporter_helicone as helicone;
/// Runs and feedback to LangSmith.
#[cfg(feature = "langsmith")]
#[doc(inline)]
pub use sre_exporter_langsmith as langsmith;

/// Logs, experiments and scores to Braintrust.
#[cfg(feature = "braintrust")]
#[doc(inline)]
pub use sre_exporter_braintrust as braintrust;

/// Traces, assessments and runs to MLflow.
#[cfg(feature = "mlflow")]
#[doc(inline)]
pub use sre_exporter_mlflow as mlflow;
/// Runs, metrics and alerts to Weights & Biases.
#[cfg(feature = "wandb")]
#[doc(inline)]
pub use sre_exporter_wandb as wandb;

/// Spans and annotations to Arize Phoenix.
#[cfg(feature = "phoenix")]
#[doc(inline)]
pub use sre_exporter_phoenix as phoenix;

/// Metrics for Prometheus.
#[cfg(feature = "prometheus")]
#[doc(inline)]
pub use sre_exporter_prometheus as prometheus;

/// Circuit breakers and cascade detection.
#[cfg(feature = "cascade")]
#[doc(inline)]
pub use sre_cascade as cascade;

/// Prices, budgets and cost guards.
#[cfg(feature = "cost")]
#[doc(inline)]
pub use sre_cost as cost;

/// The HTTP client of channels and exporters, and the outbox that exporters send through.
#[cfg(feature = "http")]
#[doc(inline)]
pub use sre_http as http;

/// Alert history, cost ledger, journal, spool and traces in SQLite files.
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use sre_store_sqlite as sqlite;

/// W3C trace context, spans of A2A and MCP calls, trees of spans, and tail sampling.
#[cfg(feature = "trace")]
#[doc(inline)]
pub use sre_trace as trace;

/// The README's example, and those of the pages and the exporters, compile and hold.
#[cfg(all(doctest, feature = "full"))]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/adapters.md")]
    struct Adapters;

    #[doc = include_str!("../../../docs/alerts.md")]
    struct Alerts;

    #[doc = include_str!("../../../docs/events.md")]
    struct Events;

    #[doc = include_str!("../../../docs/guards.md")]
    struct Guards;

    #[cfg(all(feature = "trace-a2a", feature = "trace-rmcp"))]
    #[doc = include_str!("../../../docs/tracing.md")]
    struct Tracing;

    #[doc = include_str!("../../sre-exporter-agentops/README.md")]
    struct AgentOpsExporter;

    #[doc = include_str!("../../sre-exporter-datadog/README.md")]
    struct DatadogExporter;

    #[doc = include_str!("../../sre-exporter-helicone/README.md")]
    struct HeliconeExporter;

    #[doc = include_str!("../../sre-exporter-langfuse/README.md")]
    struct LangfuseExporter;

    #[doc = include_str!("../../sre-exporter-langsmith/README.md")]
    struct LangSmithExporter;

    #[doc = include_str!("../../sre-exporter-braintrust/README.md")]
    struct BraintrustExporter;

    #[doc = include_str!("../../sre-exporter-wandb/README.md")]
    struct WandbExporter;
    #[doc = include_str!("../../sre-exporter-mlflow/README.md")]
    struct MlflowExporter;

    #[doc = include_str!("../../sre-exporter-phoenix/README.md")]
    struct PhoenixExporter;

    #[doc = include_str!("../../sre-exporter-otlp/README.md")]
    struct OtlpExporter;
}

/// Runs the README's example as a test.
#[cfg(all(doctest, feature = "slo"))]
#[doc = include_str!("../README.md")]
struct Readme;
