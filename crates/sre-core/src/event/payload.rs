//! The fields of each kind of event. Each struct is the only definition of its fields: in Rust, in JSON Lines and in
//! saved state.

use serde::{Deserialize, Deserializer, Serialize};

use super::Event;
use crate::Usd;

/// A task began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskStarted {
    /// The name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskFinished {
    /// Whether it succeeded.
    pub success: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The duration, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// The cost of the whole task, if the source reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
}

/// A step of a task ended: a node, an agent's task, a plan's step, a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepFinished {
    /// The name of the step.
    pub name: String,
    /// The kind of step: `node`, `agent_task`, `plan_step`, `plugin`; `step` if the input names none.
    #[serde(default = "default_kind", deserialize_with = "kind")]
    pub kind: String,
    /// Whether it succeeded.
    #[serde(default = "default_success")]
    pub success: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The duration, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// A call of a language model ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LlmCall {
    /// The model that answered, or else the requested model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Input tokens.
    #[serde(default, deserialize_with = "null_as_default")]
    pub input_tokens: u64,
    /// Input tokens that came from the provider's cache; also counted in `input_tokens`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cached_input_tokens: u64,
    /// Input tokens that were written to the provider's cache; also counted in `input_tokens`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub cache_write_input_tokens: u64,
    /// Output tokens.
    #[serde(default, deserialize_with = "null_as_default")]
    pub output_tokens: u64,
    /// The cost, if the source reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
    /// Whether it succeeded.
    #[serde(default = "default_success")]
    pub success: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The duration, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// Time from the start of the call to the first streamed token, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// The number of the attempt within its operation, from 1; a client's retry is the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The operation of this call. All attempts of an operation have the same id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
}

/// A call of a tool ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// The name of the tool.
    pub tool: String,
    /// A digest of the arguments' canonical JSON; see [`arguments_hash`](crate::arguments_hash).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_hash: Option<String>,
    /// Whether it succeeded.
    #[serde(default = "default_success")]
    pub success: bool,
    /// Whether it was the right tool, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The duration, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// The number of the attempt within its operation, from 1; a client's retry is the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The operation of this call, such as a tool call requested by the model. All attempts of an operation have the
    /// same id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
}

/// One agent passed the task on to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Handoff {
    /// The agent that hands off the task.
    pub from: String,
    /// The agent that receives the task.
    pub to: String,
    /// The depth of handoffs, from 1 to [`MAX_DEPTH`](Self::MAX_DEPTH).
    #[serde(default = "default_depth", deserialize_with = "depth")]
    pub depth: u32,
}

/// A message was added to the conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The sender.
    pub sender: String,
}

/// A policy or guardrail was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PolicyCheck {
    /// The name of the policy.
    #[serde(default, deserialize_with = "null_as_default")]
    pub policy: String,
    /// Whether the policy was complied with.
    pub compliant: bool,
}

/// An answer was evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// The metric, such as `relevance` or `hallucination`.
    pub metric: String,
    /// The verdict; if absent, `score` decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// The score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The judge's confidence, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// An HTTP request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpRequest {
    /// The URL, without its query.
    pub url: String,
    /// The status code of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// The error, if there was no response or an invalid one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The agent is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heartbeat {}

/// A span ended that is no other event, such as the request of a protocol. What it is, [`AgentEvent::span`](super::AgentEvent::span) has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpanFinished {
    /// Why it failed; `None` if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The duration, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// An event of a later version or of another tool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownEvent {
    /// The value of the `event` field.
    pub name: String,
}

impl TaskStarted {
    /// Creates the start of a task.
    pub fn new(name: Option<String>) -> Self {
        Self { name }
    }
}

impl TaskFinished {
    /// Creates the end of a task.
    pub fn new(success: bool) -> Self {
        Self { success, error: None, duration_ms: None, cost_usd: None }
    }

    /// Sets the error. The task succeeded if it is `None`.
    #[must_use]
    pub fn with_error(self, error: Option<String>) -> Self {
        Self { success: error.is_none(), error, ..self }
    }
}

impl StepFinished {
    /// Creates the end of a step that succeeded.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { name: name.into(), kind: kind.into(), success: true, error: None, duration_ms: None }
    }

    /// Sets the error. The step succeeded if it is `None`.
    #[must_use]
    pub fn with_error(self, error: Option<String>) -> Self {
        Self { success: error.is_none(), error, ..self }
    }
}

