//! Sends agent runs, their evaluations and objectives to MLflow, version 3.7 or later, as traces, assessments and runs.
//!
//! ```
//! use sre_core::{Exporter, Secret};
//! use sre_exporter_mlflow::{Credentials, MlflowExporter, MlflowSettings};
//!
//! let settings = MlflowSettings {
//!     credentials: Some(Credentials::Token(Secret::new("s3cr3t"))),
//!     ..MlflowSettings::new("http://127.0.0.1:5000")
//! };
//! let exporter = MlflowExporter::new(settings)?;
//! assert!(!format!("{exporter:?}").contains("s3cr3t"), "no secret is printed");
//! # Ok::<(), sre_core::InvalidExporter>(())
//! ```
//!
//! # Traces
//!
//! Spans are sent as OTLP to `/v1/traces` with the header `x-mlflow-experiment-id`. The server takes the spans of a trace
//! in any order and in several requests: a trace is `IN_PROGRESS` until its root arrives, so no span waits here for the end
//! of its task. A request is accepted as a whole or not at all; after 400 and 422, each trace is sent on its own, so that one
//! trace takes no other with it. Traces that a task did not begin, and whose root belongs to another system, stay
//! `IN_PROGRESS`.
//!
//! MLflow reads the type of a span, tokens, costs, inputs, outputs and tags of the trace from `mlflow.spanType`,
//! `mlflow.chat.tokenUsage`, `mlflow.llm.cost`, `mlflow.spanInputs`, `mlflow.spanOutputs` and `mlflow.traceTag.*`
//! (`mlflow/tracing/constant.py`). The attributes of OpenTelemetry's conventions are there for everything else.
//!
//! MLflow's own client drops a trace that it cannot send, after a warning (mlflow/mlflow#24689). Here the outbox keeps it,
//! on disk if there is a spool, until the server takes it, and counts what the server rejects.
//!
//! # Evaluations
//!
//! An evaluation and a policy check are each an assessment, created at `/api/3.0/mlflow/traces/TRACE/assessments`. MLflow
//! does so only for a trace that it has: if no span of the trace has arrived, the evaluation brings one, of type
//! `EVALUATOR` or `GUARDRAIL`.
//!
//! # Objectives
//!
//! A run is found again by the tag `sre.objective_id`, a hash of the run's params, with `runs/search`. Since MLflow's params
//! never change, an objective with another target, window or indicator is another run. The metric `status` is 0 for
//! healthy, 1 for warning, 2 for critical and 3 for exhausted; `burn_rate/…` has a metric for each window, and
//! `indicator/NAME/…` the values of each indicator. The step of a point is the number of seconds since the run began. A run
//! stays `RUNNING`, because an objective has no end. If the server does not store the artifact in five attempts, the state counts
//! as rejected for that reason, although its metrics have arrived, and the artifact is tried again with the next state.
//!
//! # The same record twice
//!
//! Spans, assessments and points of metrics have stable ids or keys, and replace themselves or are kept once. A run is looked up
//! after it was created, too: if there is an older one, of another process or of a request that timed out here, the new one is
//! deleted. MLflow does not prevent two cases: versions of before July 2026 (mlflow/mlflow#24339) add the tokens of a span that
//! is sent again to those of its trace a second time; and an older run that becomes visible only after that look-up stays a
//! second one, which the next start of a process uses.
//!
//! # Differences from MLflow's own client
//!
//! - Traces are not begun by `POST /api/3.0/mlflow/traces`: spans create their trace, and a trace that was begun so takes no
//!   more tokens and costs from its spans. `traces.json` is not uploaded, because spans are in the database.
//! - `mlflow.traceRequestId` is not sent: the server derives it. Neither are `mlflow.spanLogLevel` and
//!   `mlflow.spanFunctionName`: an event has no level and no function.
//! - A cost has no `input_cost` and `output_cost`: an event has only the sum.
//! - An exception has no type: an event has only a message.
//! - `valid` of an assessment is not sent: it is true without. An `assessment_id` is sent, by which the same is recognized.
//! - A run has no `user_id`, and the run of an objective is not ended by `runs/update`.
//! - Spans are compressed, and `x-mlflow-client-version` is not sent.
//!
//! For the same run, the requests are at most 1.1 times as long as those of the client (`tests/client.rs`).
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `log_run(run_name, metrics, params, tags)` | [`MlflowExporter::log_run`] |
//! | `log_slo(slo, agent_id)` | the snapshot of an objective, which the outbox exports at every interval |
//! | `log_artifact(run_name, artifact_path, content)` | [`MlflowExporter::log_artifact`], by the id that `log_run` returns: in MLflow, several runs may have the same name |
//! | `is_offline`, `runs`, `artifacts`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod assessment;
mod events;
mod experiment;
mod exporter;
mod log_batch;
mod manual;
mod names;
mod objective;
mod run;
mod settings;
mod spans;

pub use exporter::MlflowExporter;
pub use manual::MlflowRun;
pub use settings::{Credentials, MlflowSettings};
