use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{self, AtomicU64};

use agent_sre::private::lock;
use agent_sre::slo::{ExhaustionAction, Slo, SloEngine};
use agent_sre::{AgentTotals, BurnAlert, BurnRate, Counts, SloSnapshot, Status, Timestamp, Totals, Window};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::error::{ApiError, ErrorBody};
use super::extract::{Path, Query};
use super::openapi::{ApiRouter, window_parameter};
use super::{AppRef, Module};
use crate::app::AppState;
use crate::history::IndicatorSeries;
use crate::live::{PageParts, View, part};
use crate::shared::Shared;

pub(super) const MODULE: Module = Module { routes, page: |_, _, _| {}, view: Some(add_to_views) };

fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(slos)).routes(routes!(slo))
}

/// Adds the objectives that each view shows. Only those are evaluated now; the others are ordered and counted by their last
/// evaluation.
fn add_to_views(state: &AppState, now: Timestamp, views: &mut [(&View, &mut PageParts)]) {
    let objectives = state.shared.engines().get::<SloEngine>().objectives();
    let all: Vec<Ranked<'_>> = objectives.iter().map(Ranked::new).collect();
    let mut rows = HashMap::new();
    for (view, parts) in views {
        let mut matching: Vec<_> = all.iter().filter(|ranked| ranked.matches(&view.words)).copied().collect();
        let found = matching.len();
        if found > view.limit {
            matching.select_nth_unstable_by(view.limit, Ranked::compare);
        }
        for Ranked { slo, .. } in matching.iter().take(view.limit) {
            let row = rows.entry((slo.name(), slo.agent())).or_insert_with(|| {
                let snapshot = slo.snapshot_at(now);
                part(row(&snapshot, &slo.time_series(snapshot.window, now)))
            });
            parts.insert_part(format!("slo {} {}", slo.name(), slo.agent()).into(), row.clone());
        }
        let count = |status| all.iter().filter(|ranked| ranked.status == status).count();
        let statuses: BTreeMap<_, _> = Status::ALL.iter().map(|status| (status.as_str(), count(*status))).collect();
        parts.insert("objectives", ObjectiveCounts { total: all.len(), matching: found, statuses });
    }
}

/// How many objectives there are, on the page.
#[derive(Serialize)]
struct ObjectiveCounts {
    total: usize,
    /// Those that match the page's filter.
    matching: usize,
    /// All of them by status.
    statuses: BTreeMap<&'static str, usize>,
}

/// An objective with what decides on its place in the list of the page.
#[derive(Clone, Copy)]
struct Ranked<'a> {
    slo: &'a Slo,
    status: Status,
    remaining: f64,
}

impl<'a> Ranked<'a> {
    fn new(slo: &'a Slo) -> Self {
        let (status, remaining) = slo.last_evaluation();
        Self { slo, status, remaining: remaining.unwrap_or(1.0) }
    }

    /// Compares by urgency: the most urgent objective is the least.
    fn compare(&self, other: &Self) -> Ordering {
        let by_budget = self.remaining.total_cmp(&other.remaining);
        let by_name = || (self.slo.name(), self.slo.agent()).cmp(&(other.slo.name(), other.slo.agent()));
        other.status.cmp(&self.status).then(by_budget).then_with(by_name)
    }

    /// Returns whether name, agent or status contains each of the words, which are in lower case.
    fn matches(&self, words: &[String]) -> bool {
        if words.is_empty() {
            return true;
        }
        let text = format!("{} {} {}", self.slo.name(), self.slo.agent(), self.status.as_str()).to_lowercase();
        words.iter().all(|word| text.contains(word))
    }
}

/// Number of points of the error budget's curve in the list of the page.
const POINTS: usize = 32;

/// The report that `sre check --output json` prints; `docs/schemas/check.schema.json` describes it.
#[derive(Serialize, ToSchema)]
struct SloList {
    /// Objectives, by name and agent.
    slos: Vec<SloSnapshot>,
    totals: Totals,
    input: InputStats,
}

