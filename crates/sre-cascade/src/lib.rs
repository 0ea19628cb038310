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
mod call_error;
mod call_graph;
mod config;
mod detector;
mod detector_config;
mod error_class;
mod failure_tracker;
mod id_set;
#[cfg(feature = "tower")]
mod layer;
mod mitigation;
mod packed_state;
mod permit;
mod persist;
mod propagation;
mod settings;
mod shared_machine;
mod spans;
#[cfg(feature = "config")]
mod spec;
mod state_machine;
mod striped_counter;
mod sync;
mod window;

pub use breaker::CircuitBreaker;
pub use call::Classified;
pub use call_error::{CallError, CircuitOpen};
pub use config::{BreakerConfig, InvalidConfig, SlidingWindow, WindowSize};
pub use detector::CascadeDetector;
pub use detector_config::DetectorConfig;
pub use error_class::ErrorClass;
#[cfg(feature = "tower")]
pub use layer::{BreakerLayer, BreakerService, Classify, ErrorsAsFailures, ResponseFuture};
pub use mitigation::Mitigation;
pub use permit::Permit;
#[cfg(feature = "config")]
pub use spec::{SCHEMA, SpecError};
pub use sre_core::{
    BreakerChange, BreakerSnapshot, BreakerState, CascadeReport, FailingTarget, Target, TargetKind, WindowedCalls,
};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
