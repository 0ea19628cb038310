//! The requests of the official A2A types.

use std::collections::HashMap;

use a2a_types::{
    AgentCard, CancelTaskRequest, DeleteTaskPushNotificationConfigRequest, GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest, GetTaskRequest, ListTaskPushNotificationConfigsRequest, ListTasksRequest,
    SendMessageRequest, SubscribeToTaskRequest, TaskPushNotificationConfig, methods,
};
use serde_json::Value;

use crate::a2a::A2aRequest;
use crate::context::{NAMES, TraceContext};

/// The parameters of a call: headers of HTTP, or metadata of gRPC.
pub(crate) type ServiceParams = HashMap<String, Vec<String>>;

/// Returns each value of the parameters with its name.
pub(crate) fn headers(params: &ServiceParams) -> impl Iterator<Item = (&str, &str)> {
    params.iter().flat_map(|(name, values)| values.iter().map(move |value| (&**name, &**value)))
}

/// Returns the version of the protocol.
pub(crate) fn version(params: &ServiceParams) -> Option<&str> {
    headers(params).find(|(name, _)| name.eq_ignore_ascii_case(a2a_types::SVC_PARAM_VERSION)).map(|(_, value)| value)
}

/// Replaces the trace context in the parameters.
pub(crate) fn replace_context(params: &mut ServiceParams, context: &TraceContext) {
    params.retain(|name, _| !NAMES.iter().any(|header| name.eq_ignore_ascii_case(header)));
    params.extend(context.to_headers().into_iter().map(|(name, value)| (name.to_owned(), vec![value])));
}

/// Replaces the trace context in the metadata of a message or an event.
pub(crate) fn write_metadata(metadata: &mut HashMap<String, Value>, context: &TraceContext) {
    NAMES.iter().for_each(|name| _ = metadata.remove(*name));
    metadata.extend(context.to_headers().into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))));
}

/// What spans have of the card of the agent that is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentDescription {
    text: Option<String>,
    version: Option<String>,
}

impl AgentDescription {
    pub(crate) fn of(card: &AgentCard) -> Self {
        Self { text: Some(card.description.clone()), version: Some(card.version.clone()) }
    }

    pub(crate) fn describe<'a>(&'a self, request: A2aRequest<'a>) -> A2aRequest<'a> {
        A2aRequest { agent_description: self.text.as_deref(), agent_version: self.version.as_deref(), ..request }
    }
}

impl<'a> From<&'a SendMessageRequest> for A2aRequest<'a> {
    fn from(request: &'a SendMessageRequest) -> Self {
        let message = &request.message;
        Self {
            message_id: Some(&message.message_id).filter(|id| !id.is_empty()).map(String::as_str),
            context_id: message.context_id.as_deref(),
            reference_task_ids: message.reference_task_ids.iter().flatten().map(String::as_str).collect(),
            ..of_task(methods::SEND_MESSAGE, message.task_id.as_deref(), request.tenant.as_deref())
        }
    }
}

impl<'a> From<&'a ListTasksRequest> for A2aRequest<'a> {
    fn from(request: &'a ListTasksRequest) -> Self {
        let context_id = request.context_id.as_deref();
        Self { context_id, ..of_task(methods::LIST_TASKS, None, request.tenant.as_deref()) }
    }
}

impl<'a> From<&'a GetExtendedAgentCardRequest> for A2aRequest<'a> {
    fn from(request: &'a GetExtendedAgentCardRequest) -> Self {
        of_task(methods::GET_EXTENDED_AGENT_CARD, None, request.tenant.as_deref())
    }
}

/// Describes requests that are about one task.
macro_rules! of_one_task {
    ($($Request:ty: $method:ident of $task_id:ident;)*) => {$(
        impl<'a> From<&'a $Request> for A2aRequest<'a> {
            fn from(request: &'a $Request) -> Self {
                of_task(methods::$method, Some(&request.$task_id), request.tenant.as_deref())
            }
        }
    )*};
}

of_one_task! {
    GetTaskRequest: GET_TASK of id;
    CancelTaskRequest: CANCEL_TASK of id;
    SubscribeToTaskRequest: SUBSCRIBE_TO_TASK of id;
    TaskPushNotificationConfig: CREATE_PUSH_CONFIG of task_id;
    GetTaskPushNotificationConfigRequest: GET_PUSH_CONFIG of task_id;
    ListTaskPushNotificationConfigsRequest: LIST_PUSH_CONFIGS of task_id;
    DeleteTaskPushNotificationConfigRequest: DELETE_PUSH_CONFIG of task_id;
}

fn of_task<'a>(method: &'a str, task_id: Option<&'a str>, tenant: Option<&'a str>) -> A2aRequest<'a> {
    let (task_id, tenant) = (task_id.filter(|id| !id.is_empty()), tenant.filter(|tenant| !tenant.is_empty()));
    A2aRequest { method, task_id, tenant, ..A2aRequest::default() }
}
