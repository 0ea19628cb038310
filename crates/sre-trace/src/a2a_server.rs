use std::collections::HashMap;
use std::fmt;

use a2a_server::RequestHandler;
use a2a_types::{
    A2AError, AgentCard, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest, GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest, GetTaskRequest, ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse, ListTasksRequest, ListTasksResponse, SendMessageRequest,
    SendMessageResponse, SubscribeToTaskRequest, Task, TaskPushNotificationConfig, methods,
};
use async_trait::async_trait;
use serde_json::Value;

use crate::a2a::A2aRequest;
use crate::a2a_requests::{AgentDescription, ServiceParams, headers, replace_context, version};
use crate::a2a_responses::{Events, finish, finish_stream};
use crate::context::TraceContext;
use crate::protocol_span::ProtocolSpan;
use crate::tracer::ProtocolTracer;

/// A request handler of the A2A crate `a2a-server-lf` that makes a span of every request, over any binding: JSON-RPC, HTTP+JSON or gRPC.
///
/// The caller's trace context is in the headers (or the metadata of gRPC), or else in the metadata of the request or its message. Of a
/// request that streams, each state of the task is an event of the span, which ends with the stream. An executor finds its place in the
/// trace with [`ProtocolTracer::for_a2a_request`].
///
/// ```
/// use std::sync::Arc;
///
/// use a2a_server::{AgentExecutor, DefaultRequestHandler, InMemoryTaskStore};
/// use sre_trace::{ProtocolTracer, TracedA2aHandler};
///
/// fn router(executor: impl AgentExecutor, tracer: &ProtocolTracer) -> axum::Router {
///     let handler = DefaultRequestHandler::new(executor, InMemoryTaskStore::new());
///     a2a_server::jsonrpc::jsonrpc_router(Arc::new(TracedA2aHandler::new(handler, tracer)))
/// }
/// ```
pub struct TracedA2aHandler<H> {
    handler: H,
    tracer: ProtocolTracer,
    description: AgentDescription,
}

impl<H> TracedA2aHandler<H> {
    /// Creates a handler.
    pub fn new(handler: H, tracer: &ProtocolTracer) -> Self {
        Self { handler, tracer: tracer.clone(), description: AgentDescription::default() }
    }

    /// Sets the card of the agent, for the attributes of its version and description.
    #[must_use]
    pub fn with_card(self, card: &AgentCard) -> Self {
        Self { description: AgentDescription::of(card), ..self }
    }

    /// Starts the span of a request. Returns it with the parameters of the request, whose trace context is that of the span.
    fn start(
        &self,
        params: &ServiceParams,
        request: &impl Metadata,
        description: A2aRequest<'_>,
    ) -> (ProtocolSpan, ServiceParams) {
        let description = self.description.describe(description.with_version(version(params)));
        let has_context = |metadata: &&HashMap<String, Value>| TraceContext::from_headers(entries(metadata)).is_ok();
        let metadata = match TraceContext::from_headers(headers(params)) {
            Ok(_) => None,
            Err(_) => request.metadata().into_iter().flatten().find(has_context),
        };
        let span = match metadata {
            Some(metadata) => self.tracer.receive_a2a("", entries(metadata), description),
            None => self.tracer.receive_a2a("", headers(params), description),
        };
        // The executor asks for its place by the context of the span.
        span.register();
        let mut params = params.clone();
        replace_context(&mut params, span.context());
        (span, params)
    }
}

fn entries(metadata: &HashMap<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    metadata.iter().filter_map(|(name, value)| Some((&**name, value.as_str()?)))
}

impl ProtocolTracer {
    /// Returns the tracer whose calls begin below a request that a [`TracedA2aHandler`] of this tracer handles. `params` are those that an
    /// executor gets (`ExecutorContext::service_params`).
    pub fn for_a2a_request(&self, params: &HashMap<String, Vec<String>>) -> Self {
        match TraceContext::from_headers(headers(params)) {
            Ok(context) => self.below(context),
            Err(_) => self.clone(),
        }
    }
}

impl<H> fmt::Debug for TracedA2aHandler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedA2aHandler").field("tracer", &self.tracer).finish_non_exhaustive()
    }
}

#[async_trait]
impl<H: RequestHandler> RequestHandler for TracedA2aHandler<H> {
    async fn send_message(
        &self,
        params: &ServiceParams,
        request: SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.send_message(&params, request).await)
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        request: SendMessageRequest,
    ) -> Result<Events, A2AError> {
        let description = A2aRequest { method: methods::SEND_STREAMING_MESSAGE, ..(&request).into() };
        let (span, params) = self.start(params, &request, description);
        finish_stream(span, self.handler.send_streaming_message(&params, request).await)
    }

    async fn get_task(&self, params: &ServiceParams, request: GetTaskRequest) -> Result<Task, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.get_task(&params, request).await)
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        request: ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.list_tasks(&params, request).await)
    }

    async fn cancel_task(&self, params: &ServiceParams, request: CancelTaskRequest) -> Result<Task, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.cancel_task(&params, request).await)
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        request: SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish_stream(span, self.handler.subscribe_to_task(&params, request).await)
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        request: TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.create_push_config(&params, request).await)
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        request: GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.get_push_config(&params, request).await)
    }

    async fn list_push_configs(
        &self,
        params: &ServiceParams,
        request: ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.list_push_configs(&params, request).await)
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        request: DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.delete_push_config(&params, request).await)
    }

    async fn get_extended_agent_card(
        &self,
        params: &ServiceParams,
        request: GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        let (span, params) = self.start(params, &request, (&request).into());
        finish(span, self.handler.get_extended_agent_card(&params, request).await)
    }
}

/// The metadata of a request, and of its message.
trait Metadata {
    /// Returns the metadata in the order in which a trace context is looked for.
    fn metadata(&self) -> [Option<&HashMap<String, Value>>; 2] {
        [None, None]
    }
}

impl Metadata for SendMessageRequest {
    fn metadata(&self) -> [Option<&HashMap<String, Value>>; 2] {
        [self.metadata.as_ref(), self.message.metadata.as_ref()]
    }
}

impl Metadata for CancelTaskRequest {
    fn metadata(&self) -> [Option<&HashMap<String, Value>>; 2] {
        [self.metadata.as_ref(), None]
    }
}

impl Metadata for GetTaskRequest {}
impl Metadata for ListTasksRequest {}
impl Metadata for SubscribeToTaskRequest {}
impl Metadata for TaskPushNotificationConfig {}
impl Metadata for GetTaskPushNotificationConfigRequest {}
impl Metadata for ListTaskPushNotificationConfigsRequest {}
impl Metadata for DeleteTaskPushNotificationConfigRequest {}
impl Metadata for GetExtendedAgentCardRequest {}
