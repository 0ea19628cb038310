use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::adapter::SpanEnd;
use sre_core::event::StringLimiter;
use sre_core::private::lenient;
use sre_core::{Timestamp, arguments_hash};

/// The fields of a line of the event handler or the span handler that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) time: Timestamp,
    /// The agent, if the forwarder sets it.
    pub(crate) agent: Option<String>,
    /// The id of a span, such as `FunctionAgent.run-812a0c32-…`.
    pub(crate) id: Option<String>,
    pub(crate) parent: Option<String>,
    /// The class of an event.
    #[serde(borrow)]
    pub(crate) class_name: Option<Cow<'a, str>>,
    /// The span that an event belongs to.
    pub(crate) span_id: Option<String>,
    error: Option<String>,
    message: Option<String>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    model_dict: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Tags {
    #[serde(rename = "llamaindex.step.input_summary")]
    input_summary: Option<String>,
}

#[derive(Default, Deserialize)]
struct ModelDict {
    model: Option<String>,
}

/// A `ChatResponse` or `CompletionResponse`.
#[derive(Default, Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    raw: Option<&'a RawValue>,
    #[serde(borrow)]
    additional_kwargs: Option<&'a RawValue>,
}

/// The provider's own response.
#[derive(Default, Deserialize)]
struct Raw {
    model: Option<String>,
    usage: Option<Usage>,
}

/// Tokens by the names of OpenAI or of Anthropic.
#[derive(Default, Deserialize)]
struct Usage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<TokenDetails>,
}

#[derive(Default, Deserialize)]
struct TokenDetails {
    cached_tokens: Option<u64>,
}

/// A tool call, as an agent's step describes it.
pub(crate) struct ToolInput {
    pub(crate) name: String,
    pub(crate) arguments_hash: Option<String>,
    pub(crate) id: Option<String>,
}

impl Line<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let ids = self.id.iter_mut().chain(&mut self.parent).chain(&mut self.span_id);
        limiter.names(ids.chain(&mut self.agent));
        limiter.texts(self.error.iter_mut().chain(&mut self.message));
    }

    /// Returns why a span was dropped.
    pub(crate) fn failure(&self) -> String {
        match (&self.error, &self.message) {
            (Some(error), Some(message)) => format!("{error}: {message}"),
            (error, message) => error.clone().or_else(|| message.clone()).unwrap_or_else(|| "failed".to_owned()),
        }
    }

    /// Returns the requested model, of the start of a model call.
    pub(crate) fn model(&self, limiter: &mut StringLimiter) -> Option<String> {
        let mut model = lenient::read::<ModelDict>(self.model_dict.map(RawValue::get)).model;
        limiter.names(&mut model);
        model
    }

    /// Returns what the end of a model call reports.
    pub(crate) fn model_end(&self, limiter: &mut StringLimiter) -> SpanEnd {
        let response: Response<'_> = lenient::read(self.response.map(RawValue::get));
        let mut raw: Raw = lenient::read(response.raw.map(RawValue::get));
        limiter.names(&mut raw.model);
        let usage = raw.usage.unwrap_or_else(|| lenient::read(response.additional_kwargs.map(RawValue::get)));
        SpanEnd {
            model: raw.model,
            input_tokens: usage.prompt_tokens.unwrap_or(0),
            cached_input_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
            output_tokens: usage.completion_tokens.unwrap_or(0),
            ..SpanEnd::default()
        }
    }

    /// Returns the tool call of an agent's step: LlamaIndex describes it only in the text
    /// `ToolCall(tool_name='…', tool_kwargs={…}, tool_id='…')`, which may be cut.
    pub(crate) fn tool_input(&self, limiter: &mut StringLimiter) -> Option<ToolInput> {
        let summary = lenient::read::<Tags>(self.tags.map(RawValue::get)).input_summary?;
        let rest = summary.strip_prefix("ToolCall(tool_name='")?;
        let (name, rest) = rest.split_once('\'')?;
        let arguments = rest.strip_prefix(", tool_kwargs=").and_then(|rest| rest.rsplit_once(", tool_id='"));
        let (arguments, id) = arguments.unzip();
        let mut name = name.to_owned();
        let mut id = id.and_then(|id| id.strip_suffix("')")).map(str::to_owned);
        limiter.names(std::iter::once(&mut name).chain(&mut id));
        Some(ToolInput { name, arguments_hash: arguments.map(arguments_hash), id })
    }
}