/// Counters of the input since the service was first started.
#[derive(Serialize, ToSchema)]
struct InputStats {
    /// Records received: lines, spans and log records.
    lines: u64,
    /// Events created from them.
    events: u64,
    /// Records that could not be read.
    skipped: u64,
    /// Records of an unknown kind.
    unknown: u64,
    /// Records that belong to no open run, and calls without an end.
    unmatched: u64,
}

fn slo_list(shared: &Shared, now: Timestamp) -> SloList {
    let engines = shared.engines();
    let adapters = || engines.runtime.adapter_stats().map(|(_, stats)| stats);
    let count = |counter: &AtomicU64| counter.load(atomic::Ordering::Relaxed);
    let input = InputStats {
        lines: count(&shared.counters.records),
        events: count(&shared.checks.events),
        skipped: count(&shared.counters.rejected),
        unknown: adapters().map(|stats| stats.unknown).sum(),
        unmatched: adapters().map(|stats| stats.unmatched).sum(),
    };
    SloList { slos: engines.get::<SloEngine>().snapshots(now), totals: engines.get::<AgentTotals>().totals(), input }
}

/// Every objective of every agent
///
/// The same report as that of `sre check --output json`.
#[utoipa::path(
    get, path = "/v1/slos",
    responses((status = 200, description = "Objectives by name and agent.", body = SloList))
)]
async fn slos(State(state): AppRef) -> Json<SloList> {
    Json(slo_list(&state.shared, state.shared.now()))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SloQuery {
    /// Only the objective of this agent.
    agent: Option<String>,
    /// The length of the history; 24h by default.
    #[param(schema_with = window_parameter)]
    window: Option<Window>,
}

/// Objectives with their history.
#[derive(Serialize, ToSchema)]
struct SloDetailList {
    /// One for each agent.
    slos: Vec<SloDetail>,
}

/// An objective with its history.
#[derive(Serialize, ToSchema)]
struct SloDetail {
    #[serde(flatten)]
    slo: SloSnapshot,
    exhaustion_action: ExhaustionAction,
    history: SloHistory,
}

/// The history of an objective over a window, oldest first.
#[derive(Serialize, ToSchema)]
struct SloHistory {
    window: Window,
    events: EventSeries,
    indicators: IndicatorSeries,
}

/// Good and bad events by bucket.
#[derive(Serialize, ToSchema)]
struct EventSeries {
    /// When each bucket begins, in Unix seconds.
    at: Vec<i64>,
    /// Good events in each bucket.
    good: Vec<u64>,
    /// Bad events in each bucket.
    bad: Vec<u64>,
}

/// The objectives of a name, each with its history
#[utoipa::path(
    get, path = "/v1/slos/{name}", params(("name" = String, Path, description = "The objective's name."), SloQuery),
    responses(
        (status = 200, description = "One objective for each agent.", body = SloDetailList),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody),
        (status = 404, description = "No objective has this name.", body = ErrorBody)
    )
)]
async fn slo(
    State(state): AppRef,
    Path(name): Path<String>,
    Query(query): Query<SloQuery>,
) -> Result<Json<SloDetailList>, ApiError> {
    let now = state.shared.now();
    let engines = state.shared.engines();
    let slos = engines.get::<SloEngine>();
    let window = query.window.unwrap_or(Window::DAY);
    let objectives = slos.objectives();
    let is_wanted = |slo: &&Slo| slo.name() == name && query.agent.as_ref().is_none_or(|agent| *agent == slo.agent());
    let mut found: Vec<_> = objectives.iter().filter(is_wanted).map(|slo| slo.snapshot_at(now)).collect();
    found.sort_by(|one, other| one.agent.cmp(&other.agent));
    if found.is_empty() && !engines.exhaustion_actions.contains_key(&name) {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("found no objective `{name}`; /v1/slos lists the objectives"),
        ));
    }
    let action = engines.exhaustion_actions.get(&name).copied().unwrap_or_default();
    let detail = |slo: SloSnapshot| {
        let series = slos.with_objective(&slo.name, &slo.agent, |own| own.time_series(window, now)).unwrap_or_default();
        let events = EventSeries {
            at: series.iter().map(|(at, _)| at.as_secs()).collect(),
            good: series.iter().map(|(_, counts)| counts.good).collect(),
            bad: series.iter().map(|(_, counts)| counts.bad).collect(),
        };
        let from = now.saturating_sub(window.duration());
        let indicators = lock(&state.shared.history).series(&slo, from, now);
        let history = SloHistory { window, events, indicators };
        SloDetail { slo, exhaustion_action: action, history }
    };
    Ok(Json(SloDetailList { slos: found.into_iter().map(detail).collect() }))
}

