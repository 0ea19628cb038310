use std::fmt;
use std::sync::Arc;

use a2a_client::{Transport, TransportFactory};
use a2a_types::{
    A2AError, AgentCard, AgentInterface, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest, GetTaskPushNotificationConfigRequest, GetTaskRequest,
    ListTaskPushNotificationConfigsRequest, ListTaskPushNotificationConfigsResponse, ListTasksRequest,
    ListTasksResponse, SendMessageRequest, SendMessageResponse, SubscribeToTaskRequest, Task,
    TaskPushNotificationConfig, methods,
};
use async_trait::async_trait;

use crate::a2a::A2aRequest;
use crate::a2a_requests::{AgentDescription, ServiceParams, replace_context, version, write_metadata};
use crate::a2a_responses::{Events, finish, finish_stream};
use crate::protocol_span::ProtocolSpan;
use crate::tracer::ProtocolTracer;

/// A transport of the A2A crate `a2a-client-lf` that makes a span of every call, over any binding: JSON-RPC, HTTP+JSON or gRPC.
///
/// The trace context travels in the headers, or in the metadata of gRPC. Of a call that streams, each state of the task is an event of the
/// span, which ends with the stream.
///
/// ```
/// use a2a_client::A2AClient;
/// use a2a_client::jsonrpc::JsonRpcTransport;
/// use sre_trace::{ProtocolTracer, TracedA2aTransport};
///
/// fn client(http: reqwest::Client, tracer: &ProtocolTracer) -> A2AClient<TracedA2aTransport<JsonRpcTransport>> {
///     let url = "https://writer.example/a2a";
///     let transport = JsonRpcTransport::new(http, url.to_owned());
///     A2AClient::new(TracedA2aTransport::new(transport, tracer, "writer").with_url(url))
/// }
/// ```
pub struct TracedA2aTransport<T> {
    transport: Arc<T>,
    tracer: ProtocolTracer,
    agent: String,
    url: Option<String>,
    description: AgentDescription,
    writes_metadata: bool,
}

impl<T> TracedA2aTransport<T> {
    /// Creates a transport whose calls of an agent begin where `tracer` is.
    pub fn new(transport: T, tracer: &ProtocolTracer, target_agent: impl Into<String>) -> Self {
        let (transport, tracer, agent) = (Arc::new(transport), tracer.clone(), target_agent.into());
        let description = AgentDescription::default();
        Self { transport, tracer, agent, url: None, description, writes_metadata: false }
    }

    /// Sets the URL of the agent, for the attributes of the server's address.
    #[must_use]
    pub fn with_url(self, url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..self }
    }

    /// Sets the card of the agent, for the attributes of its version and description.
    #[must_use]
    pub fn with_card(self, card: &AgentCard) -> Self {
        Self { description: AgentDescription::of(card), ..self }
    }

    /// Writes the trace context into the metadata of messages too, for agents that get them by a way that drops headers, such as a queue.
    #[must_use]
    pub fn with_context_in_metadata(self) -> Self {
        Self { writes_metadata: true, ..self }
    }

    /// Returns the transport with calls that begin where `tracer` is, such as below a request that is being handled.
    #[must_use]
    pub fn below(&self, tracer: &ProtocolTracer) -> Self {
        Self { tracer: tracer.clone(), ..self.clone() }
    }

    /// Starts the span of a call. Returns it with the parameters of the request.
    fn start(&self, params: &ServiceParams, request: A2aRequest<'_>) -> (ProtocolSpan, ServiceParams) {
        let request = A2aRequest { target_url: self.url.as_deref(), protocol_version: version(params), ..request };
        let span = self.tracer.a2a_call(&self.agent, self.description.describe(request));
        let mut params = params.clone();
        replace_context(&mut params, span.context());
        (span, params)
    }

    /// Returns the message with the trace context in its metadata, if that is wanted.
    fn with_metadata(&self, request: &SendMessageRequest, span: &ProtocolSpan) -> Option<SendMessageRequest> {
        self.writes_metadata.then(|| {
            let mut request = request.clone();
            write_metadata(request.metadata.get_or_insert_default(), span.context());
            request
        })
    }
}

impl<T> Clone for TracedA2aTransport<T> {
    fn clone(&self) -> Self {
        Self {
            transport: self.transport.clone(),
            tracer: self.tracer.clone(),
            agent: self.agent.clone(),
            url: self.url.clone(),
            description: self.description.clone(),
            writes_metadata: self.writes_metadata,
        }
    }
}

