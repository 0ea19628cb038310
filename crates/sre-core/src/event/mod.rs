//! Events of agents: [`AgentEvent`] has the fields that all events share, [`Event`] has a struct for each kind of
//! event.

mod bounded;
mod id;
mod kind;
mod limit;
mod payload;
mod ranges;
mod reader;
mod recorded_span;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use self::id::{InvalidId, SpanId, TraceId};
pub use self::kind::EventKind;
pub use self::limit::{MAX_ATTRIBUTES, MAX_NAME_BYTES, MAX_TEXT_BYTES, StringLimiter};
pub use self::payload::{
    Evaluation, Handoff, Heartbeat, HttpRequest, LlmCall, Message, PolicyCheck, SpanFinished, StepFinished,
    TaskFinished, TaskStarted, ToolCall, UnknownEvent,
};
pub use self::ranges::InvalidField;
pub use self::recorded_span::RecordedSpan;
use crate::hash::stable_hash;
use crate::{Timestamp, Usd};

/// An event of an agent: one line of agent-sre's native JSON Lines format.
///
/// When reading, unknown fields are skipped, and an unknown event becomes [`Event::Unknown`].
///
/// ```
/// use sre_core::AgentEvent;
/// let line = br#"{"event":"tool_call","time":1790000000.5,"agent":"support","tool":"search","success":true}"#;
/// let event = AgentEvent::from_json(line).unwrap();
/// assert_eq!(event.agent, "support");
/// assert_eq!(event.event.outcome(), Some(true));
/// ```
///
/// In a program, constructors take the required fields; all others are public fields:
///
/// ```
/// use sre_core::event::ToolCall;
/// use sre_core::{AgentEvent, Timestamp};
/// let mut call = ToolCall::new("search").with_error(Some("timed out".to_owned()));
/// call.duration_ms = Some(30_000.0);
/// let event = AgentEvent::new(Timestamp::from_secs(1_790_000_000), "support", call).of_task("task-1");
/// assert_eq!(event.event.outcome(), Some(false));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AgentEvent {
    /// When it happened; for an event with a duration, when it ended.
    pub time: Timestamp,
    /// The agent; `default` if the input names none.
    pub agent: String,
    /// The task it belongs to. Required to distinguish runs that overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The trace it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The span of the event. Events created from the same span share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// The parent span, from which it was called: the nearest that has events of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// The span as its source recorded it, if the event was made of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Box<RecordedSpan>>,
    /// The framework's own id of the run, call or trace, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_id: Option<String>,
    /// Further attributes, such as `team`, `confidence` or `incomplete`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// The kind of event, with its fields.
    #[serde(flatten)]
    pub event: Event,
}

/// The kinds of events. Durations are in milliseconds, at least 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A task began.
    TaskStarted(TaskStarted),
    /// A task ended.
    TaskFinished(TaskFinished),
    /// A step of a task ended: a node, an agent's task, a plan's step, a plugin.
    StepFinished(StepFinished),
    /// A call of a language model ended.
    LlmCall(LlmCall),
    /// A call of a tool ended.
    ToolCall(ToolCall),
    /// One agent passed the task on to another.
    Handoff(Handoff),
    /// A message was added to the conversation.
    Message(Message),
    /// A policy or guardrail was checked.
    PolicyCheck(PolicyCheck),
    /// An answer was evaluated.
    Evaluation(Evaluation),
    /// An HTTP request ended.
    HttpRequest(HttpRequest),
    /// The agent is alive.
    Heartbeat(Heartbeat),
    /// A span ended that is no other event, such as the request of a protocol. It completes the tree of its trace.
    SpanFinished(SpanFinished),
    /// An event of a later version or another tool. Adapters count it and emit nothing.
    #[serde(skip)]
    Unknown(UnknownEvent),
}

