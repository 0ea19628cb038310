use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sre_core::{Span, SpanId, SpanRole, Timestamp, TraceId};

use super::TraceTree;
use crate::a2a;

/// A place where a trace is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        /// Whether the two share no id, and were paired by what was asked for and when: another request in that time looks the same.
        inferred: bool,
    },
    /// Spans are each other's parents.
    Cycle {
        /// The first of them.
        span: SpanRef,
    },
}

/// What identifies a span to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    let mut causes = Causes::of(&spans);
    let mut calls = Calls::of(&spans, &causes);
    let mut receivers: Vec<&Span> =
        spans.into_iter().filter(|span| is_receiver(span) && !causes.has_cause_in_trace(span)).collect();
    // What is above a call is known before what is below it.
    receivers.sort_by_key(|span| (span.start, Reverse(span.end)));
    let mut hops = Vec::new();
    // A call goes to the receiver with its id that ran during it, before one by whose clock it did not.
    for find in [Calls::during_by_id, Calls::nearest_by_id, Calls::by_request] {
        receivers.retain(|receiver| {
            let Some(caller) = find(&mut calls, receiver, &causes) else { return true };
            if caller.trace_id != receiver.trace_id {
                causes.calls.insert(key_of(receiver), caller);
                hops.push((caller, *receiver));
            }
            false
        });
    }
    hops.sort_by_key(|(_, receiver)| (receiver.start, Reverse(receiver.end)));
    let mut by_trace: HashMap<TraceId, Vec<BrokenHop>> = HashMap::new();
    for (caller, receiver) in hops {
        for trace in [caller.trace_id, receiver.trace_id] {
            let inferred = caller.call_id.is_none() || caller.call_id != receiver.call_id;
            let (caller, receiver) = (SpanRef::of(caller), SpanRef::of(receiver));
            by_trace.entry(trace).or_default().push(BrokenHop::DroppedContext { caller, receiver, inferred });
        }
    }
    for tree in trees {
        tree.broken_hops.extend(by_trace.remove(&tree.trace_id).unwrap_or_default());
    }
}

/// What caused each span: its parent or, where the context was dropped, the call that it has received.
struct Causes<'a> {
    by_id: HashMap<(TraceId, SpanId), &'a Span>,
    /// The calls whose context was dropped, by their receivers.
    calls: HashMap<(TraceId, SpanId), &'a Span>,
}

impl<'a> Causes<'a> {
    /// The spans that a process makes around a call that it receives are few.
    const MAX_BETWEEN: usize = 16;
    /// The spans from one call to another that are looked at, so that long chains do not take quadratic time.
    const MAX_ABOVE: usize = 256;

    fn of(spans: &[&'a Span]) -> Self {
        Self { by_id: spans.iter().map(|span| (key_of(span), *span)).collect(), calls: HashMap::new() }
    }

    fn parent(&self, span: &Span) -> Option<&'a Span> {
        self.by_id.get(&(span.trace_id, span.parent_span_id?)).copied()
    }

    /// Returns the spans above one in its own trace, from below.
    fn parents(&self, span: &Span) -> impl Iterator<Item = &'a Span> {
        std::iter::successors(self.parent(span), |span| self.parent(span)).take(Self::MAX_BETWEEN)
    }

    /// Returns whether a span is below a call in its own trace, or below another span of the same reception, also if spans of the receiving
    /// process are between them.
    fn has_cause_in_trace(&self, span: &Span) -> bool {
        let is_same = |above: &Span| is_receiver(above) && above.call_id.is_some() && above.call_id == span.call_id;
        self.parents(span).any(|above| is_caller(above) || is_same(above))
    }

    /// Returns whether a call has led to another, also through dropped contexts.
    fn has_led_to(&self, call: &Span, other: &Span) -> bool {
        let cause = |span: &Span| self.calls.get(&key_of(span)).copied().or_else(|| self.parent(span));
        let mut causes = std::iter::successors(cause(other), |span| cause(span)).take(Self::MAX_ABOVE);
        causes.any(|cause| key_of(cause) == key_of(call))
    }

    /// Returns whether a span is the first of its trace to receive a request of A2A, and nothing above it was lost.
    fn begins_trace(&self, receiver: &Span, operation: &str) -> bool {
        let is_first = |span: &Span| !is_receiver(span) || a2a::operation(&span.name) != Some(operation);
        let top = self.parents(receiver).last().map_or(receiver, |top| top);
        top.parent_span_id.is_none() && self.parents(receiver).all(is_first)
    }
}

/// The calls of all traces, by what their receivers know of them.
struct Calls<'a> {
    /// Those that nobody is known to have received, by an id that receivers have, and by start. None are left where all were received.
    by_call_id: HashMap<&'a str, Vec<&'a Span>>,
    /// Those of which nobody has received the id either, by their request, and by start. Each has the latest end of those up to it.
    not_received: HashMap<Request<'a>, Vec<(&'a Span, Timestamp)>>,
}

/// What both sides of a call know of it without an id of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Request<'a> {
    /// An operation of A2A. An agent that delegates it sends a message of its own.
    A2a(&'a str),
    /// Another request of JSON-RPC, such as one of MCP: the name of its span, and its id within the connection.
    JsonRpc(&'a str, &'a str),
}

impl<'a> Request<'a> {
    fn of(span: &'a Span) -> Option<Self> {
        match a2a::operation(&span.name) {
            Some(operation) => Some(Self::A2a(operation)),
            None => Some(Self::JsonRpc(&span.name, span.request_id.as_deref()?)),
        }
    }
}

