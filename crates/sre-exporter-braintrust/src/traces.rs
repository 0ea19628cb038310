use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};
use sre_core::{AgentEvent, Event, EventSpan, SpanId, TraceId};

/// The roots of the last traces, and the last spans that have rows.
///
/// Braintrust shows a trace by its root row, which has no parent. A task whose parent is elsewhere, such as in a web server,
/// is therefore the root of its trace here, unless it is called by another task of the same trace. And Braintrust takes the
/// place of a row in its trace only from the first request with that row, so that a score is merged into a row only if that
/// one exists.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    roots: FxHashMap<TraceId, SpanId>,
    traces: VecDeque<TraceId>,
    rows: FxHashSet<(TraceId, SpanId)>,
    spans: VecDeque<(TraceId, SpanId)>,
}

/// Where the row of an event is in its trace.
pub(crate) struct Position {
    /// The span id of the row.
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) is_root: bool,
}

const MAX_TRACES: usize = 10_000;
const MAX_SPANS: usize = 100_000;

impl Traces {
    /// Notes the roots among spans that are sent together.
    pub(crate) fn open<'a>(&mut self, spans: impl Iterator<Item = &'a EventSpan<'a>>) {
        let mut tasks: Vec<&EventSpan<'_>> = spans.filter(|span| span.is_task).collect();
        tasks.sort_by_key(|span| (span.parent_span_id.is_some(), span.start));
        for span in tasks {
            if let Entry::Vacant(entry) = self.roots.entry(span.trace_id) {
                entry.insert(span.span_id);
                self.traces.push_back(span.trace_id);
            }
        }
        while self.traces.len() > MAX_TRACES
            && let Some(oldest) = self.traces.pop_front()
        {
            self.roots.remove(&oldest);
        }
    }

    /// Returns the root of a trace, if it is known.
    pub(crate) fn root(&self, trace: TraceId) -> Option<SpanId> {
        self.roots.get(&trace).copied()
    }

    /// Returns the position of an event's row. Events of the same span share a row, except for those that people look for:
    /// handoffs, messages, and the only call of a task, whose span is the task's.
    pub(crate) fn position(&self, event: &AgentEvent, span: &EventSpan<'_>) -> Position {
        let of_root = self.root(span.trace_id) == Some(span.span_id);
        let is_instant = matches!(event.event, Event::Handoff(_) | Event::Message(_));
        if span.is_task || !(of_root || is_instant) {
            let is_root = of_root && span.is_task;
            return Position { id: span.span_id, parent: span.parent_span_id.filter(|_| !is_root), is_root };
        }
        let id = format!("{} {}", event.event.kind(), span.span_id);
        let id = SpanId::from_native(&span.trace_id.to_string(), &id);
        Position { id, parent: if of_root { Some(span.span_id) } else { span.parent_span_id }, is_root: false }
    }

    /// Notes that a span has a row.
    pub(crate) fn sent(&mut self, trace: TraceId, span: SpanId) {
        if self.rows.insert((trace, span)) {
            self.spans.push_back((trace, span));
        }
        while self.spans.len() > MAX_SPANS
            && let Some(oldest) = self.spans.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }

    /// Returns true if a span has a row, as far as is known.
    pub(crate) fn has_row(&self, trace: TraceId, span: SpanId) -> bool {
        self.rows.contains(&(trace, span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut traces = Traces::default();
        let line = br#"{"event":"task_finished","time":1,"agent":"a","task":"t","success":true}"#;
        let event = sre_core::AgentEvent::from_json(line).unwrap();
        let mut span = EventSpan::of(&event).unwrap();
        for number in 1..=MAX_SPANS as u128 + 5 {
            span.trace_id = TraceId::from_bytes(number.to_be_bytes()).unwrap();
            traces.open(std::iter::once(&span));
            traces.sent(span.trace_id, span.span_id);
        }
        assert_eq!((traces.roots.len(), traces.rows.len()), (MAX_TRACES, MAX_SPANS));
        assert_eq!(traces.root(span.trace_id), Some(span.span_id));
    }
}
