use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::adapter::{SpanEnd, SpanKind};
use sre_core::event::StringLimiter;
use sre_core::private::lenient;

/// The fields of a line of `astream_events` that are used.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    pub(crate) time: Timestamp,
    pub(crate) name: Option<String>,
    pub(crate) run_id: Option<String>,
    #[serde(default, deserialize_with = "parent_ids")]
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
#[derive(Default, Deserialize)]
pub(crate) struct ToolInput<'a> {
    #[serde(borrow)]
    pub(crate) input: Option<&'a RawValue>,
}

/// `data` of an error.
#[derive(Default, Deserialize)]
pub(crate) struct ErrorData<'a> {
    /// Any value.
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
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
    pub(crate) cache_creation: Option<u64>,
}

/// `data` of a tool's end.
#[derive(Default, Deserialize)]
pub(crate) struct ToolEnd<'a> {
    /// The result of the tool, which can be anything.
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

/// A `ToolMessage`. Its status is whether the tool raised an exception.
#[derive(Deserialize)]
pub(crate) struct ToolMessage {
    pub(crate) status: String,
    pub(crate) tool_call_id: Option<String>,
}

impl ToolEnd<'_> {
    /// Returns the message, if the result is one.
    pub(crate) fn message(&self) -> Option<ToolMessage> {
        let output = self.output.map(RawValue::get).filter(|output| output.starts_with('{'))?;
        serde_json::from_str(output).ok()
    }
}

/// Reads the ids of the runs around a run, outermost first.
fn parent_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    const MAX: usize = 1_000;
    struct Ids;
    impl<'de> Visitor<'de> for Ids {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut ids = Vec::new();
            while let Some(id) = list.next_element()? {
                if ids.len() == MAX {
                    return Err(Error::invalid_length(MAX + 1, &self));
                }
                ids.push(id);
            }
            Ok(ids)
        }
    }
    deserializer.deserialize_seq(Ids)
}

/// Reads `data`. Returns the default if it has another shape, as in another version of the framework.
pub(crate) fn read<'a, T: Deserialize<'a> + Default>(data: Option<&'a RawValue>) -> T {
    lenient::read(data.map(RawValue::get))
}

impl Line<'_> {
    /// Shortens the strings that the adapter keeps.
    pub(crate) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        let Metadata { langgraph_node, ls_provider, ls_model_name } = &mut self.metadata;
        limiter.names(self.name.iter_mut().chain(&mut self.run_id).chain(&mut self.parent_ids));
        limiter.names(langgraph_node.iter_mut().chain(ls_provider).chain(ls_model_name));
        limiter.texts(self.error.iter_mut().chain(&mut self.message));
    }

    /// Returns what the end of a span reports. A tool node may convert an exception of the tool to a message with status
    /// `error`, which is the error of the call.
    pub(crate) fn end(&self, kind: SpanKind) -> SpanEnd {
        match kind {
            SpanKind::Model => {
                let output = read::<ModelEnd>(self.data).output.unwrap_or_default();
                let response = output.response_metadata.unwrap_or_default();
                let usage = output.usage_metadata.unwrap_or_default();
                let of_cache = usage.input_token_details.unwrap_or_default();
                SpanEnd {
                    model: response.model_name,
                    provider: response.model_provider,
                    input_tokens: usage.input_tokens,
                    cached_input_tokens: of_cache.cache_read.unwrap_or(0),
                    cache_write_input_tokens: of_cache.cache_creation.unwrap_or(0),
                    output_tokens: usage.output_tokens,
                    ..SpanEnd::default()
                }
            }
            SpanKind::Tool => {
                read::<ToolEnd<'_>>(self.data).message().map_or_else(SpanEnd::default, |message| SpanEnd {
                    error: (message.status == "error").then(|| "the tool returned an error".to_owned()),
                    operation_id: message.tool_call_id,
                    ..SpanEnd::default()
                })
            }
            _ => SpanEnd::default(),
        }
    }

    /// Returns whether a chain is a node of the graph, rather than a chain inside a node.
    pub(crate) fn is_node(&self) -> bool {
        self.name.is_some() && self.name == self.metadata.langgraph_node
    }
}

impl ErrorData<'_> {
    /// Returns the message of the error.
    pub(crate) fn text(&self) -> String {
        lenient::error_text(self.error.map(RawValue::get))
    }
}
