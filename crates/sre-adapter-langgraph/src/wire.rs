use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::event::StringLimiter;

/// The fields of a line of `astream_events` that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    pub(crate) time: Timestamp,
    pub(crate) name: Option<String>,
    pub(crate) run_id: Option<String>,
    #[serde(default)]
    pub(crate) parent_ids: Vec<String>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// Set on a `raised` line.
    pub(crate) error: Option<String>,
    pub(crate) message: Option<String>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) langgraph_node: Option<String>,
    pub(crate) ls_provider: Option<String>,
    pub(crate) ls_model_name: Option<String>,
}

/// `data` of a tool's start.
#[derive(Deserialize)]
pub(crate) struct ToolInput<'a> {
    #[serde(borrow)]
    pub(crate) input: Option<&'a RawValue>,
}

/// `data` of an error.
#[derive(Default, Deserialize)]
pub(crate) struct ErrorData {
    pub(crate) error: Option<serde_json::Value>,
    /// Set for a tool.
    pub(crate) tool_call_id: Option<String>,
}

/// `data` of a model call's end.
#[derive(Default, Deserialize)]
pub(crate) struct ModelEnd {
    #[serde(default)]
    pub(crate) output: Option<ModelOutput>,
}

#[derive(Default, Deserialize)]
pub(crate) struct ModelOutput {
    pub(crate) usage_metadata: Option<Usage>,
    #[serde(default)]
    pub(crate) response_metadata: Option<ResponseMetadata>,
}

#[derive(Default, Deserialize)]
pub(crate) struct ResponseMetadata {
    pub(crate) model_name: Option<String>,
    pub(crate) model_provider: Option<String>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub(crate) input_tokens: u64,
    #[serde(default)]
    pub(crate) output_tokens: u64,
    #[serde(default)]
    pub(crate) input_token_details: Option<TokenDetails>,
}

#[derive(Default, Deserialize)]
pub(crate) struct TokenDetails {
    pub(crate) cache_read: Option<u64>,
}

/// `data` of a tool's end.
#[derive(Default, Deserialize)]
pub(crate) struct ToolEnd {
    pub(crate) output: Option<ToolOutput>,
}

/// The result of a tool, which can be anything. The status of a `ToolMessage` tells whether the tool raised an
/// exception.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum ToolOutput {
    Message { status: String, tool_call_id: Option<String> },
    Other(serde::de::IgnoredAny),
}

/// Reads `data`. Returns the default if it has another shape, as in another version of the framework.
pub(crate) fn read<'a, T: Deserialize<'a> + Default>(data: Option<&'a RawValue>) -> T {
    data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default()
}

impl Line<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let Metadata { langgraph_node, ls_provider, ls_model_name } = &mut self.metadata;
        limiter.names(self.name.iter_mut().chain(&mut self.run_id).chain(&mut self.parent_ids));
        limiter.names(langgraph_node.iter_mut().chain(ls_provider).chain(ls_model_name));
        limiter.texts(self.error.iter_mut().chain(&mut self.message));
    }

    /// Returns whether a chain is a node of the graph, rather than a chain inside a node.
    pub(crate) fn is_node(&self) -> bool {
        self.name.is_some() && self.name == self.metadata.langgraph_node
    }
}

impl ErrorData {
    /// Returns the message of the error.
    pub(crate) fn text(&self) -> String {
        let Some(error) = &self.error else { return "failed".to_owned() };
        match (error.as_str(), error["message"].as_str()) {
            (Some(text), _) | (None, Some(text)) => text.to_owned(),
            (None, None) => error.to_string(),
        }
    }
}
