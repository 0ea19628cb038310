//! The conformance suites of the workspace: one suite per trait of `sre-core`, and every implementor is a row in it.
//!
//! ```
//! use sre_core::{MeanSeries, Unit, NativeAdapter, RunLimits, SliSpec, Window};
//! sre_testkit::conformance::adapter(&mut || Box::new(NativeAdapter::new(RunLimits::default())), &[]);
//! ```
pub mod conformance;
mod exporter;
pub mod outside;
pub mod recordings;

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
