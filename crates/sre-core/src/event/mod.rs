pub mod compact;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use self::wire::Wire;
use crate::{Timestamp, Usd};

/// Something an agent did, at a time: one line of the workspace's own format, JSON Lines.
///
/// Fields that this version does not know are passed over; an event it does not know becomes [`Event::Unknown`].
///
/// ```
/// use sre_core::{AgentEvent, Event};
/// let line = br#"{"event":"tool_call","time":1790000000.5,"agent":"support","tool":"search","success":true}"#;
/// let event = AgentEvent::from_json(line).unwrap();
/// assert_eq!(event.agent, "support");
/// assert_eq!(event.event.outcome(), Some(true));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentEvent {
    /// When it happened; for whatever has a duration, when it ended.
    pub time: Timestamp,
    /// Who did it; `default` where the input does not say.
    pub agent: String,
    /// The task it belongs to. Events of runs that overlap need it to be kept apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// W3C trace id, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// W3C span id, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// The span this one was called from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    /// Whatever else is known: `team`, `confidence`, `incomplete`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen to an agent. Durations are milliseconds, at least 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields say what they are; their units stand above")]
pub enum Event {
    /// A task began.
    TaskStarted {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A task ended.
    TaskFinished {
        success: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_ms: Option<f64>,
        /// What the whole task cost, where the source says so itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        cost_usd: Option<Usd>,
    },
    /// A step of a task ended: a node, an agent's task, a plan's step, a plugin.
    StepFinished {
        name: String,
        kind: String,
        success: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_ms: Option<f64>,
    },
    /// A call of a language model ended.
    LlmCall {
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        input_tokens: u64,
        /// Those of the input tokens that came from the provider's cache.
        cached_input_tokens: u64,
        output_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        cost_usd: Option<Usd>,
        success: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_ms: Option<f64>,
        /// From the call's start to the first token that was streamed.
        #[serde(skip_serializing_if = "Option::is_none")]
        first_token_ms: Option<f64>,
    },
    /// A call of a tool ended.
    ToolCall {
        tool: String,
        /// A digest of the canonical JSON of the arguments; see [`arguments_hash`](crate::arguments_hash).
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments_hash: Option<String>,
        success: bool,
        /// Whether it was the right tool, where somebody knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        correct: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_ms: Option<f64>,
    },
    /// One agent passed the task on to another.
    Handoff {
        from: String,
        to: String,
        /// How many hand-offs deep the task is now.
        depth: u32,
    },
    /// A message went into the conversation.
    Message { sender: String },
    /// A policy or guardrail was checked.
    PolicyCheck { policy: String, compliant: bool },
    /// An answer was judged.
    Evaluation {
        metric: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        passed: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        score: Option<f64>,
        /// How sure the judge is, 0 to 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
    },
    /// An HTTP request ended.
    HttpRequest {
        url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        status_code: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The agent is alive.
    Heartbeat,
    /// An event of a later version or another tool: counted, otherwise passed over.
    #[serde(skip)]
    Unknown {
        /// The name it came with.
        name: String,
    },
}

/// The name of an event without its fields.
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
    Unknown,
}

/// A line that is no event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// Not the JSON of an event; the message has the column.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl AgentEvent {
    /// An event with nothing optional set.
    pub fn new(time: Timestamp, agent: impl Into<String>, event: Event) -> Self {
        Self {
            time,
            agent: agent.into(),
            task: None,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            attributes: BTreeMap::new(),
            event,
        }
    }

    /// The same event, of `task`.
    #[must_use]
    pub fn of_task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Reads one line of JSON Lines.
    pub fn from_json(line: &[u8]) -> Result<Self, InvalidEvent> {
        // Checked as a whole, a line's texts need no check each; what is no UTF-8 gets its error from the reader.
        Ok(match std::str::from_utf8(line) {
            Ok(line) => serde_json::from_str(line)?,
            Err(_) => serde_json::from_slice(line)?,
        })
    }

    /// True for a task that was closed because its end never came.
    pub fn is_incomplete(&self) -> bool {
        matches!(self.event, Event::TaskFinished { .. })
            && self.attributes.get("incomplete") == Some(&Value::Bool(true))
    }

    /// What keeps this task's events apart from another's: the task, else the trace, else nothing.
    pub fn task_key(&self) -> &str {
        self.task.as_deref().or(self.trace_id.as_deref()).unwrap_or_default()
    }
}

