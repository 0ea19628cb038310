//! Core types and traits for agent reliability.
//!
//! An agent run is a stream of [`AgentEvent`]s. Indicators ([`Sli`]) measure it. Engines ([`Observe`]) evaluate it and
//! raise [`Signal`]s. Measurements are exported as [`Metric`]s, and the state of engines as [`Snapshot`]s. This crate
//! holds those types, the traits, and the series that indicators are built on. It has no async runtime, no network and
//! no file access.
//!
//! | to write | implement; there is an example |
//! | --- | --- |
//! | an indicator | [`Sli`] |
//! | an engine | [`Observe`] |
//! | metrics and snapshots of an engine | [`Collect`] |
//! | state of an engine that outlives a restart | [`Persist`] |
//! | a change to events before engines see them | [`EventStage`] |
//! | a reaction to signals | [`SignalHandler`] |
//! | an exporter | [`Exporter`] |
#![cfg_attr(feature = "adapter", doc = "| an adapter of a framework | [`adapter::Adapter`] |")]
#![cfg_attr(
    not(feature = "adapter"),
    doc = "| an adapter of a framework | `adapter::Adapter`, with the feature `adapter` |"
)]
//! | an alert channel | [`AlertChannel`] |
//! | a store of alerts | [`AlertStore`] |
//! | a ledger of costs | [`LedgerStore`] |
//! | a journal of what was received | [`JournalStore`] |
//! | a spool for what waits to be sent | [`Spool`] |
//! | a store of traces | [`TraceStore`] |
//! | an HTTP client | [`HttpClient`] |
//!
//! From an event to a signal:
//!
//! ```
//! use sre_core::{AgentEvent, RatioSeries, Severity, Signal, SliSpec};
//!
//! let failures = RatioSeries::new(SliSpec::ratio_at_most("failures", 0.02, "24h".parse().unwrap()).unwrap());
//! let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":false}"#;
//! let event = AgentEvent::from_json(line).unwrap();
//! failures.record(event.time, event.event.outcome() == Some(false));
//! let ratio = failures.reading(event.time).value.unwrap();
//! assert!(!failures.spec().is_met_by(ratio));
//! let signal = Signal::firing("failures", "failures/support", Severity::Warning, event.time);
//! assert_eq!(signal.state, "firing");
//! ```
#[cfg(feature = "adapter")]
pub mod adapter;
mod alert;
mod alert_store;
mod breaker;
mod canonical_json;
mod cascade;
mod channel;
mod clock;
mod cost;
mod engine;
pub mod event;
mod export;
mod hash;
mod http_client;
mod journal;
mod ledger;
mod memory_ledger;
mod metric;
mod money;
mod names;
mod per_task;
#[doc(hidden)]
pub mod private;
#[cfg(feature = "rate")]
mod rate;
mod retry;
mod secret;
mod series;
mod signal;
mod sli;
mod sli_reading;
mod sli_spec;
mod snapshot;
mod span;
mod spool;
mod state;
#[cfg(feature = "stats")]
pub mod stats;
mod store_error;
mod sync;
mod thread;
mod time;
mod trace_store;
mod wilson;
mod window;
#[cfg(feature = "yaml")]
pub mod yaml;

#[cfg(feature = "adapter")]
pub use adapter::{
    Adapter, AdapterError, AdapterSnapshot, AdapterStats, EventSink, LlmUsage, NativeAdapter, Recorder, Run, RunLimits,
};
pub use alert::{Alert, Severity};
pub use alert_store::{
    Acknowledgement, AlertId, AlertQuery, AlertRecord, AlertStore, DeliveryRecord, DeliveryState, NewAlert, Retention,
};
pub use breaker::{BreakerChange, BreakerSnapshot, BreakerState, Target, TargetKind, WindowedCalls};
pub use cascade::{CascadeReport, FailingTarget};
pub use channel::{AlertChannel, ChannelError, DeliveryReceipt, Notification};
pub use clock::{Clock, ManualClock, SystemClock};
pub use cost::{BudgetSnapshot, CostAlert, CostAlertKind, CostScope, CostStatus, CostsSnapshot};
pub use engine::{Collect, EventStage, Observe, Persist, SignalHandler};
pub use event::{AgentEvent, Event, EventKind, InvalidEvent, InvalidId, SpanId, TraceId};
pub use export::{
    BackendApi, EventSpan, ExportBatch, ExportError, ExportReport, Exporter, InvalidExporter, JsonEntry, JsonObject,
    Rejection, Resource, Wants,
};
pub use hash::{arguments_hash, stable_id};
pub use http_client::{HttpClient, HttpError, NoHttp, ResponseLimit, retry_after};
pub use journal::{JournalEntry, JournalStore};
pub use ledger::{BudgetLimit, LedgerEntry, LedgerReservation, LedgerStore, LedgerTotals, ReserveOutcome};
pub use memory_ledger::MemoryLedger;
pub use metric::{Exemplar, ExponentialHistogram, Metric, MetricUnit, MetricValue};
pub use money::{InvalidUsd, Usd};
pub use per_task::{PerTask, TaskCosts};
#[cfg(feature = "rate")]
pub use rate::RateLimiter;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use series::{Counts, MeanSeries, PercentileSeries, RatioSeries, RollingCounts, RollingView, WeightedRatioSeries};
pub use signal::{
    CascadeEnd, ExhaustionAction, FailOn, InvalidName, Phase, Signal, SignalKind, SignalOutlet, SignalSink,
    SloStatusChange, Status,
};
pub use sli::Sli;
pub use sli_reading::{Percentiles, SliReading};
pub use sli_spec::{Direction, InvalidSli, SliSpec, Unit};
pub use snapshot::{
    AlertsSnapshot, BurnAlert, BurnRate, ChannelSnapshot, ComponentSnapshot, CompositeMethod, ErrorBudgetSnapshot,
    IndicatorSnapshot, SloSnapshot, Snapshot, Tally, Totals,
};
pub use span::{Span, SpanRole};
pub use spool::{MemorySpool, Spool, SpoolSize, SpooledRecord};
pub use state::{StateError, StateReader, StateWriter};
pub use store_error::StoreError;
use sync::lock;
use thread::thread_number;
pub use time::{InvalidTime, Timestamp};
pub use trace_store::{KeptTrace, TraceLimits, TraceQuery, TraceStore, TraceUpdate, Verdict};
pub use wilson::wilson_interval;
pub use window::{InvalidWindow, Window};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
