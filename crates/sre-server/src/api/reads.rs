use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::AppRef;
use crate::app::AppState;

/// Bounds how many answers about engines are computed at a time: with many objectives, each takes a while.
#[derive(Debug)]
pub(crate) struct Reads(Semaphore);

/// More would only make each of them slower, and telemetry with them.
const MAX_READS: usize = 2;

impl Default for Reads {
    fn default() -> Self {
        Self(Semaphore::new(MAX_READS))
    }
}

/// Computes an answer on a thread where it holds up no other request.
pub(super) async fn compute<T: Send + 'static>(state: &AppState, work: impl FnOnce() -> T + Send + 'static) -> T {
    // The semaphore is never closed.
    let _permit = state.reads.0.acquire().await.ok();
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Answers requests without a body by [`compute`].
pub(super) async fn answer(State(state): AppRef, request: Request, next: Next) -> Response {
    let runtime = Handle::current();
    let state: &Arc<AppState> = &state;
    compute(state, move || runtime.block_on(next.run(request))).await
}
