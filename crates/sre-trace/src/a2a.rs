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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The ids of the tasks to which the message refers.
    pub reference_task_ids: Vec<&'a str>,
    /// The version of the protocol, such as `1.0`.
    pub protocol_version: Option<&'a str>,
    /// The description in the card of the agent that is called.
    pub agent_description: Option<&'a str>,
    /// The version in its card.
    pub agent_version: Option<&'a str>,
}

pub(crate) const METHOD_NAME: &str = "a2a.method.name";
pub(crate) const MESSAGE_ID: &str = "a2a.message.id";
pub(crate) const TASK_ID: &str = "a2a.task.id";
pub(crate) const TASK_STATE: &str = "a2a.task.state";

/// The version of a request without the header, by the specification (3.6.2).
const OLD_VERSION: &str = "0.3";

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
            reference_task_ids: Vec::new(),
            protocol_version: None,
            agent_description: None,
            agent_version: None,
        }
    }
}

impl<'a> A2aRequest<'a> {
    /// Creates a message that asks for something, such as `summarize`.
    pub fn task(task: &'a str) -> Self {
        Self { task: Some(task), ..Self::default() }
    }

    /// Reads a JSON-RPC request of version 1.0 or 0.3. Missing fields are `None`.
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
            reference_task_ids: reference_task_ids(message),
            tenant: params["tenant"].as_str().filter(|tenant| !tenant.is_empty()),
            ..Self::default()
        }
    }

    /// Reads a request over HTTP+JSON, of version 1.0 or 0.3: the path may begin with a prefix, such as a tenant or, in version 0.3, `/v1`.
    /// Missing fields are `None`. Returns `None` if no operation has the method and path.
    ///
    /// ```
    /// use serde_json::Value;
    /// use sre_trace::A2aRequest;
    /// let request = A2aRequest::from_http("POST", "/v1/tasks/t-1:cancel", &Value::Null).unwrap();
    /// assert_eq!((request.method, request.task_id), ("CancelTask", Some("t-1")));
    /// ```
    pub fn from_http(method: &str, path: &'a str, body: &'a Value) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let (start, last) = path.rsplit_once('/').unwrap_or(("", path));
        let above = start.rsplit('/').next().unwrap_or_default();
        let is_message = matches!(last, "message:send" | "message:stream");
        // The id of a task is in the path: `/tasks/{id}` and what is below it.
        let task_id = path.rfind("/tasks/").map(|found| &path[found + "/tasks/".len()..]);
        let task_id = task_id.and_then(|rest| rest.split(['/', ':']).next()).filter(|id| !id.is_empty());
        let operation = match (method, above, last) {
            ("POST", _, "message:send") => SEND_MESSAGE,
            ("POST", _, "message:stream") => SEND_STREAMING_MESSAGE,
            ("GET", _, "tasks") => "ListTasks",
            ("GET", "tasks", task) if !task.contains(':') => "GetTask",
            ("POST", "tasks", task) if task.ends_with(":cancel") => "CancelTask",
            (_, "tasks", task) if task.ends_with(":subscribe") => "SubscribeToTask",
            ("POST", _, "pushNotificationConfigs") => "CreateTaskPushNotificationConfig",
            ("GET", _, "pushNotificationConfigs") => "ListTaskPushNotificationConfigs",
            ("GET", "pushNotificationConfigs", _) => "GetTaskPushNotificationConfig",
            ("DELETE", "pushNotificationConfigs", _) => "DeleteTaskPushNotificationConfig",
            ("GET", _, "extendedAgentCard" | "card") => "GetExtendedAgentCard",
            _ => return None,
        };
        let message = &body["message"];
        let of_message = |key| message[key].as_str().filter(|id| is_message && !id.is_empty());
        Some(Self {
            method: operation,
            message_id: of_message("messageId"),
            task_id: task_id.or_else(|| of_message("taskId")),
            context_id: of_message("contextId"),
            reference_task_ids: if is_message { reference_task_ids(message) } else { Vec::new() },
            tenant: body["tenant"].as_str().filter(|tenant| !tenant.is_empty()),
            ..Self::default()
        })
    }

    /// Reads a push notification, which an agent sends when a task has changed.
    /// [`receive_push_notification`](crate::ProtocolTracer::receive_push_notification) makes a span of it.
    pub fn from_push_notification(body: &'a Value) -> Self {
        let TaskUpdate { task_id, context_id, .. } = TaskUpdate::read(body);
        Self { method: "PushNotification", task_id, context_id, ..Self::default() }
    }

    /// Sets the version of the protocol to the value of the header `A2A-Version` of a request. Without one, it is 0.3.
    #[must_use]
    pub fn with_version(self, header: Option<&'a str>) -> Self {
        let version = header.map(str::trim).filter(|version| !version.is_empty());
        Self { protocol_version: Some(version.unwrap_or(OLD_VERSION)), ..self }
    }

    pub(crate) fn describe(&self, record: &mut SpanRecord) {
        let method = current_name(self.method);
        record.protocol = ProtocolType::A2a;
        record.span.name = method.to_owned();
        record.span.call_id = self.message_id.map(str::to_owned);
        record.set(METHOD_NAME, Some(method));
        record.set(MESSAGE_ID, self.message_id);
        record.set(TASK_ID, self.task_id);
        let references = Some(&*self.reference_task_ids).filter(|ids| !ids.is_empty());
        record.set("a2a.message.reference_task_ids", references);
        record.set("a2a.tenant", self.tenant);
        record.set("a2a.protocol.version", self.protocol_version);
        record.set(CONVERSATION_ID, self.context_id);
        record.set("gen_ai.agent.description", self.agent_description.filter(|text| !text.is_empty()));
        record.set("gen_ai.agent.version", self.agent_version.filter(|version| !version.is_empty()));
        record.set("sre.task.name", self.task);
    }
}

