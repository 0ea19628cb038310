#![expect(deprecated, reason = "clients of older versions make such requests")]

use std::borrow::Cow;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam, CompleteRequestParams,
    CompleteResult, CustomNotification, CustomRequest, CustomResult, DiscoverResult, GetPromptRequestParams,
    GetPromptResponse, GetSkillRequestParams, GetSkillResult, GetTaskParams, GetTaskResult, InitializeRequestParams,
    InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListSkillsResult,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion,
    ReadResourceDirectoryRequestParams, ReadResourceDirectoryResult, ReadResourceRequestParams, ReadResourceResponse,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::json;

use crate::context::TRACEPARENT;
use crate::mcp::{McpRequest, McpTransport};
use crate::meta::meta_headers;
use crate::protocol_span::ProtocolSpan;
use crate::tracer::ProtocolTracer;

/// A server of the [`rmcp`] crate whose requests are traced, over any transport and in every version of the protocol.
///
/// Every request is a server span, below the caller's span in its `_meta`, or else in the headers of the HTTP request. The tracer below
/// that span is in the extensions of the request, for the calls that are made for it.
///
/// ```
/// use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult};
/// use rmcp::service::RequestContext;
/// use rmcp::{ErrorData, RoleServer, ServerHandler};
/// use sre_trace::{ProtocolTracer, TracedMcpHandler};
///
/// struct Weather;
///
/// impl ServerHandler for Weather {
///     async fn call_tool(
///         &self,
///         _request: CallToolRequestParams,
///         context: RequestContext<RoleServer>,
///     ) -> Result<CallToolResponse, ErrorData> {
///         if let Some(tracer) = context.extensions.get::<ProtocolTracer>() {
///             tracer.http_call("https://api.example.com", "GET", "/forecast").end();
///         }
///         Ok(CallToolResult::success(vec![]).into())
///     }
/// }
///
/// let server = TracedMcpHandler::new(Weather, &ProtocolTracer::new("weather"));
/// // `server.serve(stdio())`, or `StreamableHttpService::new(move || Ok(server.clone()), …)`
/// ```
#[derive(Clone, Debug)]
pub struct TracedMcpHandler<H> {
    handler: H,
    tracer: ProtocolTracer,
}

impl<H> TracedMcpHandler<H> {
    /// Wraps a handler. The tracer is that of the server.
    pub fn new(handler: H, tracer: &ProtocolTracer) -> Self {
        Self { handler, tracer: tracer.clone() }
    }

    fn start(&self, method: &str, params: &impl Serialize, context: &RequestContext<RoleServer>) -> ProtocolSpan {
        let body = json!({"method": method, "params": params});
        let meta = &context.meta.0.0;
        let http = context.extensions.get::<http::request::Parts>();
        let (caller, version) = (context.client_info(), context.protocol_version());
        let request = McpRequest {
            request_id: Some(context.id.to_string().into()),
            session_id: http.and_then(|http| http.headers.get("mcp-session-id")?.to_str().ok()),
            protocol_version: version.as_ref().map(ProtocolVersion::as_str),
            transport: Some(if http.is_some() { McpTransport::Http } else { McpTransport::Stdio }),
            ..McpRequest::from_json_rpc(&body)
        };
        let caller = caller.map(|client| client.name).unwrap_or_default();
        let Some(http) = http.filter(|_| !meta.contains_key(TRACEPARENT)) else {
            return self.tracer.receive_mcp(&caller, meta_headers(meta), request);
        };
        // A layer around the server may have made a span of the HTTP request.
        match http.extensions.get::<ProtocolTracer>() {
            Some(layer) => self.tracer.receive_mcp(&caller, layer.context().to_headers(), request),
            None => self.tracer.receive_mcp(&caller, &http.headers, request),
        }
    }
}

/// Ends the span of a request, whose response is not sent if the client has cancelled it.
fn end<T>(mut span: ProtocolSpan, is_cancelled: bool, result: Result<T, ErrorData>) -> Result<T, ErrorData> {
    if let Err(error) = &result {
        span.set_response(&json!({"error": error}), None);
    }
    if result.is_err() || !is_cancelled {
        span.end();
    }
    result
}