/// A line that is not a valid event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// Invalid JSON, or JSON that is not an event; the message names the column.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl AgentEvent {
    /// Creates an event with only the required fields.
    pub fn new(time: Timestamp, agent: impl Into<String>, event: impl Into<Event>) -> Self {
        Self {
            time,
            agent: agent.into(),
            task: None,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            span: None,
            native_id: None,
            attributes: BTreeMap::new(),
            event: event.into(),
        }
    }

    /// Sets the task.
    #[must_use]
    pub fn of_task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Parses one line of JSON Lines.
    pub fn from_json(line: &[u8]) -> Result<Self, InvalidEvent> {
        // Validating the whole line as UTF-8 avoids validating each string. For invalid UTF-8, the JSON parser returns
        // the error.
        Ok(match std::str::from_utf8(line) {
            Ok(line) => serde_json::from_str(line)?,
            Err(_) => serde_json::from_slice(line)?,
        })
    }

    /// Returns true for a task that was closed because it never reported its end.
    pub fn is_incomplete(&self) -> bool {
        matches!(self.event, Event::TaskFinished(_)) && self.attributes.get("incomplete") == Some(&Value::Bool(true))
    }

    /// Returns the key that distinguishes the events of this task from those of other tasks: the task, or else the
    /// trace id, or else the framework's own id, or else an empty string.
    pub fn task_key(&self) -> Cow<'_, str> {
        match (&self.task, self.trace_id, &self.native_id) {
            (Some(task), ..) => task.into(),
            (None, Some(trace), _) => trace.to_string().into(),
            (None, None, native) => native.as_deref().unwrap_or_default().into(),
        }
    }

    /// Returns a stable hash of agent and task, as a key for tables of tasks.
    pub fn task_hash(&self) -> u128 {
        u128::from_be_bytes(stable_hash(&[self.agent.as_bytes(), self.task_key().as_bytes()]))
    }
}

