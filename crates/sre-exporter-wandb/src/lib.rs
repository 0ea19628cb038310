//! Sends objectives, metrics, tasks and evaluations of agents to Weights & Biases as the metrics of runs.
//!
//! Weights & Biases has no published schema. A run is created or found by the GraphQL mutation `UpsertBucket`; the rows of its
//! history and its summary go to `POST /files/ENTITY/PROJECT/RUN/file_stream`; alerts are the mutation
//! `NotifyScriptableRunAlert`. Source: what its own client sends, and [that client](https://github.com/wandb/wandb).
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_wandb::{WandbExporter, WandbSettings};
//!
//! let settings = WandbSettings { tags: vec!["production".to_owned()], ..WandbSettings::new(Secret::new("key-1"), "team") };
//! let exporter = WandbExporter::new(settings)?;
//! assert!(!format!("{exporter:?}").contains("key-1"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Runs
//!
//! - Each objective of an agent is a run with a row at every interval. Metrics, such as costs, are one run; their keys are made of
//!   name and labels, such as `cost/spent_dollars/agent/support`. At most 500 are in a row; others count as ignored.
//! - Each agent is a run with a row per finished task, evaluation and policy check: W&B is no store of traces, so other events
//!   are ignored. At most 1,000 runs are kept in memory; a run beyond that is found again when it has a row.
//! - The id of a run depends on `service.name`, agent and objective, so that a restarted process continues it: rows are added at
//!   the number that W&B has (`historyLineCount`). Two processes with the same objectives and agents need different
//!   `service.name`s, because each would replace rows of the other.
//! - A request that is sent again has the same offset, so it replaces its rows. W&B keeps the steps of a history and nothing by
//!   which a row could be found again, so rows have no ids: an event that is sent again after a restart, from a spool, is a
//!   second row. An id in each row would be drawn as a metric, and W&B would not compare it.
//! - An objective that becomes `critical` sends an alert of the severity `WARN`, one that becomes `exhausted` one of `ERROR`. The
//!   status before a restart is read from the run's summary.
//! - Runs go on until [`WandbExporter::finish`]. W&B shows a silent run as crashed, so that a run without rows gets a heartbeat at every
//!   interval, for an hour, and 100 runs at most. With its next row, it is running again.
//! - Errors of GraphQL come with status 200. They become the status that they stand for, such as 403 for a missing permission.
//!
//! # Differences from Weights & Biases' own client
//!
//! - The mutations have only the variables that are used, and `summaryMetrics` in the answer. `config` has no `_wandb`, which has
//!   versions and platform of the Python client.
//! - `_runtime` is not sent, because a run outlives processes; `_timestamp` is the time.
//! - The client writes the summary, `config.yaml` and `requirements.txt` to files at the end (`CreateRunFiles`, `PUT`). Here the
//!   summary is in every request, and a run has no files.
//!
//! For the same run, the mutations and rows are at most 1.1 times as long as those of the client (`tests/protocol.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `log_run(run_name, metrics, config, tags)` | [`WandbExporter::log_run`] |
//! | `log_slo(slo, agent_id)` | the snapshot of an objective, which the outbox exports at every interval |
//! | `log_cost_series(agent_id, costs)` | [`WandbExporter::log_cost_series`] |
//! | `is_offline`, `runs`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod exporter;
mod graphql;
mod manual;
mod metrics;
mod rows;
mod run;
mod runs;
mod settings;

pub use exporter::WandbExporter;
pub use manual::WandbRun;
pub use settings::WandbSettings;