/// Traces requests and passes them on to the handler.
macro_rules! traced {
    ($($name:literal: $method:ident($($params:ident: $Params:ty)?) -> $Result:ty;)*) => {$(
        async fn $method(
            &self,
            $($params: $Params,)?
            mut context: RequestContext<RoleServer>,
        ) -> Result<$Result, ErrorData> {
            let span = self.start($name, &($(&$params)?), &context);
            context.extensions.insert(span.tracer());
            let cancellation = context.ct.clone();
            let result = self.handler.$method($($params,)? context).await;
            end(span, cancellation.is_cancelled(), result)
        }
    )*};
}

impl<H: ServerHandler> ServerHandler for TracedMcpHandler<H> {
    traced! {
        "ping": ping() -> ();
        "initialize": initialize(params: InitializeRequestParams) -> InitializeResult;
        "server/discover": discover() -> DiscoverResult;
        "completion/complete": complete(params: CompleteRequestParams) -> CompleteResult;
        "logging/setLevel": set_level(params: SetLevelRequestParams) -> ();
        "prompts/get": get_prompt(params: GetPromptRequestParams) -> GetPromptResponse;
        "prompts/list": list_prompts(params: Option<PaginatedRequestParams>) -> ListPromptsResult;
        "resources/list": list_resources(params: Option<PaginatedRequestParams>) -> ListResourcesResult;
        "resources/templates/list":
            list_resource_templates(params: Option<PaginatedRequestParams>) -> ListResourceTemplatesResult;
        "resources/read": read_resource(params: ReadResourceRequestParams) -> ReadResourceResponse;
        "resources/subscribe": subscribe(params: SubscribeRequestParams) -> ();
        "resources/unsubscribe": unsubscribe(params: UnsubscribeRequestParams) -> ();
        "tools/list": list_tools(params: Option<PaginatedRequestParams>) -> ListToolsResult;
        "tasks/get": get_task(params: GetTaskParams) -> GetTaskResult;
        "tasks/update": update_task(params: UpdateTaskParams) -> ();
        "tasks/cancel": cancel_task(params: CancelTaskParams) -> ();
        "skills/list": list_skills(params: Option<PaginatedRequestParams>) -> ListSkillsResult;
        "skills/get": get_skill(params: GetSkillRequestParams) -> GetSkillResult;
        "resources/directory/read":
            read_resource_directory(params: ReadResourceDirectoryRequestParams) -> ReadResourceDirectoryResult;
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        mut context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut span = self.start("tools/call", &params, &context);
        context.extensions.insert(span.tracer());
        let cancellation = context.ct.clone();
        let result = self.handler.call_tool(params, context).await;
        if let Ok(CallToolResponse::Complete(result)) = &result
            && result.is_error == Some(true)
        {
            span.set_response(&json!({"isError": true}), None);
        }
        end(span, cancellation.is_cancelled(), result)
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        mut context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let span = self.start(&request.method, &request.params, &context);
        context.extensions.insert(span.tracer());
        let cancellation = context.ct.clone();
        let result = self.handler.on_custom_request(request, context).await;
        end(span, cancellation.is_cancelled(), result)
    }

    /// A subscription lasts until the client cancels it.
    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let span = self.start("subscriptions/listen", &(), context.request_context());
        let result = self.handler.listen(context).await;
        end(span, false, result)
    }

    fn negotiate_initialize(&self, request: &InitializeRequestParams) -> Result<InitializeResult, ErrorData> {
        self.handler.negotiate_initialize(request)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.handler.supported_protocol_versions()
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        self.handler.accepted_subscription_filter(requested)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.handler.get_tool(name)
    }

    fn get_info(&self) -> ServerConfig {
        self.handler.get_info()
    }

    async fn on_cancelled(&self, notification: CancelledNotificationParam, context: NotificationContext<RoleServer>) {
        self.handler.on_cancelled(notification, context).await;
    }

    async fn on_progress(&self, notification: ProgressNotificationParam, context: NotificationContext<RoleServer>) {
        self.handler.on_progress(notification, context).await;
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.handler.on_initialized(context).await;
    }

    async fn on_roots_list_changed(&self, context: NotificationContext<RoleServer>) {
        self.handler.on_roots_list_changed(context).await;
    }

    async fn on_custom_notification(&self, notification: CustomNotification, context: NotificationContext<RoleServer>) {
        self.handler.on_custom_notification(notification, context).await;
    }
}
