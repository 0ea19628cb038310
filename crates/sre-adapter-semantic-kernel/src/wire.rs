use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::adapter::SpanEnd;
use sre_core::event::StringLimiter;
use sre_core::private::lenient;

/// The fields of a forwarded line that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    pub(crate) time: Timestamp,
    /// The agent, if the forwarder sets it.
    pub(crate) agent: Option<String>,
    /// The run, if the forwarder sets it.
    pub(crate) run_id: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) plugin: Option<String>,
    pub(crate) function: Option<String>,
    #[serde(borrow)]
    pub(crate) arguments: Option<&'a RawValue>,
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) success: bool,
    pub(crate) error: Option<String>,
    pub(crate) message: Option<String>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<TokenDetails>,
}

#[derive(Default, Deserialize)]
struct TokenDetails {
    cached_tokens: Option<u64>,
}

impl Line<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let names = [&mut self.agent, &mut self.run_id, &mut self.kernel, &mut self.plugin, &mut self.function];
        limiter.names(names.into_iter().flatten().chain(&mut self.model));
        limiter.texts(self.error.iter_mut().chain(&mut self.message));
    }

    /// Returns the name of a function, such as `orders-lookup`, as the kernel names it to the model.
    pub(crate) fn function(&self) -> String {
        match (self.plugin.as_deref(), self.function.as_deref().unwrap_or_default()) {
            (Some(plugin), function) if !plugin.is_empty() => format!("{plugin}-{function}"),
            (_, function) => function.to_owned(),
        }
    }

    /// Returns why something failed.
    pub(crate) fn failure(&self) -> String {
        match (&self.error, &self.message) {
            (Some(error), Some(message)) => format!("{error}: {message}"),
            (error, message) => error.clone().or_else(|| message.clone()).unwrap_or_else(|| "failed".to_owned()),
        }
    }

    /// Returns what the end of a model call reports.
    pub(crate) fn model_end(&self) -> SpanEnd {
        let usage: Usage = lenient::read(self.usage.map(RawValue::get));
        SpanEnd {
            model: self.model.clone(),
            input_tokens: usage.prompt_tokens,
            cached_input_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
            output_tokens: usage.completion_tokens,
            ..SpanEnd::default()
        }
    }
}
