//! The conformance suites of agent-sre: one suite per trait of `sre-core`, for all of its implementations.
//!
//! ```
//! use sre_core::{MeanSeries, Unit, NativeAdapter, RunLimits, SliSpec, Window};
//! sre_testkit::conformance::adapter(&mut || Box::new(NativeAdapter::new(RunLimits::default())), &[]);
//! ```
pub mod clients;
pub mod conformance;
mod exporter;
pub mod incidents;
pub mod otlp;
pub mod outside;
mod pull_exporter;
pub mod recordings;
mod replay;
pub mod servers;
mod wire;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
