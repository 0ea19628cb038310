//! Sends metrics, costs and the state of objectives to Datadog.
//!
//! - Gauges and counters are [series] of version 2. Counters are cumulative here, and counts of an interval in Datadog: the
//!   exporter keeps the last value of each series that Datadog has accepted, and sends the difference. A batch that is sent
//!   again has the same differences at the same time, which [replaces][same-time] what arrived before.
//! - Histograms are named as those of Datadog's Agent: `.count` and `.sum` are counts, `.avg`, `.median`, `.95percentile` and
//!   `.99percentile` gauges, all of the values since the last batch.
//! - Tasks, model calls, tool calls and evaluations are [distributions], which Datadog adds up itself. Counts would be lost:
//!   of two points of a series at one second, only the later one is kept.
//! - Each objective is a [service check] `agent_sre.slo`, and each change of its status an [event].
//! - With [`sync_slos`](DatadogSettings::sync_slos), each objective is also a [metric-based SLO] over the counts of its good
//!   and bad events.
//!
//! [series]: https://docs.datadoghq.com/api/latest/metrics/#submit-metrics
//! [same-time]: https://docs.datadoghq.com/metrics/introduction/
//! [distributions]: https://docs.datadoghq.com/api/latest/metrics/#submit-distribution-points
//! [service check]: https://docs.datadoghq.com/api/latest/service-checks/
//! [event]: https://docs.datadoghq.com/api/latest/events/
//! [metric-based SLO]: https://docs.datadoghq.com/service_management/service_level_objectives/metric/
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_datadog::{DatadogExporter, DatadogSettings};
//!
//! let settings = DatadogSettings::new(Secret::new("an API key"));
//! let exporter = DatadogExporter::new(DatadogSettings { site: "datadoghq.eu".to_owned(), ..settings })?;
//! assert_eq!(exporter.name(), "datadog");
//! assert!(!format!("{exporter:?}").contains("an API key"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Differences from Datadog's own client
//!
//! - Series and service checks have the tags of unified service tagging, `service`, `env` and `version`.
//! - A series without a known host has no `resources`.
//! - The cost of tasks is a distribution, `agent_sre.task.cost`, where the recorded client sends a count.
//! - The texts of events and checks also have the remaining error budget.
//! - Series are compressed.
//!
//! For the same metrics and event, the requests are at most 1.1 times as long as those of the client; the check is longer, by
//! its sentence about the budget (`tests/requests.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `submit_metric(metric_name, value, tags, metric_type)` | [`DatadogExporter::submit_metric`] |
//! | `submit_event(title, text, alert_type, tags)` | [`DatadogExporter::submit_event`] |
//! | `export_slo(slo, agent_id)` | the snapshot of an objective, which the outbox exports at every interval |
//! | `export_cost(agent_id, cost_usd, …)` | [`DatadogExporter::export_cost`]; `task_id` is no tag, because each task would be a series of its own |
//! | `is_offline`, `metrics`, `events`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod check;
mod distribution;
mod event;
mod exporter;
mod histogram;
mod manual;
mod names;
mod objective;
mod origin;
mod series;
mod settings;
mod totals;

pub use event::{AlertType, DatadogEvent};
pub use exporter::DatadogExporter;
pub use settings::{DatadogSettings, InitialCounts};