fn reference_task_ids(message: &Value) -> Vec<&str> {
    message["referenceTaskIds"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Returns whether a span is of a message, which asks for work.
pub(crate) fn is_message(record: &SpanRecord) -> bool {
    matches!(record.attribute(METHOD_NAME), Some(SEND_MESSAGE | SEND_STREAMING_MESSAGE))
}

/// Names the agent that is called.
pub(crate) fn set_agent(record: &mut SpanRecord, agent: &str) {
    record.set(AGENT_NAME, Some(agent));
}

/// What a response, or an event of a stream, tells of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TaskUpdate<'a> {
    pub(crate) task_id: Option<&'a str>,
    pub(crate) context_id: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
    /// All artifacts that the task has by now, in a response with a task.
    pub(crate) artifacts: usize,
    /// Artifacts that begin with this event.
    pub(crate) new_artifacts: usize,
}

impl<'a> TaskUpdate<'a> {
    /// Reads a task, a message or an event of a stream.
    pub(crate) fn read(result: &'a Value) -> Self {
        let result = event(result);
        // A task has a state; a message and the updates of a task name it.
        let of_task = result["id"].as_str().filter(|_| result["status"].is_object());
        let is_new = result["artifact"].is_object() && result["append"] != true;
        Self {
            task_id: result["taskId"].as_str().or(of_task),
            context_id: result["contextId"].as_str(),
            state: result["status"]["state"].as_str(),
            artifacts: result["artifacts"].as_array().map_or(0, Vec::len),
            new_artifacts: usize::from(is_new),
        }
    }

    pub(crate) fn describe(self, record: &mut SpanRecord) {
        record.set(TASK_ID, self.task_id.filter(|id| !id.is_empty()));
        record.set(CONVERSATION_ID, self.context_id.filter(|id| !id.is_empty()));
        record.a2a_artifact_count = (record.a2a_artifact_count + self.new_artifacts).max(self.artifacts);
    }
}

/// Returns the task, message or update in a response, an event of a stream or a push notification; in version 0.3, it is that itself.
pub(crate) fn event(body: &Value) -> &Value {
    let named = ["task", "message", "statusUpdate", "artifactUpdate"].into_iter().find(|key| body[key].is_object());
    named.map_or(body, |key| &body[key])
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

/// Returns the operation of a span, by the name that OpenTelemetry's conventions give it or, of a message, the official SDK for Python, such
/// as `a2a.client.transports.jsonrpc.JsonRpcTransport.send_message`. A message whose answer streams is the same as one whose answer does
/// not: an agent that gets one may delegate by the other.
pub(crate) fn operation(span_name: &str) -> Option<&'static str> {
    match span_name {
        SEND_MESSAGE | SEND_STREAMING_MESSAGE => Some(SEND_MESSAGE),
        "ListTasks" => Some("ListTasks"),
        _ if span_name.starts_with("a2a.") => match span_name.rsplit('.').next()? {
            "send_message" | "send_message_streaming" | "on_message_send" | "on_message_send_stream" => {
                Some(SEND_MESSAGE)
            }
            _ => None,
        },
        _ => OLD_METHODS.iter().map(|(_, name)| *name).find(|name| *name == span_name),
    }
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
