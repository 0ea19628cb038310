//! Snapshots as metrics, in Prometheus' text exposition format and in OpenMetrics.
//!
//! Names, units and labels follow the Prometheus convention: base units (seconds, ratios, dollars), `_total` on
//! counters, and every objective is told apart by the labels `slo` and `agent`. A number that does not exist has no
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
mod snapshots;

pub use exporter::{InvalidMetric, PrometheusExporter};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
