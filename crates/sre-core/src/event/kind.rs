use std::fmt;
use std::str::FromStr;

use crate::InvalidName;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the event of the same name")]
pub enum EventKind {
    TaskStarted,
    TaskFinished,
    StepFinished,
    LlmCall,
    ToolCall,
    Handoff,
    Message,
    PolicyCheck,
    Evaluation,
    HttpRequest,
    Heartbeat,
    SpanFinished,
    Unknown,
}

pub(super) const KINDS: [(EventKind, &str); 12] = [
    (EventKind::TaskStarted, "task_started"),
    (EventKind::TaskFinished, "task_finished"),
    (EventKind::StepFinished, "step_finished"),
    (EventKind::LlmCall, "llm_call"),
    (EventKind::ToolCall, "tool_call"),
    (EventKind::Handoff, "handoff"),
    (EventKind::Message, "message"),
    (EventKind::PolicyCheck, "policy_check"),
    (EventKind::Evaluation, "evaluation"),
    (EventKind::HttpRequest, "http_request"),
    (EventKind::Heartbeat, "heartbeat"),
    (EventKind::SpanFinished, "span_finished"),
];

impl EventKind {
    /// Returns the name, such as `llm_call`.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("unknown", |(_, name)| name)
    }

    /// Returns true for the kinds that have an [`outcome`](crate::Event::outcome).
    pub const fn has_outcome(self) -> bool {
        matches!(
            self,
            Self::TaskFinished
                | Self::StepFinished
                | Self::LlmCall
                | Self::ToolCall
                | Self::PolicyCheck
                | Self::Evaluation
                | Self::HttpRequest
        )
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let found = KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
        found.ok_or_else(|| InvalidName::new(name, KINDS.map(|(_, known)| known)))
    }
}
