use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::AppRef;

/// The route of requests that match none.
const UNMATCHED: &str = "unmatched";

/// Counts a request and its duration.
pub(super) async fn measure(State(state): AppRef, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (route, method) = (request.extensions().get::<MatchedPath>().cloned(), request.method().clone());
    let response = next.run(request).await;
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    state.requests.record(route, &method, response.status(), begun.elapsed());
    response
}
