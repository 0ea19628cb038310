use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_sre::{
    AlertQuery, AlertRecord, BudgetSnapshot, Clock, CostAlert, Severity, SloSnapshot, StoreError, SystemClock,
    Timestamp, Totals, Usd, Window, lock,
};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Context;
use super::error::ApiError;
use crate::agents::{AgentReport, ModelTally};
use crate::history::ColumnCourse;
use crate::shared::Shared;

type Ctx = State<Arc<Context>>;

/// The same as `sre check --output json` prints.
#[derive(Serialize)]
pub(crate) struct SloList {
    pub(crate) slos: Vec<SloSnapshot>,
    pub(crate) totals: Totals,
    input: InputStats,
}

#[derive(Serialize)]
struct InputStats {
    lines: u64,
    events: u64,
    skipped: u64,
    unknown: u64,
    unmatched: u64,
}

pub(crate) fn slo_list(shared: &Shared, now: Timestamp) -> SloList {
    let engines = shared.engines();
    let adapters = lock(&shared.adapters).clone();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let input = InputStats {
        lines: count(&shared.counts.records),
        events: count(&shared.counts.events),
        skipped: count(&shared.counts.rejected),
        unknown: adapters.iter().map(|(_, stats)| stats.unknown).sum(),
        unmatched: adapters.iter().map(|(_, stats)| stats.unmatched).sum(),
    };
    SloList { slos: engines.slos.snapshots(now), totals: engines.agents.totals(), input }
}

pub(crate) async fn slos(State(context): Ctx) -> Json<SloList> {
    Json(slo_list(&context.shared, SystemClock.now()))
}

#[derive(Deserialize)]
pub(crate) struct SloQuery {
    agent: Option<String>,
    window: Option<Window>,
}

/// An objective with its course.
#[derive(Serialize)]
struct SloDetail {
    #[serde(flatten)]
    slo: SloSnapshot,
    description: String,
    exhaustion_action: &'static str,
    history: History,
}

#[derive(Serialize)]
struct History {
    window: Window,
    /// Good and bad events, bucket by bucket, the oldest first; `at` is when a bucket begins, in Unix seconds.
    events: Events,
    /// What indicators measured.
    indicators: ColumnCourse,
}

#[derive(Serialize)]
struct Events {
    at: Vec<i64>,
    good: Vec<u64>,
    bad: Vec<u64>,
}

/// The objectives of a name, of every agent or of one, each with its course over a window (24h).
pub(crate) async fn slo(
    State(context): Ctx,
    Path(name): Path<String>,
    Query(query): Query<SloQuery>,
) -> Result<Json<BTreeMap<&'static str, Vec<impl Serialize>>>, ApiError> {
    let now = SystemClock.now();
    let engines = context.shared.engines();
    let window = query.window.unwrap_or(Window::DAY);
    let mut found = engines.slos.snapshots(now);
    found.retain(|slo| slo.name == name && query.agent.as_ref().is_none_or(|agent| *agent == slo.agent));
    if found.is_empty() && !engines.exhaustion_actions.contains_key(&name) {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("found no objective `{name}`: /v1/slos lists them")));
    }
    let action = engines.exhaustion_actions.get(&name).copied().unwrap_or_default();
    let detail = |slo: SloSnapshot| {
        let own = engines.slos.with_objective(&slo.name, &slo.agent, |own| {
            (own.budget().time_series(window, now), own.description().to_owned())
        });
        let (course, description) = own.unwrap_or_default();
        let events = Events {
            at: course.iter().map(|(at, _)| at.as_secs()).collect(),
            good: course.iter().map(|(_, counts)| counts.good).collect(),
            bad: course.iter().map(|(_, counts)| counts.bad).collect(),
        };
        let from = now.saturating_sub(window.duration());
        let indicators = lock(&context.shared.history).course(&slo, from, now);
        let history = History { window, events, indicators };
        SloDetail { slo, description, exhaustion_action: action.as_str(), history }
    };
    Ok(Json(BTreeMap::from([("slos", found.into_iter().map(detail).collect())])))
}

#[derive(Serialize)]
pub(crate) struct AgentList {
    agents: Vec<AgentReport>,
}

pub(crate) async fn agents(State(context): Ctx) -> Json<AgentList> {
    Json(AgentList { agents: context.shared.engines().agents.report() })
}

#[derive(Deserialize)]
pub(crate) struct AlertFilter {
    agent: Option<String>,
    severity: Option<Severity>,
    slo: Option<String>,
    since: Option<Window>,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(crate) struct AlertList {
    alerts: Vec<AlertRecord>,
}

const MOST_ALERTS: usize = 1_000;

/// The alerts that match, the newest first, with what became of them.
pub(crate) async fn alerts(
    State(context): Ctx,
    Query(filter): Query<AlertFilter>,
) -> Result<Json<AlertList>, ApiError> {
    let query = AlertQuery {
        agent_id: filter.agent,
        severity: filter.severity,
        slo_name: filter.slo,
        since: filter.since.map(|since| SystemClock.now().saturating_sub(since.duration())),
        until: None,
        limit: Some(filter.limit.unwrap_or(100).min(MOST_ALERTS)),
    };
    let found = tokio::task::spawn_blocking(move || context.shared.engines().alert_history(&query)).await;
    let found = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let unavailable = |error: StoreError| ApiError::unavailable(error.reason(), Duration::from_secs(5));
    Ok(Json(AlertList { alerts: found.map_err(unavailable)? }))
}

/// What is spent, by whom and on what, against the limits.
#[derive(Serialize)]
pub(crate) struct CostReport {
    /// Of the day, and the organisation's of the month.
    budgets: Vec<BudgetSnapshot>,
    /// Since the service was first started.
    models: BTreeMap<String, ModelTally>,
    total_usd: Usd,
    /// The last ones.
    alerts: Vec<CostAlert>,
    /// Calls that cost nothing here, because nobody knows their model's price.
    unknown_models: BTreeMap<String, u64>,
}

pub(crate) fn cost_report(shared: &Shared) -> CostReport {
    let engines = shared.engines();
    CostReport {
        budgets: engines.costs.snapshot_at(shared.clock.now()).budgets,
        models: engines.agents.models(),
        total_usd: engines.agents.totals().cost_usd,
        alerts: engines.costs.alerts(),
        unknown_models: engines.pricing.report().unknown_models,
    }
}

pub(crate) async fn costs(State(context): Ctx) -> Json<CostReport> {
    Json(cost_report(&context.shared))
}

/// The process is there.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether what is sent now would be taken; anybody may ask.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    /// What is wrong, and does not keep it from working.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'static str; 1]>,
}

impl Readiness {
    pub(super) fn new(reasons: Vec<String>, warning: Option<&'static str>) -> Self {
        Self { ready: reasons.is_empty(), reasons, warnings: warning.map(|warning| [warning]) }
    }
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

pub(crate) async fn readyz(State(context): Ctx) -> Readiness {
    let shared = &context.shared;
    let mut reasons = Vec::new();
    if shared.is_stopping.load(Ordering::Relaxed) {
        reasons.push("the service is about to stop".to_owned());
    }
    if shared.is_engine_gone.load(Ordering::Relaxed) {
        reasons.push("what is sent is kept and not taken in, which takes a restart: this is a bug of ours".to_owned());
    }
    if let Some(failure) = &*lock(&shared.journal.failure) {
        reasons.push(format!("the journal cannot be written: {failure}"));
    }
    // What stands in them is not for everybody.
    let is_wrong = lock(&shared.rules_error).is_some();
    Readiness::new(reasons, is_wrong.then_some("the files cannot be used, those from before are: the log says why"))
}
