use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::adapter::SpanEnd;
use sre_core::event::StringLimiter;
use sre_core::private::lenient::{self, First};

/// The fields of a message, log record or line of the application that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) time: Timestamp,
    /// The agent, if the forwarder sets it.
    pub(crate) agent: Option<String>,
    /// The conversation, if the forwarder sets it.
    pub(crate) run_id: Option<String>,
    /// Set on a message.
    pub(crate) id: Option<String>,
    /// The sender of a message, `event_log` or `app`.
    pub(crate) source: Option<String>,
    /// The receiver of a handoff.
    pub(crate) target: Option<String>,
    pub(crate) initiator: Option<String>,
    /// Set on `raised`.
    pub(crate) error: Option<String>,
    pub(crate) message: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

/// Maximum number of tool calls in one message.
const MAX_CALLS: usize = 1_000;

/// A tool call in a `ToolCallRequestEvent`.
#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    /// JSON in a text.
    pub(crate) arguments: Option<String>,
}

/// The result of a tool call in a `ToolCallExecutionEvent`.
#[derive(Deserialize)]
pub(crate) struct Execution {
    pub(crate) call_id: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    is_error: Option<bool>,
}

/// The provider's response to a model call.
#[derive(Default, Deserialize)]
struct Response {
    model: Option<String>,
    usage: Option<Usage>,
}

#[derive(Default, Deserialize)]
struct Usage {
    prompt_tokens_details: Option<TokenDetails>,
}

#[derive(Default, Deserialize)]
struct TokenDetails {
    cached_tokens: Option<u64>,
}

impl Line<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let names = [&mut self.agent, &mut self.run_id, &mut self.id, &mut self.source, &mut self.target];
        limiter.names(names.into_iter().flatten().chain(&mut self.initiator));
        limiter.texts(self.error.iter_mut().chain(&mut self.message));
    }

    /// Returns the tool calls that the model has requested.
    pub(crate) fn requests(&self, limiter: &mut StringLimiter) -> Vec<Request> {
        let First(mut requests): First<Request, MAX_CALLS> = lenient::read(self.content.map(RawValue::get));
        limiter.names(requests.iter_mut().flat_map(|request| [&mut request.id, &mut request.name]));
        requests
    }

    /// Returns the results of tool calls.
    pub(crate) fn executions(&self, limiter: &mut StringLimiter) -> Vec<Execution> {
        let First(mut executions): First<Execution, MAX_CALLS> = lenient::read(self.content.map(RawValue::get));
        limiter.names(executions.iter_mut().map(|execution| &mut execution.call_id));
        executions
    }

    /// Returns what the record of a model call reports.
    pub(crate) fn model_end(&self, limiter: &mut StringLimiter) -> SpanEnd {
        let mut response: Response = lenient::read(self.response.map(RawValue::get));
        limiter.names(&mut response.model);
        let details = response.usage.and_then(|usage| usage.prompt_tokens_details).unwrap_or_default();
        SpanEnd {
            model: response.model,
            input_tokens: self.prompt_tokens,
            cached_input_tokens: details.cached_tokens.unwrap_or(0),
            output_tokens: self.completion_tokens,
            ..SpanEnd::default()
        }
    }

    /// Returns the exception of a conversation.
    pub(crate) fn raised(&self) -> String {
        match (&self.error, &self.message) {
            (Some(error), Some(message)) => format!("{error}: {message}"),
            (error, message) => error.clone().or_else(|| message.clone()).unwrap_or_else(|| "raised".to_owned()),
        }
    }
}

impl Execution {
    /// Returns what the end of the call reports.
    pub(crate) fn end(self) -> SpanEnd {
        let error = (self.is_error == Some(true)).then_some(self.content);
        SpanEnd { error, operation_id: Some(self.call_id), ..SpanEnd::default() }
    }
}