impl<'a> Calls<'a> {
    /// The calls before and after a request that are looked at, so that many do not take quadratic time.
    const NEAR: usize = 64;

    fn of(spans: &[&'a Span], causes: &Causes<'a>) -> Self {
        let receivers = || spans.iter().filter(|span| is_receiver(span));
        let ids: HashSet<&str> = receivers().filter_map(|span| span.call_id.as_deref()).collect();
        // A client makes spans around a call, too, such as that of HTTP.
        let received = receivers().flat_map(|span| causes.parents(span).take_while(|above| !is_receiver(above)));
        let received: HashSet<_> = received.map(key_of).collect();
        let mut by_call_id: HashMap<_, Vec<&Span>> = HashMap::new();
        let mut not_received: HashMap<_, Vec<(&Span, Timestamp)>> = HashMap::new();
        for &call in spans.iter().filter(|span| is_caller(span)) {
            let is_received = received.contains(&key_of(call));
            if let Some(id) = call.call_id.as_deref().filter(|id| ids.contains(id)) {
                by_call_id.entry(id).or_default().extend((!is_received).then_some(call));
            } else if let Some(request) = Request::of(call).filter(|_| !is_received) {
                not_received.entry(request).or_default().push((call, call.end));
            }
        }
        by_call_id.values_mut().for_each(|calls| calls.sort_by_key(|call| (call.start, key_of(call))));
        for calls in not_received.values_mut() {
            calls.sort_by_key(|(call, end)| (call.start, Reverse(*end)));
            let mut latest = Timestamp::default();
            calls.iter_mut().for_each(|(_, end)| (latest, *end) = (latest.max(*end), latest.max(*end)));
        }
        Self { by_call_id, not_received }
    }

    /// Takes the call with the receiver's id that began last before it, of those during which it was received.
    fn during_by_id(&mut self, receiver: &Span, causes: &Causes<'a>) -> Option<&'a Span> {
        self.take_by_id(receiver, causes, |call| call.start <= receiver.start && receiver.end <= call.end)
    }

    /// Takes the call with the receiver's id that began nearest to it.
    fn nearest_by_id(&mut self, receiver: &Span, causes: &Causes<'a>) -> Option<&'a Span> {
        self.take_by_id(receiver, causes, |_| true)
    }

    fn take_by_id(
        &mut self,
        receiver: &Span,
        causes: &Causes<'a>,
        is_possible: impl Fn(&Span) -> bool,
    ) -> Option<&'a Span> {
        let calls = self.by_call_id.get_mut(receiver.call_id.as_deref()?)?;
        let after = calls.partition_point(|call| call.start <= receiver.start);
        let near = after.saturating_sub(Self::NEAR)..calls.len().min(after + Self::NEAR);
        let mut near: Vec<usize> = near.filter(|&index| is_possible(calls[index])).collect();
        let distance = |call: &Span| call.start.since(receiver.start).max(receiver.start.since(call.start));
        near.sort_by_key(|&index| distance(calls[index]));
        // What an agent sends on, it has not received itself.
        let nearest = near.into_iter().find(|&index| !causes.has_led_to(receiver, calls[index]))?;
        Some(calls.remove(nearest))
    }

    /// Returns the call that a span which begins a trace has received, by the request and the time, if no call has its id.
    fn by_request(&mut self, receiver: &Span, causes: &Causes<'a>) -> Option<&'a Span> {
        if receiver.call_id.as_deref().is_some_and(|id| self.by_call_id.contains_key(id)) {
            return None;
        }
        let request = Request::of(receiver)?;
        let calls = self.not_received.get(&request)?;
        match request {
            Request::A2a(operation) if causes.begins_trace(receiver, operation) => {
                // Those that have led to it are of the agents before.
                innermost(calls, receiver, |_| true, |call, innermost| causes.has_led_to(call, innermost))
            }
            Request::JsonRpc(..) if receiver.parent_span_id.is_none() => {
                let has_other_id = |call: &Span| call.call_id.is_some() && receiver.call_id.is_some();
                innermost(calls, receiver, |call| !has_other_id(call), |call, innermost| innermost.end <= call.end)
            }
            _ => None,
        }
    }
}

/// Returns the innermost of the calls during which a request was received, if all others are around it.
fn innermost<'a>(
    calls: &[(&'a Span, Timestamp)],
    receiver: &Span,
    is_possible: impl Fn(&Span) -> bool,
    is_around: impl Fn(&Span, &Span) -> bool,
) -> Option<&'a Span> {
    let begun = &calls[..calls.partition_point(|(call, _)| call.start <= receiver.start)];
    let (earlier, last) = begun.split_at(begun.len().saturating_sub(Calls::NEAR));
    if earlier.last().is_some_and(|(_, latest_end)| receiver.end <= *latest_end) {
        return None;
    }
    let during = last.iter().rev().map(|(call, _)| *call).filter(|call| receiver.end <= call.end);
    let mut during = during.filter(|call| call.trace_id != receiver.trace_id && is_possible(call));
    let innermost = during.next()?;
    during.all(|call| is_around(call, innermost)).then_some(innermost)
}

fn key_of(span: &Span) -> (TraceId, SpanId) {
    (span.trace_id, span.span_id)
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
            Self::DroppedContext { caller, receiver, inferred } => {
                let (probably, why) =
                    if *inferred { ("probably ", ": the second ran during the first") } else { ("", "") };
                write!(f, "the trace context was {probably}lost between {caller} in trace {} and ", caller.trace_id)?;
                write!(f, "{receiver} in trace {}{why}", receiver.trace_id)
            }
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
