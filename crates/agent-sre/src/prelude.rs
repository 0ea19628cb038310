//! The main types of every feature, for `use agent_sre::prelude::*`.
//!
//! Errors, records of stores, and what only authors of engines, adapters and stores need are left out, and so are names that
//! are ambiguous without their module, such as [`http::Client`](crate::http::Client) and
//! [`alerts::Verdict`](crate::alerts::Verdict).
//!
//! ```
//! # #[cfg(feature = "slo")] {
//! use agent_sre::prelude::*;
//!
//! let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.95).unwrap())]).unwrap();
//! assert_eq!(slo.evaluate(), Status::Unknown);
//! # }
//! ```
#[doc(no_inline)]
#[allow(unused_imports, unreachable_pub, reason = "empty without the feature of an adapter")]
pub use crate::format::adapter_types::*;
#[doc(no_inline)]
pub use crate::{AgentTotals, EngineSettings, Format, Redaction, Runtime, RuntimeBuilder};
#[doc(no_inline)]
pub use sre_core::adapter::{IngestLimits, IngestReport};
#[doc(no_inline)]
pub use sre_core::{
    Adapter, AgentEvent, Alert, AlertChannel, AlertQuery, BreakerState, Clock, Collect, CostAlert, CostScope,
    CostStatus, Counts, Direction, Event, EventKind, EventSink, EventStage, Exporter, HttpClient, LlmUsage,
    ManualClock, MeanSeries, Metric, MetricUnit, Observe, PercentileSeries, Persist, Phase, RatioSeries, Recorder,
    RetryPolicy, RunLimits, Secret, Severity, Signal, SignalHandler, SignalKind, SignalSink, Sli, SliReading, SliSpec,
    SloSnapshot, Snapshot, Status, SystemClock, Target, Timestamp, Unit, Usd, WeightedRatioSeries, Window,
};

#[cfg(all(feature = "alerts", feature = "sqlite"))]
#[doc(no_inline)]
pub use crate::alerts::OpenAlertHistory;
#[cfg(feature = "alerts")]
#[doc(no_inline)]
pub use sre_alerts::{
    AlertManager, AlertOptions, AlertmanagerChannel, CallbackChannel, ChannelConfig, EscalationPolicy, FileChannel,
    MaintenanceWindow, Matcher, NotifyConfig, OpsgenieChannel, PagerDutyChannel, PersistentAlertManager, RateLimit,
    Schedule, SendReport, Silence, SlackChannel, TeamsChannel, WebhookChannel,
};
#[cfg(feature = "cascade")]
#[doc(no_inline)]
pub use sre_cascade::{
    BreakerConfig, BreakerLayer, CallError, CascadeDetector, CircuitBreaker, CircuitOpen, DetectorConfig, ErrorClass,
    Mitigation, SlidingWindow, WindowSize,
};
#[cfg(feature = "cost")]
#[doc(no_inline)]
pub use sre_cost::{
    AgentBudget, CostGuard, CostObserver, Denied, Limits, ModelPrice, PriceBook, Pricing, Reservation, ScopeLimits,
    Spend, TaskCost,
};
#[cfg(feature = "trace-a2a-client")]
#[doc(no_inline)]
pub use sre_trace::TracedA2aTransport;
#[cfg(feature = "trace")]
#[doc(no_inline)]
pub use sre_trace::{
    A2aRequest, McpRequest, ProtocolSpan, ProtocolTracer, SpanLibrary, TailSampler, TailSamplerOptions, TraceContext,
    TraceTree, TracerOptions,
};
#[cfg(feature = "trace-a2a-server")]
#[doc(no_inline)]
pub use sre_trace::{TracedA2aExecutor, TracedA2aHandler};
#[cfg(feature = "trace-tower")]
#[doc(no_inline)]
pub use sre_trace::{TracedClientLayer, TracedServerLayer};
#[cfg(feature = "trace-rmcp")]
#[doc(no_inline)]
pub use sre_trace::{TracedMcpHandler, TracedMcpTransport, WithParent};

#[cfg(feature = "slo")]
#[doc(no_inline)]
pub use sre_slo::{
    BudgetConfig, BurnPolicy, BurnThreshold, Calendar, CalibrationDelta, ComponentSpec, CompositeSpec, CostPerTask,
    DelegationChainDepth, ErrorBudget, ExhaustionAction, GoodWhen, HallucinationRate, IndicatorSpec, PolicyCompliance,
    RepeatedToolCalls, ResponseLatency, SliRegistry, Slo, SloEngine, SloSpec, SloTarget, StepsPerTask, TaskSuccessRate,
    TimeSlices, TimeToFirstToken, ToolCallAccuracy,
};

#[cfg(feature = "agentops")]
#[doc(no_inline)]
pub use sre_exporter_agentops::{AgentOpsExporter, AgentOpsSettings};
#[cfg(feature = "braintrust")]
#[doc(no_inline)]
pub use sre_exporter_braintrust::{BraintrustExporter, BraintrustSettings};
#[cfg(feature = "datadog")]
#[doc(no_inline)]
pub use sre_exporter_datadog::{DatadogEvent, DatadogExporter, DatadogSettings};
#[cfg(feature = "helicone")]
#[doc(no_inline)]
pub use sre_exporter_helicone::{CallContext, HeliconeExporter, HeliconeHeaders, HeliconeSettings};
#[cfg(feature = "langfuse")]
#[doc(no_inline)]
pub use sre_exporter_langfuse::{LangfuseExporter, LangfuseSettings};
#[cfg(feature = "langsmith")]
#[doc(no_inline)]
pub use sre_exporter_langsmith::{LangSmithExporter, LangSmithSettings};
#[cfg(feature = "mlflow")]
#[doc(no_inline)]
pub use sre_exporter_mlflow::{MlflowExporter, MlflowSettings};
#[cfg(feature = "otlp")]
#[doc(no_inline)]
pub use sre_exporter_otlp::{OtlpExporter, OtlpSettings};
#[cfg(feature = "phoenix")]
#[doc(no_inline)]
pub use sre_exporter_phoenix::{PhoenixExporter, PhoenixSettings};
#[cfg(feature = "prometheus")]
#[doc(no_inline)]
pub use sre_exporter_prometheus::PrometheusExporter;
#[cfg(feature = "wandb")]
#[doc(no_inline)]
pub use sre_exporter_wandb::{WandbExporter, WandbSettings};
#[cfg(feature = "http")]
#[doc(no_inline)]
pub use sre_http::{Outbox, OutboxOptions};
#[cfg(feature = "sqlite")]
#[doc(no_inline)]
pub use sre_store_sqlite::{SqliteAlertStore, SqliteJournal, SqliteLedger, SqliteSpool};
