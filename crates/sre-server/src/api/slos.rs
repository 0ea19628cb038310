use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_sre::private::lock;
use agent_sre::slo::SloEngine;
use agent_sre::{
    AgentTotals, BurnAlert, BurnRate, Clock, Counts, SloSnapshot, Status, SystemClock, Timestamp, Totals, Window,
};
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Ctx, Module};
use crate::app::AppState;
use crate::history::IndicatorSeries;
use crate::live::PageParts;
use crate::shared::Shared;

pub(super) const MODULE: Module = Module { routes, page };

fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/v1/slos", get(slos)).route("/v1/slos/{name}", get(slo))
}

fn page(context: &AppState, now: Timestamp, parts: &mut PageParts) {
    let engine = context.shared.engines().get::<SloEngine>();
    for slo in &engine.snapshots(now) {
        let series = engine.with_objective(&slo.name, &slo.agent, |own| own.budget().time_series(slo.window, now));
        parts.insert(format!("slo {} {}", slo.name, slo.agent), row(slo, &series.unwrap_or_default()));
    }
}

/// So many points make an objective's history in the list.
const POINTS: usize = 32;

/// The same as `sre check --output json` prints.
#[derive(Serialize)]
struct SloList {
    slos: Vec<SloSnapshot>,
    totals: Totals,
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

fn slo_list(shared: &Shared, now: Timestamp) -> SloList {
    let engines = shared.engines();
    let adapters = lock(&shared.adapters).clone();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let input = InputStats {
        lines: count(&shared.counts.records),
        events: count(&shared.counts.events),
        skipped: count(&shared.counts.rejected),
        unknown: adapters.iter().map(|(_, stats)| stats.unknown).sum(),
        unmatched: adapters.iter().map(|(_, stats)| stats.unmatched).sum(),
    };
    SloList { slos: engines.get::<SloEngine>().snapshots(now), totals: engines.get::<AgentTotals>().totals(), input }
}

async fn slos(State(context): Ctx) -> Json<SloList> {
    Json(slo_list(&context.shared, SystemClock.now()))
}

#[derive(Deserialize)]
struct SloQuery {
    agent: Option<String>,
    window: Option<Window>,
}

/// An objective with its history.
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
    indicators: IndicatorSeries,
}

#[derive(Serialize)]
struct Events {
    at: Vec<i64>,
    good: Vec<u64>,
    bad: Vec<u64>,
}

/// The objectives of a name, of every agent or of one, each with its history over a window (24h).
async fn slo(
    State(context): Ctx,
    Path(name): Path<String>,
    Query(query): Query<SloQuery>,
) -> Result<Json<BTreeMap<&'static str, Vec<impl Serialize>>>, ApiError> {
    let now = SystemClock.now();
    let engines = context.shared.engines();
    let slos = engines.get::<SloEngine>();
    let window = query.window.unwrap_or(Window::DAY);
    let mut found = slos.snapshots(now);
    found.retain(|slo| slo.name == name && query.agent.as_ref().is_none_or(|agent| *agent == slo.agent));
    if found.is_empty() && !engines.exhaustion_actions.contains_key(&name) {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("found no objective `{name}`; /v1/slos lists them")));
    }
    let action = engines.exhaustion_actions.get(&name).copied().unwrap_or_default();
    let detail = |slo: SloSnapshot| {
        let own = slos.with_objective(&slo.name, &slo.agent, |own| {
            (own.budget().time_series(window, now), own.description().to_owned())
        });
        let (series, description) = own.unwrap_or_default();
        let events = Events {
            at: series.iter().map(|(at, _)| at.as_secs()).collect(),
            good: series.iter().map(|(_, counts)| counts.good).collect(),
            bad: series.iter().map(|(_, counts)| counts.bad).collect(),
        };
        let from = now.saturating_sub(window.duration());
        let indicators = lock(&context.shared.history).of(&slo, from, now);
        let history = History { window, events, indicators };
        SloDetail { slo, description, exhaustion_action: action.as_str(), history }
    };
    Ok(Json(BTreeMap::from([("slos", found.into_iter().map(detail).collect())])))
}

/// An objective in the list.
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
    /// What was left of the budget, in thousandths, over its window up to now.
    course: Vec<i32>,
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
        course: burn_down(series, budget.total, slo.good + slo.bad),
    }
}

/// Returns what was left of the budget after each of a few parts of its window: how much of what may be bad of the window's
/// events had been bad by then. It ends at what is left now.
fn burn_down(series: &[(Timestamp, Counts)], total: Option<f64>, events: u64) -> Vec<i32> {
    let Some(allowed) = total.map(|total| total * events as f64).filter(|allowed| *allowed > 0.0) else {
        return Vec::new();
    };
    let part = series.len().div_ceil(POINTS).max(1);
    let mut bad = 0;
    let left = |counts: &[(Timestamp, Counts)]| {
        bad += counts.iter().map(|(_, counts)| counts.bad).sum::<u64>();
        ((1.0 - bad as f64 / allowed) * 1_000.0).round().clamp(-9_999.0, 1_000.0) as i32
    };
    series.chunks(part).map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burn_down_ends_at_what_is_left() {
        let at = Timestamp::default();
        let series: Vec<_> =
            (0..100).map(|bucket| (at, Counts { good: 9, bad: u64::from(bucket % 25 == 24) })).collect();
        let left = burn_down(&series, Some(0.1), 904);
        assert!(left.len() <= POINTS && left.is_sorted_by(|earlier, later| earlier >= later));
        assert_eq!((left[0], *left.last().unwrap()), (1_000, 956));
        assert_eq!(burn_down(&series, None, 904), Vec::<i32>::new());
        assert_eq!(burn_down(&[], Some(0.1), 904), Vec::<i32>::new());
    }
}
