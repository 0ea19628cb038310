use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};
use sre_core::AgentEvent;

/// Which agent each of the last spans belongs to: an event whose parent span is another agent's was called by that one.
/// Children often come before their parents, so both ways round are waited for.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    spans: FxHashMap<u64, Span>,
    order: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Span {
    agent: Option<u32>,
    /// Agents with a span below this one, whose own agent is not known yet.
    waiting: Vec<u32>,
}

const MAX_SPANS: usize = 65_536;
const MAX_WAITING: usize = 64;

impl Spans {
    /// Takes in an event of `agent`; `found` gets each caller and callee that become known by it.
    pub(crate) fn learn(&mut self, event: &AgentEvent, agent: u32, mut found: impl FnMut(u32, u32)) {
        let key = |span: &str| {
            let mut hasher = FxHasher::default();
            (event.trace_id.as_deref(), span).hash(&mut hasher);
            hasher.finish()
        };
        if let Some(span) = event.span_id.as_deref() {
            let own = self.span(key(span));
            own.agent = Some(agent);
            own.waiting.drain(..).filter(|callee| *callee != agent).for_each(|callee| found(agent, callee));
        }
        if let Some(parent) = event.parent_span_id.as_deref() {
            let parent = self.span(key(parent));
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

    fn span(&mut self, key: u64) -> &mut Span {
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
    use sre_core::{Event, Timestamp};

    use super::*;

    fn event(span: Option<&str>, parent: Option<&str>) -> AgentEvent {
        AgentEvent {
            trace_id: Some("t".into()),
            span_id: span.map(str::to_owned),
            parent_span_id: parent.map(str::to_owned),
            ..AgentEvent::new(Timestamp::default(), "a", Event::Heartbeat)
        }
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
