use std::time::Duration;

use crate::hash::{stable_hash, stable_id};
use crate::{AgentEvent, Event, SpanId, Timestamp, TraceId};

/// An event as a span of a trace: ids, parent, times and error, the same for every backend.
///
/// Ids of the event are kept; missing ids are derived from the task and the event, so that an event sent twice is the
/// same span. The default parent of a span is the span of its task.
///
/// ```
/// use sre_core::{AgentEvent, EventSpan};
/// let line = br#"{"event":"tool_call","time":12.5,"agent":"a","task":"t","tool":"search","duration_ms":500}"#;
/// let event = AgentEvent::from_json(line)?;
/// let span = EventSpan::of(&event).unwrap();
/// assert_eq!(span.start.as_secs(), 12);
/// assert_eq!(EventSpan::of(&event), Some(span), "the same event is the same span");
/// # Ok::<(), sre_core::InvalidEvent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventSpan<'a> {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The parent span; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// Start time.
    pub start: Timestamp,
    /// End time.
    pub end: Timestamp,
    /// Whether it is the span of a whole task.
    pub is_task: bool,
    /// Whether it succeeded; `None` for an event without an outcome.
    pub outcome: Option<bool>,
    /// The error, if the event has one.
    pub error: Option<&'a str>,
}

impl<'a> EventSpan<'a> {
    /// Returns the span of an event, or `None` for events that are no spans for a backend: starts of tasks (the end has the whole
    /// span), heartbeats, unknown events, and spans that are no other event.
    pub fn of(event: &'a AgentEvent) -> Option<Self> {
        let error = match &event.event {
            Event::TaskStarted(_) | Event::Heartbeat(_) | Event::SpanFinished(_) | Event::Unknown(_) => return None,
            Event::TaskFinished(task) => task.error.as_deref(),
            Event::StepFinished(step) => step.error.as_deref(),
            Event::LlmCall(call) => call.error.as_deref(),
            Event::ToolCall(call) => call.error.as_deref(),
            Event::HttpRequest(request) => request.error.as_deref(),
            _ => None,
        };
        Some(Self::new(event, matches!(event.event, Event::TaskFinished(_)), error))
    }

    /// Returns the span that the start of a task opens, which has the ids of the span of its end. Returns `None` for other
    /// events, and for a task without any id.
    pub fn started(event: &'a AgentEvent) -> Option<Self> {
        let is_start = matches!(event.event, Event::TaskStarted(_)) && !event.task_key().is_empty();
        is_start.then(|| Self::new(event, true, None))
    }

    pub(crate) fn new(event: &'a AgentEvent, is_task: bool, error: Option<&'a str>) -> Self {
        let key = event.task_key();
        let task_span = || SpanId::derived(&["task-span", &event.agent, &key]);
        Self {
            trace_id: trace_id(event),
            span_id: event.span_id.unwrap_or_else(|| {
                if is_task && !key.is_empty() { task_span() } else { SpanId::first_half(digest_of(event)) }
            }),
            parent_span_id: event.parent_span_id.or_else(|| (!is_task && !key.is_empty()).then(task_span)),
            start: event.time.saturating_sub(duration(event.event.duration_ms())),
            end: event.time,
            is_task,
            outcome: event.event.outcome(),
            error,
        }
    }
}

fn trace_id(event: &AgentEvent) -> TraceId {
    let key = event.task_key();
    event.trace_id.or_else(|| event.native_id.as_deref().map(TraceId::from_native)).unwrap_or_else(|| {
        let id = if key.is_empty() { digest_of(event) } else { stable_id(&["task", &event.agent, &key]) };
        TraceId::from_bytes(id).expect("a stable id is never all zero")
    })
}

fn duration(ms: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(ms.unwrap_or(0.0) / 1e3).unwrap_or_default()
}

fn digest_of(event: &AgentEvent) -> [u8; 16] {
    // Only unknown events cannot be serialized, and they are not spans.
    let json = serde_json::to_vec(event).unwrap_or_default();
    u128::from_be_bytes(stable_hash(&[&json])).max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(json: &str) -> Option<EventSpan<'static>> {
        let json = format!(r#"{{"time":100,"agent":"a",{json}}}"#);
        let event = Box::leak(Box::new(AgentEvent::from_json(json.as_bytes()).unwrap()));
        EventSpan::of(event)
    }

    #[test]
    fn spans_of_a_task_are_one_tree() {
        let root =
            span(r#""task":"t","event":"task_finished","success":false,"error":"e","duration_ms":2000"#).unwrap();
        let child = span(r#""task":"t","event":"llm_call","duration_ms":1000"#).unwrap();
        let other = span(r#""task":"u","event":"llm_call","duration_ms":1000"#).unwrap();
        assert_eq!((root.is_task, root.parent_span_id, root.error), (true, None, Some("e")));
        assert_eq!(child.parent_span_id, Some(root.span_id));
        assert_eq!(child.trace_id, root.trace_id);
        assert_eq!((root.start.as_secs(), child.start.as_secs(), child.end.as_secs()), (98, 99, 100));
        assert!(other.trace_id != root.trace_id && other.parent_span_id != Some(root.span_id));
    }

    #[test]
    fn the_start_and_the_end_of_a_task_are_the_same_span() {
        let event = |json: &str| AgentEvent::from_json(json.as_bytes()).unwrap();
        let start = event(r#"{"time":100,"agent":"a","task":"t","event":"task_started"}"#);
        let end =
            event(r#"{"time":102,"agent":"a","task":"t","event":"task_finished","success":true,"duration_ms":2000}"#);
        let (start, end) = (EventSpan::started(&start).unwrap(), EventSpan::of(&end).unwrap());
        assert_eq!((start.trace_id, start.span_id, start.start), (end.trace_id, end.span_id, end.start));
        assert_eq!(EventSpan::started(&event(r#"{"time":1,"agent":"a","event":"task_started"}"#)), None);
        assert_eq!(EventSpan::started(&event(r#"{"time":1,"agent":"a","task":"t","event":"heartbeat"}"#)), None);
    }

    #[test]
    fn ids_of_the_event_are_kept_and_native_ones_are_hashed() {
        let ids = |trace: &str, span_id: &str| {
            let json = format!(
                r#""event":"tool_call","tool":"x","trace_id":"{trace}","span_id":"{span_id}","parent_span_id":"{span_id}""#
            );
            span(&json).unwrap()
        };
        let kept = ids("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(kept.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((kept.span_id.to_string(), kept.parent_span_id), ("00f067aa0ba902b7".into(), Some(kept.span_id)));
        for (trace, span_id) in [("run-7", "8"), (&*"é".repeat(16), "+1+1+1+1+1+1+1+1")] {
            assert_eq!(ids(trace, span_id), ids(trace, span_id));
        }
        assert_eq!(ids("run-7", "8").trace_id, TraceId::from_native("run-7"));
        let id = u128::from_be_bytes(stable_id(&["trace", "run-7"]));
        assert_eq!(format!("{id:032x}"), "86216feff7dc49bf1c32a672b42d0f9e", "published ids never change");
    }

    #[test]
    fn what_happened_outside_of_any_task_is_a_trace_of_its_own() {
        let alone = span(r#""event":"handoff","from":"a","to":"b""#).unwrap();
        assert_eq!(alone.parent_span_id, None);
        assert_ne!(alone.trace_id, span(r#""event":"handoff","from":"a","to":"c""#).unwrap().trace_id);
        assert_eq!(span(r#""event":"heartbeat""#), None);
        assert_eq!(span(r#""event":"task_started","task":"t""#), None);
    }
}
