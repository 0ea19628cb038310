use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::{AlertQuery, BurnAlert, BurnRate, Clock, SloSnapshot, Status, SystemClock, Timestamp, lock};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::api::{self, Context};

/// What the page shows, told to everybody who looks at it as it changes.
pub(crate) struct Live(broadcast::Sender<Arc<str>>);

/// Who falls so many updates behind gets everything anew.
const BEHIND: usize = 16;
const EVERY: Duration = Duration::from_secs(1);
/// So many points make an objective's course in the list.
const COURSE: usize = 32;
const SHOWN_ALERTS: usize = 50;

impl Default for Live {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }
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

/// Every part of the page by its key; a value is told again when it has changed.
#[derive(Default)]
struct Parts(BTreeMap<String, Value>);

impl Parts {
    fn collect(context: &Context, now: Timestamp) -> Self {
        let shared = &context.shared;
        let engines = shared.engines();
        let list = api::slo_list(shared, now);
        let mut parts = BTreeMap::new();
        for slo in &list.slos {
            let course =
                engines.slos.with_objective(&slo.name, &slo.agent, |own| own.budget().time_series(slo.window, now));
            let row = row(slo, &course.unwrap_or_default());
            parts.insert(format!("slo {} {}", slo.name, slo.agent), json!(row));
        }
        parts.insert("totals".to_owned(), json!(list.totals));
        parts.insert("agents".to_owned(), json!(engines.agents.report()));
        parts.insert("costs".to_owned(), json!(api::cost_report(shared)));
        let query = AlertQuery { limit: Some(SHOWN_ALERTS), ..AlertQuery::default() };
        parts.insert("alerts".to_owned(), json!(engines.alert_history(&query).unwrap_or_default()));
        let failure = lock(&shared.journal.failure).clone();
        let wrong = lock(&shared.rules_error).clone();
        parts.insert("health".to_owned(), json!({"journal": failure, "files": wrong, "started": shared.started}));
        Self(parts)
    }

    /// Everything, or what is different from `before`; `None` where nothing is.
    fn changes(&self, before: Option<&Self>) -> Option<String> {
        let is_new = |(key, value): &(&String, &Value)| before.is_none_or(|before| before.0.get(*key) != Some(*value));
        let changed: BTreeMap<_, _> = self.0.iter().filter(is_new).collect();
        let gone = before.iter().flat_map(|before| before.0.keys()).filter(|key| !self.0.contains_key(*key));
        let gone: Vec<&String> = gone.collect();
        if before.is_some() && changed.is_empty() && gone.is_empty() {
            return None;
        }
        Some(json!({"whole": before.is_none(), "parts": changed, "gone": gone}).to_string())
    }
}

fn row<'a>(slo: &'a SloSnapshot, course: &[(Timestamp, agent_sre::Counts)]) -> Row<'a> {
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
        course: burn_down(course, budget.total, slo.good + slo.bad),
    }
}

/// What was left of the budget after each of a few parts of its window: how much of what may be bad of the window's events had
/// been bad by then. It ends at what is left now.
fn burn_down(course: &[(Timestamp, agent_sre::Counts)], total: Option<f64>, events: u64) -> Vec<i32> {
    let Some(allowed) = total.map(|total| total * events as f64).filter(|allowed| *allowed > 0.0) else {
        return Vec::new();
    };
    let part = course.len().div_ceil(COURSE).max(1);
    let mut bad = 0;
    let left = |counts: &[(Timestamp, agent_sre::Counts)]| {
        bad += counts.iter().map(|(_, counts)| counts.bad).sum::<u64>();
        ((1.0 - bad as f64 / allowed) * 1_000.0).round().clamp(-9_999.0, 1_000.0) as i32
    };
    course.chunks(part).map(left).collect()
}

/// Tells what has changed, every second that somebody looks.
pub(crate) async fn publish(context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let mut before: Option<Parts> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stopping| *stopping) => return,
        }
        if context.live.0.receiver_count() == 0 {
            before = None;
            continue;
        }
        let Some(parts) = collect(&context).await else { continue };
        // The first to come is told everything twice: something may have happened since the first time.
        if let Some(changes) = parts.changes(before.as_ref()) {
            // Nobody is left to hear it: that is no failure.
            let _ = context.live.0.send(changes.into());
        }
        before = Some(parts);
    }
}

async fn collect(context: &Arc<Context>) -> Option<Parts> {
    let context = context.clone();
    tokio::task::spawn_blocking(move || Parts::collect(&context, SystemClock.now())).await.ok()
}

/// Everything, and from then on what changes, until the service stops.
pub(crate) fn updates(context: &Arc<Context>) -> impl Stream<Item = Result<Arc<str>, Infallible>> + use<> {
    let context = context.clone();
    let changes = BroadcastStream::new(context.live.0.subscribe());
    let mut stop = context.stop.clone();
    let first = {
        let context = context.clone();
        futures_util::stream::once(async move { whole(&context).await })
    };
    first
        .chain(changes.then(move |change| {
            let context = context.clone();
            async move {
                match change {
                    Ok(change) => change,
                    Err(BroadcastStreamRecvError::Lagged(_)) => whole(&context).await,
                }
            }
        }))
        .take_until(async move {
            // A service that is gone without a word has stopped too.
            let _ = stop.wait_for(|stopping| *stopping).await;
        })
        .map(Ok)
}

async fn whole(context: &Arc<Context>) -> Arc<str> {
    let parts = collect(context).await.unwrap_or_default();
    parts.changes(None).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use agent_sre::Counts;

    use super::*;

    #[test]
    fn a_burn_down_ends_at_what_is_left() {
        let at = Timestamp::default();
        let course: Vec<_> =
            (0..100).map(|bucket| (at, Counts { good: 9, bad: u64::from(bucket % 25 == 24) })).collect();
        let left = burn_down(&course, Some(0.1), 904);
        assert!(left.len() <= COURSE && left.is_sorted_by(|earlier, later| earlier >= later));
        assert_eq!((left[0], *left.last().unwrap()), (1_000, 956));
        assert_eq!(burn_down(&course, None, 904), Vec::<i32>::new());
        assert_eq!(burn_down(&[], Some(0.1), 904), Vec::<i32>::new());
    }

    #[test]
    fn only_what_changed_is_told() {
        let parts =
            |pairs: &[(&str, u64)]| Parts(pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect());
        let before = parts(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(before.changes(Some(&parts(&[("a", 1), ("b", 1), ("c", 1)]))), None);
        let after = parts(&[("a", 1), ("b", 2), ("d", 1)]);
        let changes: Value = serde_json::from_str(&after.changes(Some(&before)).unwrap()).unwrap();
        assert_eq!(changes, json!({"whole": false, "parts": {"b": 2, "d": 1}, "gone": ["c"]}));
        let whole: Value = serde_json::from_str(&after.changes(None).unwrap()).unwrap();
        assert_eq!((whole["whole"].as_bool(), whole["parts"].as_object().unwrap().len()), (Some(true), 3));
    }
}
