use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use agent_sre::trace::{TraceSummary, TraceTree};
use agent_sre::{TraceId, TraceQuery, TraceStore, Verdict};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::error::{ApiError, ErrorBody};
use super::extract::{self, Path, Query};
use super::openapi::{ApiRouter, with_errors};
use super::{AppRef, Module};
use crate::app::AppState;

pub(super) const MODULE: Module = Module { routes, page: |_, _, _| {}, view: None };

fn routes() -> ApiRouter {
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "The traces cannot be read; retry later.");
    let routes = ApiRouter::default().routes(routes!(traces)).routes(routes!(trace));
    with_errors(routes, &[unavailable], &[("application/json", ErrorBody::reference())])
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TraceFilter {
    /// Only traces that were bad or slow by the objective of this name.
    slo: Option<String>,
    /// Only traces that were bad or slow by an objective of this agent.
    agent: Option<String>,
    /// Only traces with spans of this task.
    task: Option<String>,
    /// Only bad traces, or with `false` only slow ones.
    bad: Option<bool>,
    /// The maximum number of traces.
    #[param(default = 30, minimum = 0, maximum = 100)]
    limit: Option<usize>,
}

/// Traces of bad and slow tasks, newest first.
#[derive(Serialize, ToSchema)]
struct TraceList {
    /// Newest first.
    traces: Vec<TraceRow>,
}

/// A trace, and why it is kept.
#[derive(Serialize, ToSchema)]
struct TraceRow {
    #[serde(flatten)]
    trace: TraceSummary,
    /// The objective for which it is kept.
    slo: String,
    /// Events of the trace that were bad by the objective.
    bad: u64,
    /// Events of the trace that took longer than a latency indicator of the objective allows.
    slow: u64,
}

/// Traces of the last bad and slow tasks of each objective, newest first
///
/// A trace that is kept for several objectives is listed for each of them.
#[utoipa::path(
    get, path = "/v1/traces", params(TraceFilter),
    responses(
        (status = 200, description = "The traces that match.", body = TraceList),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody)
    )
)]
async fn traces(State(state): AppRef, Query(filter): Query<TraceFilter>) -> Result<Json<TraceList>, ApiError> {
    let TraceFilter { slo, agent, task, bad, limit } = filter;
    let limit = Some(extract::limit(limit, 30, 0..=100)?);
    let verdict = bad.map(|bad| if bad { Verdict::Bad } else { Verdict::Slow });
    let query = TraceQuery { slo, agent, task, verdict, limit };
    let Some(store) = store(&state) else { return Ok(Json(TraceList { traces: Vec::new() })) };
    let mut trees: BTreeMap<TraceId, Option<TraceTree>> = BTreeMap::new();
    let mut traces = Vec::new();
    for kept in store.query(&query)? {
        let tree = match trees.entry(kept.trace_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(read(&*store, kept.trace_id)?),
        };
        // It may have given way meanwhile.
        if let Some(tree) = tree {
            let trace = TraceSummary::of_agent(tree, &kept.agent);
            traces.push(TraceRow { trace, slo: kept.slo, bad: kept.bad, slow: kept.slow });
        }
    }
    Ok(Json(TraceList { traces }))
}

/// A trace as a tree of its spans
///
/// What `sre trace show --output json` prints of a trace.
#[utoipa::path(
    get, path = "/v1/traces/{id}", params(("id" = TraceId, Path, description = "The trace: 32 hex digits.")),
    responses(
        (status = 200, description = "The tree.", body = TraceTree),
        (status = 400, description = "The id is invalid.", body = ErrorBody),
        (status = 404, description = "The trace is not kept.", body = ErrorBody)
    )
)]
async fn trace(State(state): AppRef, Path(id): Path<String>) -> Result<Json<TraceTree>, ApiError> {
    let id: TraceId = id.parse().map_err(|error| ApiError::bad_request(format!("trace id: {error}")))?;
    let tree = store(&state).map(|store| read(&*store, id)).transpose()?.flatten();
    let not_kept = || {
        let message = format!("found no trace {id}; /v1/traces lists the traces of the last bad and slow tasks");
        ApiError::new(StatusCode::NOT_FOUND, message)
    };
    tree.map(Json).ok_or_else(not_kept)
}

fn store(state: &AppState) -> Option<Arc<dyn TraceStore>> {
    state.shared.engines().traces.clone()
}

fn read(store: &dyn TraceStore, id: TraceId) -> Result<Option<TraceTree>, ApiError> {
    // Those of other traces are kept with it where the trace context was lost.
    Ok(TraceTree::build(store.spans(id)?).into_iter().find(|tree| tree.trace_id == id))
}