impl Event {
    /// The name of the event.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::TaskStarted { .. } => EventKind::TaskStarted,
            Self::TaskFinished { .. } => EventKind::TaskFinished,
            Self::StepFinished { .. } => EventKind::StepFinished,
            Self::LlmCall { .. } => EventKind::LlmCall,
            Self::ToolCall { .. } => EventKind::ToolCall,
            Self::Handoff { .. } => EventKind::Handoff,
            Self::Message { .. } => EventKind::Message,
            Self::PolicyCheck { .. } => EventKind::PolicyCheck,
            Self::Evaluation { .. } => EventKind::Evaluation,
            Self::HttpRequest { .. } => EventKind::HttpRequest,
            Self::Heartbeat => EventKind::Heartbeat,
            Self::Unknown { .. } => EventKind::Unknown,
        }
    }

    /// Whether it went well; `None` for an event that can go neither way.
    ///
    /// An evaluation without `passed` passes at a score of 0.5 or more, or below it where the metric is one of harm. An
    /// HTTP request went well with a status below 400 and no error.
    pub fn outcome(&self) -> Option<bool> {
        match self {
            Self::TaskFinished { success, .. }
            | Self::StepFinished { success, .. }
            | Self::LlmCall { success, .. }
            | Self::ToolCall { success, .. } => Some(*success),
            Self::PolicyCheck { compliant, .. } => Some(*compliant),
            Self::Evaluation { metric, passed, score, .. } => {
                let of_harm = matches!(metric.as_str(), "hallucination" | "toxicity");
                passed.or(score.map(|score| (score >= 0.5) != of_harm))
            }
            Self::HttpRequest { status_code, error, .. } => {
                Some(error.is_none() && status_code.is_none_or(|code| code < 400))
            }
            _ => None,
        }
    }

    /// How long it took, in milliseconds.
    pub const fn duration_ms(&self) -> Option<f64> {
        match self {
            Self::TaskFinished { duration_ms, .. }
            | Self::StepFinished { duration_ms, .. }
            | Self::LlmCall { duration_ms, .. }
            | Self::ToolCall { duration_ms, .. } => *duration_ms,
            _ => None,
        }
    }

    /// What it cost, where the source says so.
    pub const fn cost_usd(&self) -> Option<Usd> {
        match self {
            Self::TaskFinished { cost_usd, .. } | Self::LlmCall { cost_usd, .. } => *cost_usd,
            _ => None,
        }
    }
}

const KINDS: [(EventKind, &str); 11] = [
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
];

impl EventKind {
    /// True for the kinds whose [`Event::outcome`] is known.
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
        f.write_str(KINDS.iter().find(|(kind, _)| kind == self).map_or("unknown", |(_, name)| name))
    }
}

impl FromStr for EventKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind).ok_or(())
    }
}

impl<'de> Deserialize<'de> for AgentEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer)?.into_event().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<AgentEvent, InvalidEvent> {
        AgentEvent::from_json(json.as_bytes())
    }

    #[test]
    fn every_kind_round_trips() {
        for json in [
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","task":"t","event":"task_started","name":"n"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"task_finished","success":false,"error":"e","duration_ms":1.5,"cost_usd":"0.1"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"step_finished","name":"n","kind":"node","success":true}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"llm_call","model":"m","input_tokens":3,"cached_input_tokens":1,"output_tokens":2,"success":true,"first_token_ms":7.0}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"tool_call","tool":"t","success":true,"correct":false}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"handoff","from":"x","to":"y","depth":2}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"message","sender":"s"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"policy_check","policy":"p","compliant":true}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"evaluation","metric":"m","score":0.5,"confidence":1.0}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"http_request","url":"u","status_code":500}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","attributes":{"team":"x"},"event":"heartbeat"}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(json).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for (fields, named) in [
            (r#""event":"task_finished","success":true,"duration_ms":-1"#, "duration_ms"),
            (r#""event":"llm_call","cost_usd":-0.5"#, "cost_usd"),
            (r#""event":"llm_call","cost_usd":"much""#, "amount of dollars"),
            (r#""event":"task_finished""#, "success"),
            (r#""event":"evaluation","metric":"m""#, "score"),
            (r#""event":"evaluation","metric":"m","score":1,"confidence":1.5"#, "confidence"),
        ] {
            let error = read(&format!(r#"{{"time":1790000000,"agent":"a",{fields}}}"#)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(read(r#"{"event":"heartbeat","time":"soon"}"#).is_err());
    }

    #[test]
    fn unknown_events_and_fields_are_not_fatal() {
        let event = read(r#"{"event":"moon_landing","time":1,"agent":"a","x":[1,{"y":2}]}"#).unwrap();
        assert_eq!(event.event, Event::Unknown { name: "moon_landing".to_owned() });
        assert_eq!(read(r#"{"event":"heartbeat","time":1,"y":{"z":null}}"#).unwrap().agent, "default");
    }

    #[test]
    fn a_score_passes_from_one_half_on_unless_it_measures_harm() {
        for (metric, score, passes) in [
            ("relevance", 0.5, true),
            ("relevance", 0.4, false),
            ("hallucination", 0.5, false),
            ("toxicity", 0.4, true),
        ] {
            let event =
                Event::Evaluation { metric: metric.to_owned(), passed: None, score: Some(score), confidence: None };
            assert_eq!(event.outcome(), Some(passes), "{metric} {score}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = AgentEvent::from_json(&bytes);
        }

        #[test]
        fn arbitrary_values_never_panic(
            name in prop::sample::select(KINDS.map(|(_, name)| name).to_vec()),
            field in prop::sample::select(vec!["time", "duration_ms", "cost_usd", "success", "depth", "attributes"]),
            value in prop::sample::select(vec!["null", "-1", "1e308", "\"x\"", "[]", "{}", "true", "18446744073709551615"]),
        ) {
            let _ = read(&format!(r#"{{"event":"{name}","time":1,"{field}":{value}}}"#));
            let _ = read(&format!(r#"{{"event":"{name}","{field}":{value}}}"#));
        }
    }
}
