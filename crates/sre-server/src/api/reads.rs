use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::runtime::Handle;

use super::AppRef;
use crate::app::AppState;

/// Computes an answer on a thread where it holds up no other request.
pub(super) async fn compute<T: Send + 'static>(state: &AppState, work: impl FnOnce() -> T + Send + 'static) -> T {
    // The semaphore is never closed.
    let _permit = state.reads.acquire().await.ok();
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Answers requests without a body by [`compute`].
pub(super) async fn answer(State(state): AppRef, request: Request, next: Next) -> Response {
    let runtime = Handle::current();
    let state: &Arc<AppState> = &state;
    compute(state, move || runtime.block_on(next.run(request))).await
}