impl LlmCall {
    /// Creates a call that succeeded, without tokens.
    pub fn new(model: Option<String>) -> Self {
        Self {
            model,
            provider: None,
            input_tokens: 0,
            cached_input_tokens: 0,
            cache_write_input_tokens: 0,
            output_tokens: 0,
            cost_usd: None,
            success: true,
            error: None,
            duration_ms: None,
            first_token_ms: None,
            attempt: None,
            operation_id: None,
        }
    }

    /// Sets the error. The call succeeded if it is `None`.
    #[must_use]
    pub fn with_error(self, error: Option<String>) -> Self {
        Self { success: error.is_none(), error, ..self }
    }
}

impl LlmCall {
    /// Returns the input tokens that were written to the provider's cache, if there were any.
    pub fn cache_write(&self) -> Option<u64> {
        Some(self.cache_write_input_tokens).filter(|tokens| *tokens > 0)
    }
}

impl ToolCall {
    /// Creates a call that succeeded.
    pub fn new(tool: impl Into<String>) -> Self {
        Self {
            tool: tool.into(),
            arguments_hash: None,
            success: true,
            correct: None,
            error: None,
            duration_ms: None,
            attempt: None,
            operation_id: None,
        }
    }

    /// Sets the error. The call succeeded if it is `None`.
    #[must_use]
    pub fn with_error(self, error: Option<String>) -> Self {
        Self { success: error.is_none(), error, ..self }
    }
}

impl Handoff {
    /// The maximum depth, which no chain of agents comes near.
    pub const MAX_DEPTH: u32 = 1_000;

    /// Creates the first handoff of a task.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), depth: default_depth() }
    }
}

impl Message {
    /// Creates a message from `sender`.
    pub fn new(sender: impl Into<String>) -> Self {
        Self { sender: sender.into() }
    }
}

impl PolicyCheck {
    /// Creates the result of a check.
    pub fn new(policy: impl Into<String>, compliant: bool) -> Self {
        Self { policy: policy.into(), compliant }
    }
}

impl Evaluation {
    /// Creates an evaluation. It has an outcome only with a verdict or a score.
    pub fn new(metric: impl Into<String>, passed: Option<bool>, score: Option<f64>) -> Self {
        Self { metric: metric.into(), passed, score, confidence: None }
    }
}

impl HttpRequest {
    /// Creates a request without a status.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), status_code: None, error: None }
    }

    /// Returns the URL without user, password, query and fragment, which may hold a key.
    ///
    /// ```
    /// use sre_core::event::HttpRequest;
    /// let request = HttpRequest::new("https://user:key@example.com/a/b?token=1#x");
    /// assert_eq!(request.url_without_secrets(), "example.com/a/b");
    /// assert_eq!(HttpRequest::new("https://example.com/a@b").url_without_secrets(), "https://example.com/a@b");
    /// ```
    pub fn url_without_secrets(&self) -> &str {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        let host = url.find("://").map_or(0, |scheme| scheme + 3);
        match url[host..].split('/').next().and_then(|authority| authority.rfind('@')) {
            Some(user) => &url[host + user + 1..],
            None => url,
        }
    }
}

impl SpanFinished {
    /// Creates a span that succeeded if there is no error.
    pub fn new(duration_ms: f64, error: Option<String>) -> Self {
        Self { error, duration_ms: Some(duration_ms) }
    }
}

impl UnknownEvent {
    /// Creates an event with that name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

macro_rules! into_event {
    ($($payload:ident),*) => {
        $(impl From<$payload> for Event {
            fn from(payload: $payload) -> Self {
                Self::$payload(payload)
            }
        })*
    };
}

into_event!(
    TaskStarted,
    TaskFinished,
    StepFinished,
    LlmCall,
    ToolCall,
    Handoff,
    Message,
    PolicyCheck,
    Evaluation,
    HttpRequest,
    Heartbeat,
    SpanFinished
);

fn default_success() -> bool {
    true
}

fn default_kind() -> String {
    "step".to_owned()
}

fn default_depth() -> u32 {
    1
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Reads `null` as if the field were absent.
fn null_as_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_kind))
}

fn depth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_depth))
}
