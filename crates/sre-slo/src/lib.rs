//! Service level objectives for AI agents: indicators, error budgets, burn-rate alerts, and specs in YAML.
//!
//! The arithmetic is that of the SRE Workbook, chapters 2 and 5: an error budget is `1 - target`, a burn rate of
//! 1.0 consumes it exactly over its window, and a burn alert fires while the burn rates of a long and a short window both
//! reach its threshold.
//!
//! ```
//! use sre_core::Status;
//! use sre_slo::{BudgetConfig, ErrorBudget, Slo, TaskSuccessRate};
//!
//! let budget = ErrorBudget::new(BudgetConfig { total: Some(0.05), ..Default::default() }).unwrap();
//! let slo = Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.95).unwrap())]).unwrap().for_agent("support").with_budget(budget);
//! for task in 0..100 {
//!     slo.record_event(task % 50 != 0);
//! }
//! assert_eq!(slo.budget().remaining().map(|left| (left * 10.0).round() / 10.0), Some(0.6));
//! assert_eq!(slo.evaluate(), Status::Healthy);
//! ```
mod budget;
mod calendar;
mod composite;
mod engine;
mod evaluation;
mod good_when;
mod indicator_policy;
mod indicators;
mod policy;
mod registry;
mod slo;
mod spec;
mod target;
mod time_slices;

pub use budget::{BudgetConfig, ErrorBudget, InvalidBudget};
pub use calendar::{Calendar, CalendarSpec, InvalidCalendar};
pub use composite::{ComponentSpec, CompositeSpec};
pub use engine::{EngineError, ObjectiveSet, SloEngine, VerdictListener};
pub use evaluation::BudgetReading;
pub use good_when::GoodWhen;
pub use indicators::{
    CalibrationDelta, CostPerTask, DelegationChainDepth, HallucinationRate, PolicyCompliance, RepeatedToolCalls,
    ResponseLatency, SliValue, StepsPerTask, TaskSuccessRate, TimeToFirstToken, ToolCallAccuracy,
};
pub use policy::{BurnPolicy, BurnThreshold};
pub use registry::{IndicatorError, Params, SliRegistry, SliType};
pub use slo::{BuildError, Slo};
pub use spec::{
    BudgetPolicySpec, Change, ChangeKind, IndicatorSpec, InvalidSpec, OpenSloOrigin, SCHEMA, SloSpec, SpecError,
    SpecErrors, diff, from_openslo, load, parse, resolve, to_openslo, to_yaml,
};
pub use sre_core::{CompositeMethod, ExhaustionAction};
pub use target::{InvalidTarget, SloTarget};
pub use time_slices::TimeSlices;

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