impl Event {
    /// Returns the kind of event.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::TaskStarted(_) => EventKind::TaskStarted,
            Self::TaskFinished(_) => EventKind::TaskFinished,
            Self::StepFinished(_) => EventKind::StepFinished,
            Self::LlmCall(_) => EventKind::LlmCall,
            Self::ToolCall(_) => EventKind::ToolCall,
            Self::Handoff(_) => EventKind::Handoff,
            Self::Message(_) => EventKind::Message,
            Self::PolicyCheck(_) => EventKind::PolicyCheck,
            Self::Evaluation(_) => EventKind::Evaluation,
            Self::HttpRequest(_) => EventKind::HttpRequest,
            Self::Heartbeat(_) => EventKind::Heartbeat,
            Self::SpanFinished(_) => EventKind::SpanFinished,
            Self::Unknown(_) => EventKind::Unknown,
        }
    }

    /// Returns true for an evaluation or a policy check, which backends show as scores of what they assess.
    pub const fn is_assessment(&self) -> bool {
        matches!(self, Self::Evaluation(_) | Self::PolicyCheck(_))
    }

    /// Returns whether it succeeded, or `None` for an event without an outcome.
    ///
    /// An evaluation without `passed` passes at a score of at least 0.5 or, for metrics of harm (`hallucination` and
    /// `toxicity`), below 0.5. An HTTP request succeeded if it has no error and no status of 400 or above.
    pub fn outcome(&self) -> Option<bool> {
        match self {
            Self::TaskFinished(task) => Some(task.success),
            Self::StepFinished(step) => Some(step.success),
            Self::LlmCall(call) => Some(call.success),
            Self::ToolCall(call) => Some(call.success),
            Self::PolicyCheck(check) => Some(check.compliant),
            Self::Evaluation(evaluation) => {
                let of_harm = matches!(evaluation.metric.as_str(), "hallucination" | "toxicity");
                evaluation.passed.or(evaluation.score.map(|score| (score >= 0.5) != of_harm))
            }
            Self::HttpRequest(request) => {
                Some(request.error.is_none() && request.status_code.is_none_or(|code| code < 400))
            }
            _ => None,
        }
    }

    /// Returns the duration, in milliseconds.
    pub const fn duration_ms(&self) -> Option<f64> {
        match self {
            Self::TaskFinished(task) => task.duration_ms,
            Self::StepFinished(step) => step.duration_ms,
            Self::LlmCall(call) => call.duration_ms,
            Self::ToolCall(call) => call.duration_ms,
            Self::SpanFinished(span) => span.duration_ms,
            _ => None,
        }
    }

    /// Returns the cost, if the source reports one.
    pub const fn cost_usd(&self) -> Option<Usd> {
        match self {
            Self::TaskFinished(task) => task.cost_usd,
            Self::LlmCall(call) => call.cost_usd,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::kind::KINDS;
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
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"llm_call","model":"m","input_tokens":3,"cached_input_tokens":1,"cache_write_input_tokens":2,"output_tokens":2,"success":true,"first_token_ms":7.0,"attempt":2,"operation_id":"o"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"tool_call","tool":"t","success":true,"correct":false,"attempt":1,"operation_id":"o"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"handoff","from":"x","to":"y","depth":2}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","parent_span_id":"eee19b7ec3c1b173","native_id":"run-1","event":"message","sender":"s"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"policy_check","policy":"p","compliant":true}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"evaluation","metric":"m","score":0.5,"confidence":1.0}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","event":"http_request","url":"u","status_code":500}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","attributes":{"team":"x"},"event":"heartbeat"}"#,
            r#"{"time":"2026-11-23T03:00:23Z","agent":"a","span":{"name":"n","role":"server","parent_span_id":"eee19b7ec3c1b173","agent":"b","service":"s","task":"t","call_id":"c","request_id":"7","start":"2026-11-23T03:00:22Z","failed":true,"attempt":2},"event":"span_finished","error":"e","duration_ms":1.5}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(json).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn invalid_values_are_rejected_with_the_name_of_their_field() {
        for (fields, named) in [
            (r#""event":"task_finished","success":true,"duration_ms":-1"#, "duration_ms"),
            (r#""event":"llm_call","cost_usd":-0.5"#, "cost_usd"),
            (r#""event":"llm_call","cost_usd":"9223372036""#, "`cost_usd`: found 9223372036"),
            (r#""event":"task_finished","success":true,"cost_usd":100000.01"#, "`cost_usd`: found 100000.01"),
            (r#""event":"llm_call","input_tokens":18446744073709551615"#, "`input_tokens`: found 18446744073709551615"),
            (
                r#""event":"handoff","from":"a","to":"b","depth":4294967295"#,
                "`depth`: found 4294967295, expected at most 1000",
            ),
            (r#""event":"llm_call","output_tokens":1000000001"#, "`output_tokens`: found 1000000001"),
            (r#""event":"llm_call","cached_input_tokens":1000000001"#, "`cached_input_tokens`: found 1000000001"),
            (
                r#""event":"llm_call","cache_write_input_tokens":1000000001"#,
                "`cache_write_input_tokens`: found 1000000001",
            ),
            (r#""event":"heartbeat","trace_id":"00000000000000000000000000000000""#, "`trace_id`: found only zeros"),
            (r#""event":"heartbeat","span_id":"0000000000000000""#, "`span_id`: found only zeros"),
            (r#""event":"llm_call","cost_usd":"much""#, "amount of dollars"),
            (r#""event":"task_finished""#, "success"),
            (r#""event":"tool_call","tool":"t","attempt":0"#, "attempt"),
            (r#""event":"evaluation","metric":"m""#, "score"),
            (r#""event":"evaluation","metric":"m","score":1,"confidence":1.5"#, "confidence"),
        ] {
            let error = read(&format!(r#"{{"time":1790000000,"agent":"a",{fields}}}"#)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(read(r#"{"event":"heartbeat","time":"soon"}"#).is_err());
        assert!(read(r#"{"event":"heartbeat"}"#).unwrap_err().to_string().contains("`time`"));
        assert!(read(r#"{"time":1}"#).unwrap_err().to_string().contains("`event`"));
        assert!(read(r#"{"event":"message","event":"message","time":1,"sender":"s"}"#).is_err(), "a field twice");
    }

    #[test]
    fn fields_are_read_in_any_order() {
        let first = r#"{"event":"tool_call","time":1,"agent":"a","tool":"t","success":false,"error":"e","duration_ms":1.25,"attributes":{"k":[1]}}"#;
        let last = r#"{"tool":"t","duration_ms":1.25,"success":false,"attributes":{"k":[1]},"error":"e","agent":"a","time":1,"event":"tool_call"}"#;
        assert_eq!(read(first).unwrap(), read(last).unwrap());
        let error = read(r#"{"duration_ms":"slow","time":1,"tool":"t","event":"tool_call"}"#).unwrap_err().to_string();
        assert!(error.contains("expected f64"), "{error}");
    }

    #[test]
    fn values_of_any_size_take_little_memory() {
        // The content of lists and objects before `event` is skipped; no field of an event holds one.
        let skipped = read(r#"{"x":[1,[2]],"y":{"a":{}},"time":1,"event":"heartbeat"}"#).unwrap();
        assert_eq!(skipped.event.kind(), EventKind::Heartbeat);
        let error = read(r#"{"duration_ms":[1],"time":1,"tool":"t","event":"tool_call"}"#).unwrap_err().to_string();
        assert!(error.contains("invalid type: sequence, expected f64"), "{error}");
        let many: String = (0..257).map(|number| format!(r#""f{number}":0,"#)).collect();
        let error = read(&format!(r#"{{{many}"time":1,"event":"heartbeat"}}"#)).unwrap_err().to_string();
        assert!(error.contains("more than 256 fields before `event`"), "{error}");

        let with_attributes =
            |attributes: &str| read(&format!(r#"{{"event":"heartbeat","time":1,"attributes":{attributes}}}"#));
        let nested = r#"{"a":[1,-2.5,null,true,"t"],"b":{"c":{}},"d":18446744073709551615}"#;
        let attributes = with_attributes(nested).unwrap().attributes;
        assert_eq!(serde_json::to_value(attributes).unwrap(), serde_json::from_str::<Value>(nested).unwrap());
        let list = |length: usize| format!(r#"{{"a":[{}]}}"#, vec!["{}"; length].join(","));
        assert!(with_attributes(&list(999)).is_ok());
        for too_many in
            [list(1_000), "[".repeat(100) + "]", format!(r#"{{"a":{{{}"z":0}}}}"#, r#""k":{},"#.repeat(1_000))]
        {
            assert!(with_attributes(&too_many).is_err());
        }
        let error = with_attributes(&list(1_000)).unwrap_err().to_string();
        assert!(error.contains("`attributes`: found more than 1000 values"), "{error}");
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let nulls = r#"{"event":"llm_call","time":1,"agent":null,"task":null,"trace_id":null,"attributes":null,"model":null,"input_tokens":null,"success":null,"error":null}"#;
        assert_eq!(read(nulls).unwrap(), AgentEvent::new(Timestamp::from_secs(1), "default", LlmCall::new(None)));
        let failed =
            read(r#"{"event":"step_finished","time":1,"name":"n","kind":null,"success":null,"error":"e"}"#).unwrap();
        assert_eq!(failed.event, StepFinished::new("n", "step").with_error(Some("e".to_owned())).into());
    }

    #[test]
    fn ids_that_are_not_those_of_the_trace_context_still_keep_tasks_and_spans_apart() {
        let heartbeat = |fields: &str| read(&format!(r#"{{"event":"heartbeat","time":1,{fields}}}"#)).unwrap();
        let child = heartbeat(r#""trace_id":"run-17","span_id":"2","parent_span_id":"1""#);
        let root = heartbeat(r#""span_id":"1","trace_id":"run-17""#);
        let of_other_run = heartbeat(r#""trace_id":"run-18","span_id":"1""#);
        assert_eq!((child.trace_id, child.native_id.as_deref(), &*child.task_key()), (None, Some("run-17"), "run-17"));
        assert_eq!(child.parent_span_id, root.span_id);
        assert!(root.span_id.is_some() && root.span_id != of_other_run.span_id);
        let root = heartbeat(r#""span_id":"1","parent_span_id":"0000000000000000""#);
        assert_eq!(root.parent_span_id, None, "several tools write zeros where there is no parent");
        let trace = heartbeat(r#""trace_id":"5b8efff798038103d269b633813fc60c""#);
        assert_eq!(trace.task_key(), "5b8efff798038103d269b633813fc60c");
        assert_ne!(trace.task_hash(), child.task_hash());
    }

    #[test]
    fn unknown_events_and_fields_are_not_fatal() {
        let event = read(r#"{"event":"moon_landing","time":1,"agent":"a","x":[1,{"y":2}]}"#).unwrap();
        assert_eq!(event.event, Event::Unknown(UnknownEvent::new("moon_landing")));
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
            let event = Event::from(Evaluation::new(metric, None, Some(score)));
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
