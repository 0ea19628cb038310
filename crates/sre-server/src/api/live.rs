use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::private::lock;
use agent_sre::{Clock, SystemClock, Timestamp};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::sync::watch;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::MODULES;
use crate::app::AppState;
use crate::live::PageParts;

const EVERY: Duration = Duration::from_secs(1);

/// Everything that the page shows, and from then on what changes, as server-sent events.
pub(crate) async fn live(State(context): State<Arc<AppState>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let updates = updates(&context).map(|update| update.map(|update| Event::default().data(update)));
    Sse::new(updates).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// Returns what the page shows at `now`: a part or more of every module, and the health of the service.
fn page_parts(context: &AppState, now: Timestamp) -> PageParts {
    let mut parts = PageParts::default();
    MODULES.iter().for_each(|module| (module.page)(context, now, &mut parts));
    let shared = &context.shared;
    let failure = lock(&shared.journal.failure).clone();
    let error = lock(&shared.config_error).clone();
    parts.insert("health", json!({"journal": failure, "files": error, "started": shared.started}));
    parts
}

/// Sends what has changed, every second that somebody has the page open.
pub(crate) async fn publish(context: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let mut before: Option<PageParts> = None;
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
        // Whoever comes first gets everything twice, since something may have happened in between.
        if let Some(changes) = parts.changes(before.as_ref()) {
            // That nobody is left to receive it is no failure.
            let _ = context.live.0.send(changes.into());
        }
        before = Some(parts);
    }
}

async fn collect(context: &Arc<AppState>) -> Option<PageParts> {
    let context = context.clone();
    tokio::task::spawn_blocking(move || page_parts(&context, SystemClock.now())).await.ok()
}

/// Returns everything, and from then on what changes, until the service stops.
fn updates(context: &Arc<AppState>) -> impl Stream<Item = Result<Arc<str>, Infallible>> + use<> {
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
            // A closed channel means that the service has stopped, too.
            let _ = stop.wait_for(|stopping| *stopping).await;
        })
        .map(Ok)
}

async fn whole(context: &Arc<AppState>) -> Arc<str> {
    let parts = collect(context).await.unwrap_or_default();
    parts.changes(None).unwrap_or_default().into()
}
