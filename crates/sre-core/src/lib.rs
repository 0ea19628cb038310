//! The vocabulary of agent reliability, and the traits between the crates that speak it.
//!
//! An agent run is a stream of [`AgentEvent`]s. Indicators ([`Sli`]) measure it. Engines ([`Observe`]) draw conclusions from it
//! and raise [`Signal`]s. What they measure leaves as [`Metric`]s, and what they are at a moment as [`Snapshot`]s. This crate
//! holds those types, the traits, and the series that an indicator is built on. It is pure: no async runtime, no network, no
//! files.
//!
//! | to write | implement | with an example there |
//! | --- | --- | --- |
//! | an indicator | [`Sli`], over a [`RatioSeries`], [`PercentileSeries`] or [`MeanSeries`] | below |
//! | an engine | [`Observe`]; [`Collect`] to be published, [`Persist`] to outlive a restart | [`Observe`], [`Collect`] |
//! | a reaction to signals | [`SignalHandler`]; a closure will do | [`Signal`] |
//! | an exporter | [`Exporter`]; batching and retries are `sre-http`'s outbox | `sre_http::Outbox` |
//! | an adapter of a framework | `adapter::Adapter` over `adapter::RunTracker`, with the feature `adapter` | `adapter` |
//! | an alert channel | [`AlertChannel`] | `sre-alerts` |
//! | a store | [`AlertStore`], [`LedgerStore`], [`JournalStore`] or [`Spool`] | [`MemoryLedger`], [`MemorySpool`] |
//!
//! A custom indicator:
//!
//! ```
//! use sre_core::{AgentEvent, Event, RatioSeries, Sli, SliReading, SliSpec, Timestamp};
//!
//! struct RefusalRate(RatioSeries);
//!
//! impl Sli for RefusalRate {
//!     fn spec(&self) -> &SliSpec { self.0.spec() }
//!
//!     fn reading(&self, now: Timestamp) -> SliReading { self.0.reading(now) }
//!
//!     fn observe(&self, event: &AgentEvent) {
//!         if let Event::TaskFinished(task) = &event.event {
//!             self.0.record(event.time, task.error.as_deref() == Some("refused"));
//!         }
//!     }
//! }
//!
//! let refusals = RefusalRate(RatioSeries::new(SliSpec::ratio_at_most("refusal_rate", 0.02, "24h".parse().unwrap())));
//! let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":false,"error":"refused"}"#;
//! let event = AgentEvent::from_json(line).unwrap();
//! refusals.observe(&event);
//! assert_eq!(refusals.reading(event.time).value, Some(1.0));
//! ```
#[cfg(feature = "adapter")]
pub mod adapter;
mod alert;
mod alert_store;
mod breaker;
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
mod snapshot;
mod spool;
mod state;
mod stats;
mod store_error;
mod sync;
mod thread;
mod time;
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
    EventSpan, ExportBatch, ExportError, ExportReport, Exporter, Rejection, Resource, Wants, send_export, stable_id,
};
pub use hash::arguments_hash;
pub use http_client::{AnswerLimit, HttpClient, HttpError, Offline, retry_after};
pub use journal::{JournalEntry, JournalStore};
pub use ledger::{BudgetLimit, LedgerEntry, LedgerReservation, LedgerStore, LedgerTotals, ReserveOutcome};
pub use memory_ledger::MemoryLedger;
pub use metric::{ExponentialHistogram, Metric, MetricUnit, MetricValue};
pub use money::{InvalidUsd, Usd};
pub use per_task::{PerTask, TaskCosts};
#[cfg(feature = "rate")]
pub use rate::RateLimiter;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use series::{Counts, MeanSeries, PercentileSeries, RatioSeries, RollingCounts, RollingView, WeightedRatioSeries};
pub use signal::{ExhaustionAction, InvalidName, Phase, Signal, SignalKind, SignalOutlet, SignalSink, Status};
pub use sli::{Direction, Percentiles, Sli, SliReading, SliSpec, Unit};
pub use snapshot::{
    AlertsSnapshot, BurnAlert, BurnRate, ChannelSnapshot, ErrorBudgetSnapshot, IndicatorSnapshot, SloSnapshot,
    Snapshot, Tally, Totals,
};
pub use spool::{MemorySpool, Spool, SpoolSize, SpooledRecord};
pub use state::{StateError, StateReader, StateWriter};
pub use stats::wilson_interval;
pub use store_error::StoreError;
use sync::lock;
use thread::thread_number;
pub use time::{InvalidTime, Timestamp};
pub use window::{InvalidWindow, Window};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
