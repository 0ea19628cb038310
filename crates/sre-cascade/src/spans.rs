use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use sre_core::{AgentEvent, SpanId, TraceId};

/// Maps recent spans to their agents, to learn who calls whom: an agent whose span has a parent span of another agent was
/// called by that agent. Children often arrive before their parents, so either order works.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    spans: FxHashMap<Key, Span>,
    order: VecDeque<Key>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Span {
    agent: Option<u32>,
    /// Agents of child spans that arrived before this span's agent was known.
    pending_callees: Vec<u32>,
}

/// The recent spans, oldest first.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedSpans(Vec<(Key, Span)>);

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

    pub(crate) fn save(&self) -> SavedSpans {
        SavedSpans(self.order.iter().filter_map(|key| Some((*key, self.spans.get(key)?.clone()))).collect())
    }

    /// Replaces the spans by saved ones. `id_of` returns the present id of a saved target; `None` if it has none.
    pub(crate) fn restore(&mut self, saved: SavedSpans, id_of: impl Fn(u32) -> Option<u32>) {
        *self = Self::default();
        for (key, span) in saved.0 {
            let restored = self.span(key);
            restored.agent = span.agent.and_then(&id_of);
            restored.pending_callees = span.pending_callees.into_iter().filter_map(&id_of).collect();
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
        let mut restored = Spans::default();
        restored.restore(spans.save(), |id| (id != 3).then_some(id + 10));
        let mut calls = Vec::new();
        restored.record(&event(None, Some("root")), 4, |caller, callee| calls.push((caller, callee)));
        assert_eq!(calls, [(11, 4)], "saved and restored under other ids");
        for number in 0..2 * MAX_SPANS {
            spans.record(&event(Some(&number.to_string()), None), 1, |_, _| {});
        }
        assert!(spans.spans.len() <= MAX_SPANS && spans.order.len() <= MAX_SPANS);
    }
}