impl<T> fmt::Debug for TracedA2aTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedA2aTransport")
            .field("tracer", &self.tracer)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Transport> Transport for TracedA2aTransport<T> {
    async fn send_message(
        &self,
        params: &ServiceParams,
        request: &SendMessageRequest,
    ) -> Result<SendMessageResponse, A2AError> {
        let (span, params) = self.start(params, request.into());
        let with_metadata = self.with_metadata(request, &span);
        finish(span, self.transport.send_message(&params, with_metadata.as_ref().unwrap_or(request)).await)
    }

    async fn send_streaming_message(
        &self,
        params: &ServiceParams,
        request: &SendMessageRequest,
    ) -> Result<Events, A2AError> {
        let description = A2aRequest { method: methods::SEND_STREAMING_MESSAGE, ..request.into() };
        let (span, params) = self.start(params, description);
        let with_metadata = self.with_metadata(request, &span);
        let request = with_metadata.as_ref().unwrap_or(request);
        finish_stream(span, self.transport.send_streaming_message(&params, request).await)
    }

    async fn get_task(&self, params: &ServiceParams, request: &GetTaskRequest) -> Result<Task, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.get_task(&params, request).await)
    }

    async fn list_tasks(
        &self,
        params: &ServiceParams,
        request: &ListTasksRequest,
    ) -> Result<ListTasksResponse, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.list_tasks(&params, request).await)
    }

    async fn cancel_task(&self, params: &ServiceParams, request: &CancelTaskRequest) -> Result<Task, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.cancel_task(&params, request).await)
    }

    async fn subscribe_to_task(
        &self,
        params: &ServiceParams,
        request: &SubscribeToTaskRequest,
    ) -> Result<Events, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish_stream(span, self.transport.subscribe_to_task(&params, request).await)
    }

    async fn create_push_config(
        &self,
        params: &ServiceParams,
        request: &TaskPushNotificationConfig,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.create_push_config(&params, request).await)
    }

    async fn get_push_config(
        &self,
        params: &ServiceParams,
        request: &GetTaskPushNotificationConfigRequest,
    ) -> Result<TaskPushNotificationConfig, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.get_push_config(&params, request).await)
    }

    async fn list_push_configs(
        &self,
        params: &ServiceParams,
        request: &ListTaskPushNotificationConfigsRequest,
    ) -> Result<ListTaskPushNotificationConfigsResponse, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.list_push_configs(&params, request).await)
    }

    async fn delete_push_config(
        &self,
        params: &ServiceParams,
        request: &DeleteTaskPushNotificationConfigRequest,
    ) -> Result<(), A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.delete_push_config(&params, request).await)
    }

    async fn get_extended_agent_card(
        &self,
        params: &ServiceParams,
        request: &GetExtendedAgentCardRequest,
    ) -> Result<AgentCard, A2AError> {
        let (span, params) = self.start(params, request.into());
        finish(span, self.transport.get_extended_agent_card(&params, request).await)
    }

    async fn destroy(&self) -> Result<(), A2AError> {
        self.transport.destroy().await
    }
}

/// Creates transports that make a span of every call, for an `A2AClientFactory` of the crate `a2a-client-lf`. Spans have the name of the
/// agent, its URL, version and description from its card.
///
/// ```
/// use std::sync::Arc;
///
/// use a2a_client::A2AClientFactory;
/// use a2a_client::jsonrpc::JsonRpcTransportFactory;
/// use sre_trace::{ProtocolTracer, TracedA2aTransportFactory};
///
/// fn clients(http: reqwest::Client, tracer: &ProtocolTracer) -> A2AClientFactory {
///     let factory = TracedA2aTransportFactory::new(JsonRpcTransportFactory::new(Some(http)), tracer);
///     A2AClientFactory::builder().no_defaults().register(Arc::new(factory)).build()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TracedA2aTransportFactory<F> {
    factory: F,
    tracer: ProtocolTracer,
}

impl<F> TracedA2aTransportFactory<F> {
    /// Creates a factory. The calls begin where `tracer` is.
    pub fn new(factory: F, tracer: &ProtocolTracer) -> Self {
        Self { factory, tracer: tracer.clone() }
    }
}

#[async_trait]
impl<F: TransportFactory> TransportFactory for TracedA2aTransportFactory<F> {
    fn protocol(&self) -> &str {
        self.factory.protocol()
    }

    async fn create(&self, card: &AgentCard, interface: &AgentInterface) -> Result<Box<dyn Transport>, A2AError> {
        let transport = self.factory.create(card, interface).await?;
        let transport = TracedA2aTransport::new(transport, &self.tracer, &*card.name);
        Ok(Box::new(transport.with_url(&*interface.url).with_card(card)))
    }
}
