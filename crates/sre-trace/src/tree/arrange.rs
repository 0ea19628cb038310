use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sre_core::{Span, SpanId, SpanRole};

use super::{BrokenHop, SpanNode, SpanRef};

/// The spans of one trace in the order of their tree.
pub(super) struct Hierarchy {
    pub(super) nodes: Vec<SpanNode>,
    pub(super) broken_hops: Vec<BrokenHop>,
}

impl Hierarchy {
    pub(super) fn of(spans: Vec<Span>) -> Self {
        let spans = longest_of_each_id(spans);
        let by_id: HashMap<SpanId, usize> =
            spans.iter().enumerate().map(|(index, span)| (span.span_id, index)).collect();
        let mut parents: Vec<Option<usize>> =
            spans.iter().map(|span| by_id.get(&span.parent_span_id?).copied()).collect();
        let mut broken_hops = missing_parents(&spans, &parents);
        for first in cut_cycles(&mut parents) {
            broken_hops.push(BrokenHop::Cycle { span: SpanRef::of(&spans[first]) });
        }
        Self { nodes: depth_first(spans, &parents), broken_hops }
    }
}

/// Returns the spans by start, without those with the id of another that is longer.
fn longest_of_each_id(spans: Vec<Span>) -> Vec<Span> {
    let mut longest: HashMap<SpanId, Span> = HashMap::with_capacity(spans.len());
    for span in spans {
        match longest.entry(span.span_id) {
            Entry::Occupied(mut known) if known.get().duration() < span.duration() => _ = known.insert(span),
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => _ = free.insert(span),
        }
    }
    let mut spans: Vec<Span> = longest.into_values().collect();
    spans.sort_unstable_by_key(|span| (span.start, span.span_id));
    spans
}

/// Returns a broken hop for each parent that was not recorded.
fn missing_parents(spans: &[Span], parents: &[Option<usize>]) -> Vec<BrokenHop> {
    let mut hops: Vec<(SpanId, Vec<SpanRef>)> = Vec::new();
    let mut by_parent: HashMap<SpanId, usize> = HashMap::new();
    for (span, parent) in spans.iter().zip(parents) {
        let (Some(missing), None) = (span.parent_span_id, parent) else { continue };
        let hop = *by_parent.entry(missing).or_insert(hops.len());
        if hop == hops.len() {
            hops.push((missing, Vec::new()));
        }
        hops[hop].1.push(SpanRef::of(span));
    }
    hops.into_iter().map(|(parent_span_id, spans)| BrokenHop::MissingParent { parent_span_id, spans }).collect()
}

/// Makes the first span of each cycle a root. Returns these spans, which are in order of their start.
fn cut_cycles(parents: &mut [Option<usize>]) -> Vec<usize> {
    // The span from which the search for its root has come along each span.
    let mut passed_from = vec![None; parents.len()];
    let mut cut = Vec::new();
    for start in 0..parents.len() {
        let mut above = Some(start);
        while let Some(index) = above.filter(|&index| passed_from[index].is_none()) {
            passed_from[index] = Some(start);
            above = parents[index];
        }
        if let Some(index) = above.filter(|&index| passed_from[index] == Some(start)) {
            // The search has come back to a span of its own.
            let cycle = std::iter::successors(Some(index), |&span| parents[span].filter(|&next| next != index));
            let first = cycle.min().unwrap_or(index);
            parents[first] = None;
            cut.push(first);
        }
    }
    cut
}

/// Returns the spans as nodes: each before those below it, siblings in the order given. A span that names no agent belongs to that of the
/// span above it, if the same service recorded both and it is no call that was received.
fn depth_first(spans: Vec<Span>, parents: &[Option<usize>]) -> Vec<SpanNode> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut stack = Vec::new();
    for (index, parent) in parents.iter().enumerate().rev() {
        match parent {
            // In reverse, as the stack wants them.
            Some(parent) => children[*parent].push(index),
            None => stack.push((index, None, 0)),
        }
    }
    let mut spans: Vec<Option<Span>> = spans.into_iter().map(Some).collect();
    let mut nodes: Vec<SpanNode> = Vec::with_capacity(spans.len());
    while let Some((index, parent, depth)) = stack.pop() {
        let Some(mut span) = spans[index].take() else { continue };
        // What an agent does, its service records.
        let is_received = matches!(span.role, SpanRole::Server | SpanRole::Consumer);
        if let (None, Some(above)) = (&span.agent, parent.map(|parent: usize| &nodes[parent].span))
            && above.service == span.service
            && !is_received
        {
            span.agent.clone_from(&above.agent);
        }
        let node = nodes.len();
        nodes.push(SpanNode::new(span, depth, parent));
        stack.extend(children[index].iter().map(|&child| (child, Some(node), depth + 1)));
    }
    nodes
}
