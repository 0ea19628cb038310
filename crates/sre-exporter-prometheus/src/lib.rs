//! Metrics in Prometheus' text exposition format and in OpenMetrics.
//!
//! An exporter formats whatever says its metrics itself ([`Collect`](sre_core::Collect)): dots become underscores, and names
//! end in their unit (`_seconds`, `_ratio`, `_dollars`) and, of counters, in `_total`. A value that does not exist has no
//! sample; an infinite burn rate is `+Inf`.
//!
//! ```
//! use sre_exporter_prometheus::PrometheusExporter;
//! let mut exporter = PrometheusExporter::new();
//! exporter.set_gauge("queue_length", 3.0, &[("queue", "alerts")], "Alerts that wait.").unwrap();
//! exporter.inc_counter("alerts_sent_total", 2.0, &[], "Alerts that went out.").unwrap();
//! assert!(exporter.render().contains("queue_length{queue=\"alerts\"} 3\n"));
//! ```
mod exporter;

pub use exporter::{InvalidMetric, PrometheusExporter};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
