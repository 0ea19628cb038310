use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sre_core::Timestamp;
use sre_core::event::StringLimiter;
use sre_core::private::text_only;

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
#[derive(Deserialize)]
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

/// A `ToolMessage`. Its status tells whether the tool raised an exception.
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

impl ErrorData<'_> {
    /// Returns the message of the error.
    pub(crate) fn text(&self) -> String {
        #[derive(Deserialize)]
        struct Message {
            #[serde(default, deserialize_with = "text_only::deserialize")]
            message: Option<String>,
        }
        let Some(error) = self.error.map(RawValue::get) else { return "failed".to_owned() };
        let message = match error.as_bytes().first() {
            Some(b'"') => serde_json::from_str(error).ok(),
            Some(b'{') => serde_json::from_str(error).ok().and_then(|error: Message| error.message),
            _ => None,
        };
        message.unwrap_or_else(|| error.to_owned())
    }
}
