//! Metrics in Prometheus' text exposition format and in OpenMetrics.
//!
//! An exporter formats the metrics of a [`Collect`](sre_core::Collect): dots become underscores, and names end in their
//! unit (`_seconds`, `_ratio`, `_dollars`) and, for counters, in `_total`. An undefined value has no sample; an
//! infinite burn rate is `+Inf`. A value that is no longer reported has no sample any more, either.
//!
//! ```
//! use sre_exporter_prometheus::PrometheusExporter;
//! let mut exporter = PrometheusExporter::new();
//! exporter.set_gauge("queue_length", 3.0, &[("queue", "alerts")], "Alerts waiting for delivery.").unwrap();
//! exporter.inc_counter("alerts_sent_total", 2.0, &[], "Alerts sent.").unwrap();
//! assert!(exporter.render().contains("queue_length{queue=\"alerts\"} 3\n"));
//! ```
mod error;
mod exporter;
mod family;
mod labels;
mod scrape;
mod series;

pub use error::InvalidMetric;
pub use exporter::PrometheusExporter;
pub use scrape::{Rendering, Scrape, Scraper, TextFormat};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
