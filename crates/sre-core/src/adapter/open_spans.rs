use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{LlmCall, StepFinished, StringLimiter, ToolCall};
use crate::{Event, Timestamp, Usd};

/// The open spans of a run. In order, so that a restart does not change the order of events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OpenSpans {
    pub(super) spans: BTreeMap<String, OpenSpan>,
}

/// A span that has not ended.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSpan {
    /// What it becomes when it ends.
    pub kind: SpanKind,
    /// The name of the tool or step.
    pub name: String,
    /// The id of the span around it; `None` if that is the run.
    pub parent: Option<String>,
    /// The start.
    pub started: Timestamp,
    /// The time of the first streamed token, of a model call.
    pub first_token: Option<Timestamp>,
    /// The digest of the arguments, of a tool call; see [`arguments_hash`](crate::arguments_hash).
    pub arguments_hash: Option<String>,
    /// The id that the model assigned to the tool call.
    pub operation_id: Option<String>,
    /// The requested model, of a model call.
    pub model: Option<String>,
    /// The provider of the model.
    pub provider: Option<String>,
}

/// What a span becomes when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SpanKind {
    /// A model call.
    Model,
    /// A tool call.
    Tool,
    /// A step of the task.
    Step,
    /// No event: it only wraps other spans.
    Wrapper,
}

/// What the end of a span reports besides its time.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct SpanEnd {
    /// Why it failed; `None` if it succeeded.
    pub error: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider of the model, if the start did not name it.
    pub provider: Option<String>,
    /// Input tokens.
    pub input_tokens: u64,
    /// Input tokens that came from the provider's cache; also counted in `input_tokens`.
    pub cached_input_tokens: u64,
    /// Input tokens that were written to the provider's cache; also counted in `input_tokens`.
    pub cache_write_input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// The cost, if the framework reports it.
    pub cost_usd: Option<Usd>,
    /// The id that the model assigned to the tool call, if only the end reports it.
    pub operation_id: Option<String>,
}

/// Maximum number of wrappers around a span that are looked through for a reported one. The spans of invalid input may be
/// each other's parents.
const MAX_DEPTH: usize = 256;

impl OpenSpans {
    /// Returns the spans with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OpenSpan)> {
        self.spans.iter().map(|(id, span)| (&**id, span))
    }

    pub(super) fn reported_parent<'a>(&'a self, span: &'a OpenSpan) -> Option<&'a str> {
        self.reported(span.parent.as_deref())
    }

    /// Returns the nearest span from `id` outwards that becomes an event; `None` if that is the run.
    pub(super) fn reported<'a>(&'a self, id: Option<&'a str>) -> Option<&'a str> {
        let entry = |id: &'a str| Some((id, self.spans.get(id)?));
        let around = std::iter::successors(id.and_then(entry), |(_, span)| span.parent.as_deref().and_then(entry));
        around.take(MAX_DEPTH).find(|(_, span)| span.kind != SpanKind::Wrapper).map(|(id, _)| id)
    }
}

impl OpenSpan {
    /// Creates a span directly below its run.
    pub fn new(kind: SpanKind, name: impl Into<String>, started: Timestamp) -> Self {
        Self {
            kind,
            name: name.into(),
            parent: None,
            started,
            first_token: None,
            arguments_hash: None,
            operation_id: None,
            model: None,
            provider: None,
        }
    }

    /// Returns the approximate size in memory, in bytes, with the id and the key of the run in the index.
    pub(super) fn bytes(&self, id: &str, run: &str) -> isize {
        let texts = [&self.parent, &self.arguments_hash, &self.operation_id, &self.model, &self.provider];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        (size_of::<Self>() + 2 * id.len() + run.len() + self.name.len() + texts).cast_signed()
    }

    /// Returns the event of the span, unless it only wraps others.
    pub(super) fn ended(&self, time: Timestamp, end: SpanEnd, attempt: Option<u32>, step_kind: &str) -> Option<Event> {
        let mut error = end.error;
        StringLimiter::default().texts(&mut error);
        let duration_ms = Some(time.millis_since(self.started));
        Some(match self.kind {
            SpanKind::Wrapper => return None,
            SpanKind::Tool => {
                let mut call = ToolCall::new(&self.name).with_error(error);
                call.arguments_hash.clone_from(&self.arguments_hash);
                call.operation_id = end.operation_id.or_else(|| self.operation_id.clone());
                (call.attempt, call.duration_ms) = (attempt, duration_ms);
                call.into()
            }
            SpanKind::Step => {
                let mut step = StepFinished::new(&self.name, step_kind).with_error(error);
                step.duration_ms = duration_ms;
                step.into()
            }
            SpanKind::Model => {
                let mut call = LlmCall::new(end.model.or_else(|| self.model.clone())).with_error(error);
                call.provider = self.provider.clone().or(end.provider);
                call.input_tokens = end.input_tokens;
                call.cached_input_tokens = end.cached_input_tokens;
                call.cache_write_input_tokens = end.cache_write_input_tokens;
                call.output_tokens = end.output_tokens;
                call.cost_usd = end.cost_usd;
                call.operation_id = end.operation_id.or_else(|| self.operation_id.clone());
                (call.attempt, call.duration_ms) = (attempt, duration_ms);
                call.first_token_ms = self.first_token.map(|first| first.millis_since(self.started));
                call.into()
            }
        })
    }
}
