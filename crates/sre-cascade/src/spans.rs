use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use sre_core::{AgentEvent, SpanId, TraceId};

/// Maps recent spans to their agents, to learn who calls whom: an agent whose span has a parent span of another agent was
/// called by that agent. Children often arrive before their parents, so either order works.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    spans: FxHashMap<Key, Span>,
    order: VecDeque<Key>,
}

#[derive(Debug, Default)]
struct Span {
    agent: Option<u32>,
    /// Agents of child spans that arrived before this span's agent was known.
    pending_callees: Vec<u32>,
}

/// A span is unique within its trace only.
type Key = (Option<TraceId>, SpanId);

const MAX_SPANS: usize = 65_536;
const MAX_PENDING_CALLEES: usize = 64;

impl Spans {
    /// Records the spans of an event of `agent`. Calls `on_call` with every caller and callee that it reveals.
    pub(crate) fn record(&mut self, event: &AgentEvent, agent: u32, mut on_call: impl FnMut(u32, u32)) {
        if let Some(span) = event.span_id {
            let own = self.span((event.trace_id, span));
            own.agent = Some(agent);
            own.pending_callees.drain(..).filter(|callee| *callee != agent).for_each(|callee| on_call(agent, callee));
        }
        if let Some(parent) = event.parent_span_id {
            let parent = self.span((event.trace_id, parent));
            match parent.agent {
                Some(caller) if caller != agent => on_call(caller, agent),
                Some(_) => {}
                None if parent.pending_callees.len() < MAX_PENDING_CALLEES
                    && !parent.pending_callees.contains(&agent) =>
                {
                    parent.pending_callees.push(agent);
                }
                None => {}
            }
        }
    }

    fn span(&mut self, key: Key) -> &mut Span {
        if !self.spans.contains_key(&key) {
            if self.spans.len() >= MAX_SPANS
                && let Some(oldest) = self.order.pop_front()
            {
                self.spans.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.spans.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use sre_core::Timestamp;
    use sre_core::event::Heartbeat;

    use super::*;

    fn event(span: Option<&str>, parent: Option<&str>) -> AgentEvent {
        let id = |name: &str| SpanId::from_native("t", name);
        let mut event = AgentEvent::new(Timestamp::default(), "a", Heartbeat::default());
        event.trace_id = Some(TraceId::from_native("t"));
        (event.span_id, event.parent_span_id) = (span.map(id), parent.map(id));
        event
    }

    #[test]
    fn callers_follow_from_spans_in_either_order() {
        let mut spans = Spans::default();
        let mut calls = Vec::new();
        let mut record = |event, agent| spans.record(&event, agent, |caller, callee| calls.push((caller, callee)));
        record(event(Some("child"), Some("root")), 2);
        record(event(Some("own"), Some("root")), 1);
        record(event(Some("root"), None), 1);
        record(event(None, Some("child")), 3);
        assert_eq!(calls, [(1, 2), (2, 3)]);
        for number in 0..2 * MAX_SPANS {
            spans.record(&event(Some(&number.to_string()), None), 1, |_, _| {});
        }
        assert!(spans.spans.len() <= MAX_SPANS && spans.order.len() <= MAX_SPANS);
    }
}
