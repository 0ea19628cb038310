use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{StringLimiter, TaskFinished, TaskStarted};
use crate::{AgentEvent, Event, SpanId, Timestamp, TraceId};

/// A run that has started and not ended.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenRun<S> {
    /// The agent.
    pub agent: String,
    /// The task.
    pub task: String,
    /// The start time.
    pub started: Timestamp,
    /// The trace of all events of the run.
    pub trace_id: Option<TraceId>,
    /// The span of the run itself, set on its start and end events.
    pub span_id: Option<SpanId>,
    /// The parent span, from which the run was called.
    pub parent_span_id: Option<SpanId>,
    /// The framework's own id of the run, set on its start and end events.
    pub native_id: Option<String>,
    /// The adapter's own state.
    pub state: S,
    /// The size of `state` in bytes, as its adapter has [reported](super::RunTracker::grow) it.
    #[serde(skip)]
    pub(super) state_bytes: usize,
}

impl<S> OpenRun<S> {
    /// Creates a run without ids.
    pub fn new(agent: impl Into<String>, task: impl Into<String>, started: Timestamp, state: S) -> Self {
        Self {
            agent: agent.into(),
            task: task.into(),
            started,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            native_id: None,
            state,
            state_bytes: 0,
        }
    }

    /// Shortens names of an earlier version, which had no limits.
    pub(super) fn limit_names(&mut self) {
        let names = [&mut self.agent, &mut self.task].into_iter().chain(&mut self.native_id);
        StringLimiter::default().names(names);
    }

    /// Returns the approximate size in memory, in bytes, with a key of that length.
    pub(super) fn bytes(&self, key: &str) -> usize {
        let native_id = self.native_id.as_ref().map_or(0, String::len);
        // The key is in two maps.
        size_of::<Self>() + 2 * key.len() + self.agent.len() + self.task.len() + native_id + self.state_bytes
    }

    /// Creates a run of a framework whose ids are not W3C trace context ids: the trace id and span id are derived from
    /// `native_id`.
    pub fn native(agent: impl Into<String>, native_id: &str, started: Timestamp, state: S) -> Self {
        Self {
            trace_id: Some(TraceId::from_native(native_id)),
            span_id: Some(SpanId::from_native(native_id, native_id)),
            native_id: Some(native_id.to_owned()),
            ..Self::new(agent, native_id, started, state)
        }
    }

    /// Creates an event of this run.
    pub fn event(&self, time: Timestamp, event: impl Into<Event>) -> AgentEvent {
        let mut event = AgentEvent::new(time, self.agent.clone(), event).of_task(self.task.clone());
        event.trace_id = self.trace_id;
        event
    }

    /// Creates the event of a span of this run, with the framework's ids of the span and its parent. Without a parent,
    /// the run itself is the parent.
    pub fn native_event(
        &self,
        time: Timestamp,
        native_id: &str,
        parent: Option<&str>,
        event: impl Into<Event>,
    ) -> AgentEvent {
        let mut event = self.event(time, event);
        event.span_id = Some(SpanId::from_native(&self.task, native_id));
        event.parent_span_id = parent.map(|parent| SpanId::from_native(&self.task, parent)).or(self.span_id);
        event.native_id = Some(native_id.to_owned());
        event
    }

    fn root_event(&self, time: Timestamp, event: impl Into<Event>) -> AgentEvent {
        let mut event = self.event(time, event);
        event.span_id = self.span_id;
        event.parent_span_id = self.parent_span_id;
        event.native_id.clone_from(&self.native_id);
        event
    }

    /// Returns the start event of the run.
    pub fn started(&self, name: Option<String>) -> AgentEvent {
        self.root_event(self.started, TaskStarted::new(name))
    }

    /// Returns the end event of the run at `time`. The run failed if `error` is given.
    pub fn finished(&self, time: Timestamp, error: Option<String>) -> AgentEvent {
        let mut finished = TaskFinished::new(true).with_error(error);
        finished.duration_ms = Some(time.millis_since(self.started));
        self.root_event(time, finished)
    }

    /// Returns the end event, at `time`, of a run that never reported its end: failed, and marked as incomplete.
    pub fn incomplete(&self, time: Timestamp) -> AgentEvent {
        let mut event = self.finished(time, Some("incomplete: the task never ended".to_owned()));
        event.attributes.insert("incomplete".to_owned(), Value::Bool(true));
        event
    }
}
