use serde::{Deserialize, Serialize};

use super::{SpanId, StringLimiter};
use crate::{Span, SpanRole, Timestamp};

/// The span of which an event was made, as its source recorded it.
///
/// Its parent may be a span that is no event of an agent, such as a request between two processes.
///
/// ```
/// use sre_core::{AgentEvent, Span, SpanRole};
/// let line = br#"{"event":"span_finished","time":1790000000,"agent":"a","trace_id":"5b8efff798038103d269b633813fc60c",
///     "span_id":"eee19b7ec3c1b174","duration_ms":20,"span":{"name":"tools/call search","role":"client"}}"#;
/// let span = Span::of(&AgentEvent::from_json(line)?).unwrap();
/// assert_eq!((&*span.name, span.role), ("tools/call search", SpanRole::Client));
/// # Ok::<(), sre_core::InvalidEvent>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedSpan {
    /// The name, such as `tools/call search`.
    pub name: String,
    /// Its role in a call between processes.
    #[serde(default)]
    pub role: SpanRole,
    /// The span that caused it; `None` for the root of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// The agent that the span itself names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The service that recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The task that the span itself names, such as that of A2A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The id that both sides of a call know, such as that of an A2A message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The id of the request within its connection, such as that of JSON-RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// When it started, if that is not the end of the event less its duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Whether it failed itself. What was made of it may have failed for another reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// The number of the attempt, from 1, if the span says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

impl From<&Span> for RecordedSpan {
    fn from(span: &Span) -> Self {
        let Span { name, role, parent_span_id, agent, service, task, call_id, request_id, .. } = span;
        let [agent, service, task] = [agent, service, task].map(|text| text.as_deref().map(str::to_owned));
        let (name, call_id, request_id) = (name.clone(), call_id.clone(), request_id.clone());
        let (start, failed, attempt) = (Some(span.start), span.error.is_some(), span.attempt);
        let (role, parent_span_id) = (*role, *parent_span_id);
        Self { name, role, parent_span_id, agent, service, task, call_id, request_id, start, failed, attempt }
    }
}

impl RecordedSpan {
    /// Creates a span inside a process.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Shortens strings that are too long.
    pub(super) fn limit_strings(&mut self, limiter: &mut StringLimiter) {
        limiter.name(&mut self.name);
        for text in [&mut self.agent, &mut self.service, &mut self.task, &mut self.call_id, &mut self.request_id] {
            limiter.names(text);
        }
    }

    /// Returns the size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.agent, &self.service, &self.task, &self.call_id, &self.request_id];
        size_of::<Self>() + self.name.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}
