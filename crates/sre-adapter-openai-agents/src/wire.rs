use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::event::{InvalidField, LlmCall, StringLimiter};
use sre_core::private::text_only;
use sre_core::{Event, Timestamp};

/// The fields of a forwarded line that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) id: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) parent_id: Option<String>,
    pub(crate) workflow_name: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    #[serde(borrow)]
    pub(crate) span_data: Option<SpanData<'a>>,
    #[serde(borrow)]
    pub(crate) error: Option<SpanError<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct SpanData<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) name: Option<String>,
    pub(crate) model: Option<String>,
    /// The arguments of a function call, as JSON in a string. Messages of a model call are skipped.
    #[serde(default, deserialize_with = "text_only::deserialize")]
    pub(crate) input: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) from_agent: Option<String>,
    pub(crate) to_agent: Option<String>,
    #[serde(default)]
    pub(crate) triggered: bool,
    pub(crate) data: Option<CustomData>,
}

impl Line<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let ids = self.id.iter_mut().chain(&mut self.trace_id).chain(&mut self.parent_id);
        limiter.names(ids.chain(&mut self.workflow_name));
        if let Some(SpanData { name, model, from_agent, to_agent, .. }) = &mut self.span_data {
            limiter.names(name.iter_mut().chain(model).chain(from_agent).chain(to_agent));
        }
    }
}

impl SpanData<'_> {
    /// Returns whether the span becomes an event. Agents and the SDK's own tasks only wrap other spans.
    pub(crate) fn is_event(&self) -> bool {
        let sdk_span_type = || self.data.as_ref()?.sdk_span_type.as_deref();
        match &*self.kind {
            "generation" | "response" | "function" | "handoff" | "guardrail" => true,
            "custom" => matches!(sdk_span_type(), None | Some("turn")),
            _ => false,
        }
    }
}

/// The data of the SDK's own custom spans.
#[derive(Default, Deserialize)]
pub(crate) struct CustomData {
    pub(crate) sdk_span_type: Option<String>,
    pub(crate) turn: Option<u64>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub(crate) input_tokens: u64,
    #[serde(default)]
    pub(crate) output_tokens: u64,
    pub(crate) input_tokens_details: Option<TokenDetails>,
}

#[derive(Default, Deserialize)]
pub(crate) struct TokenDetails {
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) cache_write_tokens: Option<u64>,
}

impl Usage {
    /// Sets the tokens of a call.
    pub(crate) fn set_tokens_of(&self, call: &mut LlmCall) {
        call.input_tokens = self.input_tokens;
        call.output_tokens = self.output_tokens;
        if let Some(details) = &self.input_tokens_details {
            call.cached_input_tokens = details.cached_tokens.unwrap_or(0);
            call.cache_write_input_tokens = details.cache_write_tokens.unwrap_or(0);
        }
    }

    /// Returns an error if a number of tokens is out of range.
    pub(crate) fn check(&self) -> Result<(), InvalidField> {
        let mut call = LlmCall::new(None);
        self.set_tokens_of(&mut call);
        Event::from(call).check()
    }
}

#[derive(Deserialize)]
pub(crate) struct SpanError<'a> {
    #[serde(default)]
    pub(crate) message: String,
    /// Any value.
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

/// `data` of an error.
#[derive(Deserialize)]
struct ErrorData {
    #[serde(default, deserialize_with = "text_only::deserialize")]
    error: Option<String>,
}

impl SpanError<'_> {
    /// Returns the message with its cause.
    pub(crate) fn text(&self) -> String {
        let data = self.data.map(RawValue::get).filter(|data| data.starts_with('{'));
        match data.and_then(|data| serde_json::from_str::<ErrorData>(data).ok()?.error) {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }
}
