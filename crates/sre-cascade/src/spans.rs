use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use sre_core::{AgentEvent, SpanId, TraceId};

/// Which agent each of the last spans belongs to: an event whose parent span is another agent's was called by that one.
/// Children often come before their parents, so both ways round are waited for.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    spans: FxHashMap<Key, Span>,
    order: VecDeque<Key>,
}

#[derive(Debug, Default)]
struct Span {
    agent: Option<u32>,
    /// Agents with a span below this one, whose own agent is not known yet.
    waiting: Vec<u32>,
}

/// A span is unique within its trace only.
type Key = (Option<TraceId>, SpanId);

const MAX_SPANS: usize = 65_536;
const MAX_WAITING: usize = 64;

impl Spans {
    /// Takes in an event of `agent`; `found` gets each caller and callee that become known by it.
    pub(crate) fn learn(&mut self, event: &AgentEvent, agent: u32, mut found: impl FnMut(u32, u32)) {
        if let Some(span) = event.span_id {
            let own = self.span((event.trace_id, span));
            own.agent = Some(agent);
            own.waiting.drain(..).filter(|callee| *callee != agent).for_each(|callee| found(agent, callee));
        }
        if let Some(parent) = event.parent_span_id {
            let parent = self.span((event.trace_id, parent));
            match parent.agent {
                Some(caller) if caller != agent => found(caller, agent),
                Some(_) => {}
                None if parent.waiting.len() < MAX_WAITING && !parent.waiting.contains(&agent) => {
                    parent.waiting.push(agent);
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
        let mut learn = |event, agent| spans.learn(&event, agent, |caller, callee| calls.push((caller, callee)));
        learn(event(Some("child"), Some("root")), 2);
        learn(event(Some("own"), Some("root")), 1);
        learn(event(Some("root"), None), 1);
        learn(event(None, Some("child")), 3);
        assert_eq!(calls, [(1, 2), (2, 3)]);
        for number in 0..2 * MAX_SPANS {
            spans.learn(&event(Some(&number.to_string()), None), 1, |_, _| {});
        }
        assert!(spans.spans.len() <= MAX_SPANS && spans.order.len() <= MAX_SPANS);
    }
}
