use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::adapter::SpanEnd;
use sre_core::event::StringLimiter;
use sre_core::private::lenient;

/// The fields of an event of CrewAI's event bus that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    pub(crate) time: Timestamp,
    /// The agent, if the forwarder sets it.
    pub(crate) agent: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) parent_event_id: Option<String>,
    /// The start that an end belongs to.
    pub(crate) started_event_id: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) task_name: Option<String>,
    pub(crate) agent_role: Option<String>,
    pub(crate) crew_name: Option<String>,
    pub(crate) call_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) tool_name: Option<String>,
    #[serde(borrow)]
    pub(crate) tool_args: Option<&'a RawValue>,
    /// Set on a guardrail's result.
    pub(crate) success: Option<bool>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    failure: Option<&'a RawValue>,
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
        let ids = [&mut self.event_id, &mut self.parent_event_id, &mut self.started_event_id, &mut self.task_id];
        limiter.names(ids.into_iter().flatten().chain(&mut self.call_id));
        let names = [&mut self.agent, &mut self.task_name, &mut self.agent_role, &mut self.crew_name];
        limiter.names(names.into_iter().flatten().chain(&mut self.model).chain(&mut self.tool_name));
    }

    /// Returns why something failed, from the fields of whichever event reports it.
    pub(crate) fn error(&self) -> String {
        lenient::error_text(self.error.or(self.failure).map(RawValue::get))
    }

    /// Returns what the end of a call reports. A finished tool call may report a failure.
    pub(crate) fn end(&self) -> SpanEnd {
        let usage: Usage = lenient::read(self.usage.map(RawValue::get));
        SpanEnd {
            error: self.failure.is_some().then(|| self.error()),
            model: self.model.clone(),
            input_tokens: usage.prompt_tokens,
            cached_input_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
            output_tokens: usage.completion_tokens,
            ..SpanEnd::default()
        }
    }

    /// Returns what the failure of a call reports.
    pub(crate) fn failed(&self) -> SpanEnd {
        SpanEnd { error: Some(self.error()), ..SpanEnd::default() }
    }
}
