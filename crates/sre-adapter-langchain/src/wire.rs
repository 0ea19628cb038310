use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::adapter::{SpanEnd, SpanKind};
use sre_core::event::StringLimiter;
use sre_core::private::lenient::{self, First};

/// The fields of a forwarded callback that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    pub(crate) time: Timestamp,
    /// The agent, if the forwarder sets it.
    pub(crate) agent: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) parent_run_id: Option<String>,
    /// The positional arguments of the callback, of which the first is used.
    #[serde(borrow, default)]
    args: First<&'a RawValue, 1>,
    /// The arguments of a tool.
    #[serde(borrow)]
    pub(crate) inputs: Option<&'a RawValue>,
    pub(crate) tool_call_id: Option<String>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) langgraph_node: Option<String>,
    pub(crate) ls_provider: Option<String>,
    pub(crate) ls_model_name: Option<String>,
}

/// The constructor of a chain, model or tool: the first argument of its start.
#[derive(Default, Deserialize)]
struct Serialized {
    name: Option<String>,
}

/// An `LLMResult`.
#[derive(Default, Deserialize)]
struct ModelResult {
    #[serde(default)]
    generations: First<First<Generation, 1>, 1>,
    llm_output: Option<Response>,
}

#[derive(Deserialize)]
struct Generation {
    message: Option<Message>,
}

#[derive(Default, Deserialize)]
struct Message {
    usage_metadata: Option<Usage>,
    response_metadata: Option<Response>,
}

#[derive(Default, Deserialize)]
struct Response {
    token_usage: Option<Usage>,
    model_name: Option<String>,
    model_provider: Option<String>,
}

/// Tokens by the names of LangChain or of OpenAI.
#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default, alias = "prompt_tokens")]
    input_tokens: u64,
    #[serde(default, alias = "completion_tokens")]
    output_tokens: u64,
    #[serde(alias = "prompt_tokens_details")]
    input_token_details: Option<TokenDetails>,
}

#[derive(Default, Deserialize)]
struct TokenDetails {
    #[serde(alias = "cached_tokens")]
    cache_read: Option<u64>,
    cache_creation: Option<u64>,
}

/// A `ToolMessage`.
#[derive(Default, Deserialize)]
struct ToolMessage {
    status: Option<String>,
    tool_call_id: Option<String>,
}

impl Line<'_> {
    /// Returns the metadata of a start, with shortened names.
    pub(crate) fn metadata(&self, limiter: &mut StringLimiter) -> Metadata {
        let mut metadata: Metadata = lenient::read(self.metadata.map(RawValue::get));
        limiter.names(metadata.ls_provider.iter_mut().chain(&mut metadata.ls_model_name));
        metadata
    }

    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let ids = self.run_id.iter_mut().chain(&mut self.parent_run_id).chain(&mut self.tool_call_id);
        limiter.names(ids.chain(&mut self.agent).chain(&mut self.name));
    }

    /// Returns the name of what has started.
    pub(crate) fn name(&self, limiter: &mut StringLimiter) -> Option<String> {
        let mut name = self.name.clone().or_else(|| lenient::read::<Serialized>(self.first()).name);
        limiter.names(&mut name);
        name.filter(|name| !name.is_empty())
    }

    /// Returns why something failed.
    pub(crate) fn error(&self) -> String {
        lenient::error_text(self.first())
    }

    /// Returns what the end of a call reports.
    pub(crate) fn end(&self, kind: SpanKind) -> SpanEnd {
        match kind {
            SpanKind::Model => {
                let result: ModelResult = lenient::read(self.first());
                let message = result
                    .generations
                    .0
                    .into_iter()
                    .flat_map(|first| first.0)
                    .find_map(|generation| generation.message);
                let message = message.unwrap_or_default();
                let [response, output] = [message.response_metadata, result.llm_output].map(Option::unwrap_or_default);
                let usage = message.usage_metadata.or(response.token_usage).or(output.token_usage).unwrap_or_default();
                let of_cache = usage.input_token_details.unwrap_or_default();
                SpanEnd {
                    model: response.model_name.or(output.model_name),
                    provider: response.model_provider.or(output.model_provider),
                    input_tokens: usage.input_tokens,
                    cached_input_tokens: of_cache.cache_read.unwrap_or(0),
                    cache_write_input_tokens: of_cache.cache_creation.unwrap_or(0),
                    output_tokens: usage.output_tokens,
                    ..SpanEnd::default()
                }
            }
            SpanKind::Tool => {
                let message: ToolMessage = lenient::read(self.first().filter(|result| result.starts_with('{')));
                let failed = message.status.as_deref() == Some("error");
                SpanEnd {
                    error: failed.then(|| "the tool returned an error".to_owned()),
                    operation_id: message.tool_call_id,
                    ..SpanEnd::default()
                }
            }
            _ => SpanEnd::default(),
        }
    }

    fn first(&self) -> Option<&str> {
        self.args.0.first().map(|argument| argument.get())
    }
}
