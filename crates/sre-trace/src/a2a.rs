use serde_json::Value;

use crate::record::{AGENT_NAME, CONVERSATION_ID, ProtocolType, SpanRecord};

/// A request of the Agent2Agent protocol, as far as a span has it.
///
/// Later versions may have more fields: end with `..Default::default()`.
///
/// ```
/// use serde_json::json;
/// use sre_trace::A2aRequest;
/// let body = json!({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {"messageId": "m-1"}}});
/// let request = A2aRequest::from_json_rpc(&body);
/// assert_eq!((request.method, request.message_id), ("SendMessage", Some("m-1")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct A2aRequest<'a> {
    /// The operation, such as `GetTask`: `SendMessage` by default.
    pub method: &'a str,
    /// The name of what is asked for, such as `summarize`. It is shown, so it must not be a secret.
    pub task: Option<&'a str>,
    /// The URL of the agent.
    pub target_url: Option<&'a str>,
    /// The id of the message.
    pub message_id: Option<&'a str>,
    /// The id of the task, if it is known before the response.
    pub task_id: Option<&'a str>,
    /// The id of the context, which is the conversation.
    pub context_id: Option<&'a str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// The version of the protocol, such as `1.0`.
    pub protocol_version: Option<&'a str>,
}

pub(crate) const METHOD_NAME: &str = "a2a.method.name";
pub(crate) const MESSAGE_ID: &str = "a2a.message.id";
pub(crate) const TASK_ID: &str = "a2a.task.id";
pub(crate) const TASK_STATE: &str = "a2a.task.state";

const SEND_MESSAGE: &str = "SendMessage";
const SEND_STREAMING_MESSAGE: &str = "SendStreamingMessage";

/// The operations by their names in version 0.3.
const OLD_METHODS: [(&str, &str); 10] = [
    ("message/send", SEND_MESSAGE),
    ("message/stream", SEND_STREAMING_MESSAGE),
    ("tasks/get", "GetTask"),
    ("tasks/cancel", "CancelTask"),
    ("tasks/resubscribe", "SubscribeToTask"),
    ("tasks/pushNotificationConfig/set", "CreateTaskPushNotificationConfig"),
    ("tasks/pushNotificationConfig/get", "GetTaskPushNotificationConfig"),
    ("tasks/pushNotificationConfig/list", "ListTaskPushNotificationConfigs"),
    ("tasks/pushNotificationConfig/delete", "DeleteTaskPushNotificationConfig"),
    ("agent/getAuthenticatedExtendedCard", "GetExtendedAgentCard"),
];

impl Default for A2aRequest<'_> {
    fn default() -> Self {
        Self {
            method: SEND_MESSAGE,
            task: None,
            target_url: None,
            message_id: None,
            task_id: None,
            context_id: None,
            tenant: None,
            protocol_version: None,
        }
    }
}

impl<'a> A2aRequest<'a> {
    /// Creates a message that asks for something, such as `summarize`.
    pub fn task(task: &'a str) -> Self {
        Self { task: Some(task), ..Self::default() }
    }

    /// Reads a JSON-RPC request of version 1.0 or 0.3. What is missing stays so.
    pub fn from_json_rpc(body: &'a Value) -> Self {
        let method = body["method"].as_str().map_or(SEND_MESSAGE, current_name);
        let (params, message) = (&body["params"], &body["params"]["message"]);
        let of_message = |key| message[key].as_str().or(params[key].as_str());
        let is_message = !message.is_null();
        Self {
            method,
            message_id: message["messageId"].as_str(),
            task_id: of_message("taskId").or(params["id"].as_str().filter(|_| !is_message)),
            context_id: of_message("contextId"),
            tenant: params["tenant"].as_str().filter(|tenant| !tenant.is_empty()),
            ..Self::default()
        }
    }

    pub(crate) fn describe(&self, record: &mut SpanRecord) {
        let method = current_name(self.method);
        record.protocol = ProtocolType::A2a;
        record.span.name = method.to_owned();
        record.span.call_id = self.message_id.map(str::to_owned);
        record.set(METHOD_NAME, Some(method));
        record.set(MESSAGE_ID, self.message_id);
        record.set(TASK_ID, self.task_id);
        record.set("a2a.tenant", self.tenant);
        record.set("a2a.protocol.version", self.protocol_version);
        record.set(CONVERSATION_ID, self.context_id);
        record.set("sre.task.name", self.task);
    }
}

/// Returns whether a span is of a message, which asks for work.
pub(crate) fn is_message(record: &SpanRecord) -> bool {
    matches!(record.attribute(METHOD_NAME), Some(SEND_MESSAGE | SEND_STREAMING_MESSAGE))
}

/// Names the agent that is called.
pub(crate) fn set_agent(record: &mut SpanRecord, agent: &str) {
    record.set(AGENT_NAME, Some(agent));
}

/// Reads a response: a task, a message, an event of a stream, or either in a JSON-RPC response.
pub(crate) fn read_response(record: &mut SpanRecord, response: &Value) {
    let Some(result) = record.read_json_rpc(response) else { return };
    let named = ["task", "message", "statusUpdate", "artifactUpdate"].into_iter().find(|key| result[key].is_object());
    let result = named.map_or(result, |key| &result[key]);
    // A task has a state; a message and the updates of a task name it.
    let state = result["status"]["state"].as_str();
    let of_task = result["id"].as_str().filter(|_| result["status"].is_object());
    record.set(TASK_ID, result["taskId"].as_str().or(of_task));
    record.set(CONVERSATION_ID, result["contextId"].as_str());
    record.a2a_artifact_count += result["artifacts"].as_array().map_or(0, Vec::len);
    record.a2a_artifact_count += usize::from(result["artifact"].is_object());
    if let Some(state) = state {
        set_state(record, state);
    }
}

/// Sets the state of the task. A task that failed or was rejected is an error of the call.
pub(crate) fn set_state(record: &mut SpanRecord, state: &str) -> String {
    let state = current_state(state);
    record.set(TASK_STATE, Some(&*state));
    if let "TASK_STATE_FAILED" | "TASK_STATE_REJECTED" = &*state {
        let short = state["TASK_STATE_".len()..].to_ascii_lowercase();
        record.fail(&*state, format!("task {short}"));
    }
    state
}

/// Returns the name of an operation in version 1.0.
fn current_name(method: &str) -> &str {
    OLD_METHODS.iter().find(|(old, _)| *old == method).map_or(method, |(_, name)| name)
}

/// Returns the name of a state in version 1.0: `input-required` is `TASK_STATE_INPUT_REQUIRED`.
fn current_state(state: &str) -> String {
    if state.starts_with("TASK_STATE_") {
        state.to_owned()
    } else {
        format!("TASK_STATE_{}", state.to_ascii_uppercase().replace('-', "_"))
    }
}
