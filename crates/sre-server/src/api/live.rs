use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_sre::Timestamp;
use agent_sre::private::lock;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::AppRef;
use super::error::{ApiError, ErrorBody};
use super::extract::{Query, limit};
use super::modules::MODULES;
use super::openapi::ApiRouter;
use crate::app::AppState;
use crate::live::{Channel, PageParts, Subscription, View};

pub(super) fn routes() -> ApiRouter {
    ApiRouter::default().routes(routes!(live))
}

/// Time between two updates.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time after which a comment is sent if nothing else is, so that the connection counts as in use.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Maximum length of a filter, in characters.
const MAX_FILTER: usize = 200;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LiveQuery {
    /// Only objectives whose name, agent or status contains each of these words, in upper or lower case.
    #[serde(default)]
    #[param(max_length = 200)]
    filter: String,
    /// The maximum number of objectives; the most urgent ones are sent.
    #[param(default = 100, minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// The content of the page, and then its changes
///
/// Of the objectives, it has the most urgent ones that match a filter, and the part `objectives` counts the others.
#[utoipa::path(
    get, path = "/v1/live",
    params(
        LiveQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event of an earlier connection. What \
         has changed since then is sent, or all parts if that was too long ago.")
    ),
    responses(
        (
            status = 200, body = String, content_type = "text/event-stream",
            description = "Server-sent events. The data of each is a `LiveUpdate` as JSON; the first has all parts. A \
                           reader that takes longer than `client_timeout` for an event is disconnected."
        ),
        (status = 400, description = "A parameter is invalid.", body = ErrorBody),
        (status = 429, description = "Too many different filters are in use; retry later.", body = ErrorBody)
    )
)]
async fn live(
    State(state): AppRef,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let limit = limit(query.limit, View::DEFAULT_LIMIT, 1..=View::MAX_LIMIT)?;
    let length = query.filter.chars().count();
    if length > MAX_FILTER {
        return Err(ApiError::bad_request(format!(
            "`filter`: found {length} characters, expected at most {MAX_FILTER}"
        )));
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let subscription = state.views.subscribe(View::new(&query.filter, limit), last).map_err(|_| {
        let message = "too many different filters are in use; retry later, or without `filter` and `limit`";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).after(Duration::from_secs(5))
    })?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    let events = events(subscription, state.config.server_limits.client_timeout);
    let mut stop = state.stop.clone();
    let events = events.take_until(async move {
        // A closed channel means that the service has stopped as well.
        let _ = stop.wait_for(|stopping| *stopping).await;
    });
    Ok((headers, Body::from_stream(events)))
}

/// Returns the events of a view. It ends with an error if the reader takes too long for one.
fn events(subscription: Subscription, client_timeout: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    let unsent = None::<Instant>;
    stream::unfold((subscription, unsent), move |(mut subscription, sent)| async move {
        // Called again only once the reader has taken the event.
        if sent.is_some_and(|sent| sent.elapsed() > client_timeout) {
            return Some((Err(io::ErrorKind::TimedOut.into()), (subscription, None)));
        }
        let event = tokio::time::timeout(KEEP_ALIVE, subscription.next()).await;
        let event = event.unwrap_or(Bytes::from_static(b":\n\n"));
        Some((Ok(event), (subscription, Some(Instant::now()))))
    })
}

/// Updates the views that are read, every second.
pub(crate) async fn publish(state: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let of_new_views = tokio::select! {
            _ = ticks.tick() => false,
            () = state.views.added.notified() => true,
            _ = stop.wait_for(|stopping| *stopping) => return,
        };
        let mut views = state.views.read();
        views.retain(|(_, channel)| !of_new_views || channel.is_new());
        if views.is_empty() {
            continue;
        }
        let state = state.clone();
        let updating = tokio::task::spawn_blocking(move || update(&state, &views, state.shared.now()));
        if let Err(error) = updating.await {
            tracing::error!(%error, "The page could not be updated; please report this bug");
        }
    }
}

/// Updates views: what all of them show is computed once.
fn update(state: &AppState, views: &[(View, Arc<Channel>)], now: Timestamp) {
    let common = common_parts(state, now);
    let mut pages = vec![common; views.len()];
    let mut shown: Vec<_> = views.iter().map(|(view, _)| view).zip(&mut pages).collect();
    MODULES.iter().filter_map(|module| module.view).for_each(|add| add(state, now, &mut shown));
    views.iter().zip(pages).for_each(|((_, channel), page)| channel.update(page));
}

/// Returns what every page shows at `now`: the parts of every module, and the health of the service.
fn common_parts(state: &AppState, now: Timestamp) -> PageParts {
    let mut parts = PageParts::default();
    MODULES.iter().for_each(|module| (module.page)(state, now, &mut parts));
    let shared = &state.shared;
    let failure = lock(&shared.journal.failure).clone();
    let error = lock(&shared.config_error).clone();
    parts.insert("health", json!({"journal": failure, "files": error, "started": shared.started}));
    parts
}
