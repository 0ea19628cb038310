//! Circuit breakers for agents, and detection of failures that cascade between them.
//!
//! ```
//! use sre_cascade::{BreakerState, CircuitBreaker};
//! let breaker = CircuitBreaker::new("planner");
//! assert_eq!(breaker.call(|| Ok::<_, ()>(42)), Ok(42));
//! assert_eq!(breaker.state(), BreakerState::Closed);
//! ```
mod breaker;
mod call;
mod cells;
mod class;
mod config;
mod detector;
mod directory;
mod gate;
#[cfg(feature = "tower")]
mod layer;
mod machine;
mod permit;
mod pulse;
mod spans;
#[cfg(feature = "config")]
mod spec;
mod spread;
mod sync;
mod window;

pub use breaker::CircuitBreaker;
pub use call::{CallError, CircuitOpen, Classified};
pub use class::ErrorClass;
pub use config::{BreakerConfig, InvalidConfig, SlidingWindow, WindowSize};
pub use detector::{CascadeDetector, DetectorConfig, Precaution};
#[cfg(feature = "tower")]
pub use layer::{BreakerLayer, Classify, Errors, Guarded, GuardedFuture};
pub use permit::Permit;
#[cfg(feature = "config")]
pub use spec::{SCHEMA, SpecError};
pub use sre_core::{
    BreakerChange, BreakerSnapshot, BreakerState, CascadeReport, Failing, Target, TargetKind, WindowedCalls,
};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
