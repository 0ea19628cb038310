use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sre_core::{Span, SpanId, SpanRole, TraceId};

use super::TraceTree;

/// A place where a trace is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub agent: Option<Arc<str>>,
}

impl SpanRef {
    pub(super) fn of(span: &Span) -> Self {
        let Span { trace_id, span_id, name, .. } = span;
        Self { trace_id: *trace_id, span_id: *span_id, name: name.clone(), agent: span.recorded_by().cloned() }
    }
}

/// Adds a broken hop to both trees where a call of one was received in the other.
pub(super) fn find_dropped_contexts(trees: &mut [TraceTree]) {
    let spans: Vec<&Span> = trees.iter().flat_map(|tree| &tree.nodes).map(|node| &node.span).collect();
    let calls = Calls::of(&spans);
    let by_id: HashMap<(TraceId, SpanId), &Span> =
        spans.iter().map(|span| ((span.trace_id, span.span_id), *span)).collect();
    let receivers = spans.iter().copied().filter(|span| is_receiver(span) && !is_below_a_call(span, &by_id));
    let pairs = receivers.filter_map(|receiver| Some((calls.received_by(receiver)?, receiver)));
    let is_apart = |(caller, receiver): &(&Span, &Span)| caller.trace_id != receiver.trace_id;
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

/// Returns whether a span is below a call in its own trace, also if spans of the receiving process are between them.
fn is_below_a_call(span: &Span, by_id: &HashMap<(TraceId, SpanId), &Span>) -> bool {
    /// The spans that a process makes around a call that it receives are few.
    const MAX_BETWEEN: usize = 16;
    let parent = |span: &&Span| by_id.get(&(span.trace_id, span.parent_span_id?)).copied();
    std::iter::successors(parent(&span), parent).take(MAX_BETWEEN).any(is_caller)
}

/// The calls of all traces, by what their receivers know of them.
struct Calls<'a> {
    by_call_id: HashMap<&'a str, &'a Span>,
    /// Those that no span of their trace has received, by name and id of the request, and by start.
    not_received: HashMap<(&'a str, &'a str), Vec<&'a Span>>,
}

impl<'a> Calls<'a> {
    fn of(spans: &[&'a Span]) -> Self {
        let receivers = spans.iter().filter(|span| is_receiver(span));
        let received: HashSet<_> = receivers.map(|span| (span.trace_id, span.parent_span_id)).collect();
        let (mut by_call_id, mut not_received) = (HashMap::new(), HashMap::<_, Vec<&Span>>::new());
        for &call in spans.iter().filter(|span| is_caller(span)) {
            if let Some(id) = &call.call_id {
                by_call_id.entry(&**id).or_insert(call);
            }
            if let Some(id) = &call.request_id
                && !received.contains(&(call.trace_id, Some(call.span_id)))
            {
                not_received.entry((&*call.name, &**id)).or_default().push(call);
            }
        }
        not_received.values_mut().for_each(|calls| calls.sort_by_key(|call| (call.start, Reverse(call.end))));
        Self { by_call_id, not_received }
    }

    /// Returns the call that a span has received: by the id that both sides know or, of a root, by the name and id of the request and the
    /// time.
    fn received_by(&self, receiver: &Span) -> Option<&'a Span> {
        let call = receiver.call_id.as_deref().and_then(|id| self.by_call_id.get(id).copied());
        call.or_else(|| {
            let id = receiver.request_id.as_deref().filter(|_| receiver.parent_span_id.is_none())?;
            innermost(self.not_received.get(&(&*receiver.name, id))?, receiver)
        })
    }
}

/// Returns the innermost of the calls during which a request was received, unless another of them ended before that.
fn innermost<'a>(calls: &[&'a Span], receiver: &Span) -> Option<&'a Span> {
    /// The calls that are looked at, so that many do not take quadratic time.
    const LAST: usize = 64;
    let has_other_id = |call: &Span| call.call_id.is_some() && receiver.call_id.is_some();
    let begun = &calls[..calls.partition_point(|call| call.start <= receiver.start)];
    let during = || {
        let during = begun.iter().rev().take(LAST).filter(|call| receiver.end <= call.end);
        during.filter(|call| call.trace_id != receiver.trace_id && !has_other_id(call))
    };
    let innermost = during().next()?;
    during().all(|call| innermost.end <= call.end).then_some(innermost)
}

fn is_caller(span: &Span) -> bool {
    matches!(span.role, SpanRole::Client | SpanRole::Producer)
}

fn is_receiver(span: &Span) -> bool {
    matches!(span.role, SpanRole::Server | SpanRole::Consumer)
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
