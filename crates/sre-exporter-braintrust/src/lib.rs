//! Sends agent runs, their tokens and costs, evaluations and objectives to Braintrust as logs or an experiment.
//!
//! Spans are rows of `POST /v1/project_logs/{id}/insert`, or with an experiment of `POST /v1/experiment/{id}/insert`. Project
//! and experiment are registered by their names once. Source of the format: Braintrust's
//! [OpenAPI document](https://github.com/braintrustdata/braintrust-openapi).
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_braintrust::{BraintrustExporter, BraintrustSettings};
//!
//! let settings = BraintrustSettings { experiment: Some("nightly".to_owned()), ..BraintrustSettings::new(Secret::new("sk-1")) };
//! let exporter = BraintrustExporter::new(settings)?;
//! assert!(!format!("{exporter:?}").contains("sk-1"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Rows
//!
//! - A row's id is that of the trace and the span, and every row is merged into what Braintrust has (`_is_merge`): sent twice,
//!   it is one row; the start of a task, its end and its scores meet in one. Events of the same span are one row, too, except
//!   for handoffs, messages and a call whose span is that of its task: these have ids of their own, and `otel_span_id`.
//! - `root_span_id` is the trace, `span_id` the span. A trace's root is its first task, also if the caller of that task is
//!   elsewhere: Braintrust shows a trace only by its root.
//! - Evaluations and policy checks are scores of the row they are about: that of their parent span, or else of the trace's
//!   root. If this process has not sent that row, they have a row of type `score` below it, because Braintrust takes the place
//!   of a row in its trace from the first request that has it.
//! - A score is from 0 to 1. Braintrust refuses other numbers, so such a score is the metric `score.NAME`, and its verdict, if
//!   it has one, is the score.
//! - An objective is a row at every interval, with the scores `slo.NAME.budget_remaining` and `slo.NAME.sli`. An overspent
//!   budget has the score 0; the metric of the same name has the exact number.
//!
//! # Differences from Braintrust's own client
//!
//! - Rows go to the documented insert endpoints instead of `/logs3`, which is not in the published API, can change without
//!   notice, and mixes the rows of logs and experiments. The rows have the same fields; `project_id`, `experiment_id` and
//!   `log_id` are in the path.
//! - There is no log-in at the app's host (`/api/apikey/login`) and no `GET /version`: the first only finds the API's URL, which
//!   is a setting, the second the largest body, and a body that is too large is split (413).
//! - `org_name` is not sent: a key belongs to one organisation, except in rare cases.
//! - An experiment is continued (`ensure_new: false`), so that a restart does not begin a new one.
//! - `context` and `exec_counter`, the place in the code where a span was logged, are left out, and so are `input` and `output`,
//!   which events do not have. The root of an experiment has agent and task as `input`.
//! - `_is_merge` is always sent.
//!
//! For the same run, the rows are at most 1.1 times as long as those of the client (`tests/protocol.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `log_eval(trace_id, agent_id, slo_name, scores, …)` | [`BraintrustExporter::log_eval`]; evaluations among events are exported anyway |
//! | `log_experiment(name, entries)` | [`BraintrustExporter::log_experiment`] |
//! | `export_slo(trace_id, slo)` | the snapshot of an objective, which the outbox exports at every interval |
//! | `record_cost(trace_id, agent_id, cost_usd, …)` | [`BraintrustExporter::record_cost`] |
//! | `is_offline`, `evaluations`, `experiments`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod exporter;
mod manual;
mod objectives;
mod registry;
mod row;
mod scores;
mod settings;
mod spans;
mod traces;

pub use exporter::BraintrustExporter;
pub use manual::{CostRecord, EvalRecord};
pub use settings::BraintrustSettings;
