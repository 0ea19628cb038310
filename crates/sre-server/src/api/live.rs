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
use utoipa_axum::routes;

use super::AppRef;
use super::modules::MODULES;
use super::openapi::ApiRouter;
use crate::app::AppState;
use crate::live::PageParts;

pub(super) fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(live))
}

/// Time between two updates.
const INTERVAL: Duration = Duration::from_secs(1);

/// The content of the page, and then its changes
#[utoipa::path(
    get, path = "/v1/live",
    responses((
        status = 200, body = String, content_type = "text/event-stream",
        description = "Server-sent events. The data of each is a `LiveUpdate` as JSON; the first has all parts."
    ))
)]
async fn live(State(state): AppRef) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let updates = updates(&state).map(|update| update.map(|update| Event::default().data(update)));
    Sse::new(updates).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// Returns the content of the page at `now`: the parts of every module, and the health of the service.
fn page_parts(state: &AppState, now: Timestamp) -> PageParts {
    let mut parts = PageParts::default();
    MODULES.iter().for_each(|module| (module.page)(state, now, &mut parts));
    let shared = &state.shared;
    let failure = lock(&shared.journal.failure).clone();
    let error = lock(&shared.config_error).clone();
    parts.insert("health", json!({"journal": failure, "files": error, "started": shared.started}));
    parts
}

/// Sends the changes of the page to its subscribers every second.
pub(crate) async fn publish(state: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let mut before: Option<PageParts> = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stopping| *stopping) => return,
        }
        if state.live.0.receiver_count() == 0 {
            before = None;
            continue;
        }
        let Some(parts) = collect(&state).await else { continue };
        // After a time without subscribers, this sends everything: a change may have come after the first subscriber's copy.
        if let Some(changes) = parts.changes(before.as_ref()) {
            // Fails when the last subscriber has just left, which is fine.
            let _ = state.live.0.send(changes.into());
        }
        before = Some(parts);
    }
}

async fn collect(state: &Arc<AppState>) -> Option<PageParts> {
    let state = state.clone();
    tokio::task::spawn_blocking(move || page_parts(&state, SystemClock.now())).await.ok()
}

/// Returns all parts, and then the changes, until the service stops.
fn updates(state: &Arc<AppState>) -> impl Stream<Item = Result<Arc<str>, Infallible>> + use<> {
    let state = state.clone();
    let changes = BroadcastStream::new(state.live.0.subscribe());
    let mut stop = state.stop.clone();
    let first = {
        let state = state.clone();
        futures_util::stream::once(async move { all_parts(&state).await })
    };
    first
        .chain(changes.then(move |change| {
            let state = state.clone();
            async move {
                match change {
                    Ok(change) => change,
                    Err(BroadcastStreamRecvError::Lagged(_)) => all_parts(&state).await,
                }
            }
        }))
        .take_until(async move {
            // A closed channel means that the service has stopped as well.
            let _ = stop.wait_for(|stopping| *stopping).await;
        })
        .map(Ok)
}

async fn all_parts(state: &Arc<AppState>) -> Arc<str> {
    let parts = collect(state).await.unwrap_or_default();
    parts.changes(None).unwrap_or_default().into()
}