/// An objective in the list of the page.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    agent: &'a str,
    status: Status,
    target: Option<f64>,
    window: String,
    sli: Option<f64>,
    good: u64,
    bad: u64,
    consumed: Option<f64>,
    remaining: Option<f64>,
    spent_in_s: Option<f64>,
    burn_rates: &'a [BurnRate],
    alerts: &'a [BurnAlert],
    /// The indicator that shares the error budget.
    budget_indicator: Option<&'a str>,
    /// Why the status is unknown, and what its indicators have to do with it.
    reasons: Vec<String>,
    /// The remaining error budget over its window up to now, in thousandths.
    history: Vec<i32>,
}

fn row<'a>(slo: &'a SloSnapshot, series: &[(Timestamp, Counts)]) -> Row<'a> {
    let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
    let budget = &slo.error_budget;
    Row {
        name: &slo.name,
        agent: &slo.agent,
        status: slo.status,
        target: slo.target,
        window: slo.window.to_string(),
        sli: slo.sli,
        good: slo.good,
        bad: slo.bad,
        consumed: finite(budget.consumed),
        remaining: finite(budget.remaining),
        spent_in_s: finite(budget.spent_in_s),
        burn_rates: &slo.burn_rates,
        alerts: &slo.alerts,
        budget_indicator: slo.budget_indicator(),
        reasons: slo.reasons(),
        history: burn_down(series, budget.total, slo.good + slo.bad),
    }
}

/// Returns the remaining error budget, in thousandths, after each of at most [`POINTS`] parts of its window. The last point is
/// the budget that remains now.
fn burn_down(series: &[(Timestamp, Counts)], total: Option<f64>, events: u64) -> Vec<i32> {
    let Some(allowed) = total.map(|total| total * events as f64).filter(|allowed| *allowed > 0.0) else {
        return Vec::new();
    };
    let part = series.len().div_ceil(POINTS).max(1);
    let mut bad = 0;
    let remaining = |counts: &[(Timestamp, Counts)]| {
        bad += counts.iter().map(|(_, counts)| counts.bad).sum::<u64>();
        ((1.0 - bad as f64 / allowed) * 1_000.0).round().clamp(-9_999.0, 1_000.0) as i32
    };
    series.chunks(part).map(remaining).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_down_ends_at_the_remaining_budget() {
        let at = Timestamp::default();
        let series: Vec<_> =
            (0..100).map(|bucket| (at, Counts { good: 9, bad: u64::from(bucket % 25 == 24) })).collect();
        let points = burn_down(&series, Some(0.1), 904);
        assert!(points.len() <= POINTS && points.is_sorted_by(|earlier, later| earlier >= later));
        assert_eq!((points[0], *points.last().unwrap()), (1_000, 956));
        assert_eq!(burn_down(&series, None, 904), Vec::<i32>::new());
        assert_eq!(burn_down(&[], Some(0.1), 904), Vec::<i32>::new());
    }
}
