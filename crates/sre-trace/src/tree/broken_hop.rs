use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use sre_core::{Span, SpanId, SpanRole, TraceId};

use super::TraceTree;

/// A place where a trace is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum BrokenHop {
    /// Spans name a parent that was not recorded: its process does not report spans, or they were lost or not sampled.
    MissingParent {
        /// The parent.
        parent_span_id: SpanId,
        /// The spans below it, by start.
        spans: Vec<SpanRef>,
    },
    /// The receiver of a call began another trace: it did not get the caller's context, or did not read it.
    DroppedContext {
        /// The call.
        caller: SpanRef,
        /// How it was received.
        receiver: SpanRef,
    },
    /// Spans are each other's parents.
    Cycle {
        /// The first of them.
        span: SpanRef,
    },
}

/// What identifies a span to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SpanRef {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The name.
    pub name: String,
    /// The agent or service that recorded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

impl SpanRef {
    pub(super) fn of(span: &Span) -> Self {
        let Span { trace_id, span_id, name, agent, .. } = span;
        Self { trace_id: *trace_id, span_id: *span_id, name: name.clone(), agent: agent.clone() }
    }
}

/// Adds a broken hop to both trees where a call of one was received in the other, by the id that both sides know.
pub(super) fn find_dropped_contexts(trees: &mut [TraceTree]) {
    let is_caller = |span: &Span| matches!(span.role, SpanRole::Client | SpanRole::Producer);
    let is_receiver = |span: &Span| matches!(span.role, SpanRole::Server | SpanRole::Consumer);
    let calls = trees.iter().flat_map(|tree| &tree.nodes).map(|node| &node.span);
    let with_id = calls.filter_map(|span| Some((span.call_id.as_deref()?, span)));
    let mut callers: HashMap<&str, &Span> = HashMap::new();
    let mut receivers = Vec::new();
    for (id, span) in with_id {
        if is_caller(span) {
            callers.entry(id).or_insert(span);
        } else if is_receiver(span) {
            receivers.push((id, span));
        }
    }
    let is_apart = |&(caller, receiver): &(&Span, &Span)| caller.trace_id != receiver.trace_id;
    let pairs = receivers.into_iter().filter_map(|(id, receiver)| Some((*callers.get(id)?, receiver)));
    let hops: Vec<(SpanRef, SpanRef)> =
        pairs.filter(is_apart).map(|(caller, receiver)| (SpanRef::of(caller), SpanRef::of(receiver))).collect();
    let mut by_trace: HashMap<TraceId, Vec<BrokenHop>> = HashMap::new();
    for (caller, receiver) in hops {
        for trace in [caller.trace_id, receiver.trace_id] {
            let hop = BrokenHop::DroppedContext { caller: caller.clone(), receiver: receiver.clone() };
            by_trace.entry(trace).or_default().push(hop);
        }
    }
    for tree in trees {
        tree.broken_hops.extend(by_trace.remove(&tree.trace_id).unwrap_or_default());
    }
}

impl fmt::Display for BrokenHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingParent { parent_span_id, spans } => {
                write!(f, "span {parent_span_id} was not recorded; ")?;
                match &**spans {
                    [] => write!(f, "nothing is below it"),
                    [span] => write!(f, "{span} is below it"),
                    [span, rest @ ..] => write!(f, "{span} and {} more are below it", rest.len()),
                }
            }
            Self::DroppedContext { caller, receiver } => write!(
                f,
                "the trace context was lost between {caller} in trace {} and {receiver} in trace {}",
                caller.trace_id, receiver.trace_id
            ),
            Self::Cycle { span } => write!(f, "{span} is below itself"),
        }
    }
}

impl fmt::Display for SpanRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", super::text::Printable(&self.name))?;
        match &self.agent {
            Some(agent) => write!(f, " ({})", super::text::Printable(agent)),
            None => Ok(()),
        }
    }
}
