use std::collections::HashMap;
use std::fmt;

use a2a_server::{AgentExecutor, ExecutorContext};
use a2a_types::{A2AError, StreamResponse};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::a2a_requests::{ServiceParams, headers, write_metadata};
use crate::a2a_responses::Events;
use crate::context::TraceContext;

/// An executor of the A2A crate `a2a-server-lf` whose push notifications continue the trace of the request, for servers in a
/// [`TracedA2aHandler`](crate::TracedA2aHandler).
///
/// The crate sends no headers of its own with a notification. The trace context is in the metadata of every event of the executor instead, where
/// [`receive_push_notification`](crate::ProtocolTracer::receive_push_notification) finds it. The readers of a stream get the same events.
///
/// ```
/// use a2a_server::{AgentExecutor, DefaultRequestHandler, InMemoryPushConfigStore, InMemoryTaskStore};
/// use sre_trace::{ProtocolTracer, TracedA2aExecutor, TracedA2aHandler};
///
/// fn handler(executor: impl AgentExecutor, tracer: &ProtocolTracer) -> TracedA2aHandler<DefaultRequestHandler> {
///     let handler = DefaultRequestHandler::new(TracedA2aExecutor::new(executor), InMemoryTaskStore::new());
///     TracedA2aHandler::new(handler.with_push_config_store(InMemoryPushConfigStore::new()), tracer)
/// }
/// ```
#[derive(Clone)]
pub struct TracedA2aExecutor<E>(E);

impl<E> TracedA2aExecutor<E> {
    /// Wraps an executor.
    pub fn new(executor: E) -> Self {
        Self(executor)
    }
}

impl<E> fmt::Debug for TracedA2aExecutor<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedA2aExecutor").finish_non_exhaustive()
    }
}

impl<E: AgentExecutor> AgentExecutor for TracedA2aExecutor<E> {
    fn execute(&self, context: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let caller = caller(&context.service_params);
        with_context(self.0.execute(context), caller)
    }

    fn cancel(&self, context: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let caller = caller(&context.service_params);
        with_context(self.0.cancel(context), caller)
    }
}

/// Returns the context of the span of the request, which the handler has put into its parameters.
fn caller(params: &ServiceParams) -> Option<TraceContext> {
    TraceContext::from_headers(headers(params)).ok()
}

fn with_context(events: Events, context: Option<TraceContext>) -> Events {
    let Some(context) = context else { return events };
    let write = move |mut event| {
        if let Ok(event) = &mut event {
            write_metadata(metadata(event), &context);
        }
        event
    };
    events.map(write).boxed()
}

fn metadata(event: &mut StreamResponse) -> &mut HashMap<String, Value> {
    let metadata = match event {
        StreamResponse::Task(task) => &mut task.metadata,
        StreamResponse::Message(message) => &mut message.metadata,
        StreamResponse::StatusUpdate(update) => &mut update.metadata,
        StreamResponse::ArtifactUpdate(update) => &mut update.metadata,
    };
    metadata.get_or_insert_default()
}
