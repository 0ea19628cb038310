use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use sre_core::{EventKind, EventSpan, SpanId, Timestamp, TraceId};

use crate::run_id::RunId;

/// The traces of the last runs, which give each run its place.
///
/// A run ends before its parents do, but its dotted order needs the times at which they started. They are known from the
/// task's start event, or from the batch; a parent of which nothing is known yet is left out, so that the run is shown
/// directly below the root. The first answer is kept, because all runs of a trace must agree on it.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    by_id: FxHashMap<TraceId, Trace>,
    /// From the oldest on.
    ids: VecDeque<TraceId>,
}

/// A span to place.
pub(crate) struct Node<'a> {
    pub(crate) span: EventSpan<'a>,
    pub(crate) rank: Rank,
    /// The kind of event, which distinguishes events of the same span.
    pub(crate) kind: EventKind,
}

/// Which of several events of the same span is the span's run. The others become children of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Something without a duration.
    Instant,
    /// A call.
    Call,
    /// A step, which may have children.
    Step,
    /// A task.
    Task,
}

/// The place of a run in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: RunId,
    pub(crate) trace: RunId,
    /// `None` for the root.
    pub(crate) parent: Option<RunId>,
    /// The dotted order of the parent; `None` for the root.
    above: Option<Arc<str>>,
    time: Timestamp,
    depth: usize,
}

/// The place of a task or a step, which may have children.
#[derive(Clone, Debug)]
struct ParentPlace {
    place: Place,
    dotted_order: Arc<str>,
}

#[derive(Debug)]
struct Trace {
    id: TraceId,
    root_place: ParentPlace,
    /// The span of the root run, once it is known.
    root: Option<SpanId>,
    /// Tasks and steps.
    places: FxHashMap<SpanId, (Rank, ParentPlace)>,
    /// Tasks whose start LangSmith has.
    posted: FxHashSet<SpanId>,
}

const MAX_TRACES: usize = 10_000;
/// Maximum number of tasks and steps of a trace.
const MAX_PLACES: usize = 1_000;
const MAX_DEPTH: usize = 64;

/// The nodes of a batch.
struct Batch<'a> {
    nodes: &'a [Node<'a>],
    /// The node of each span of one trace with the highest rank.
    owners: FxHashMap<SpanId, usize>,
}

impl Traces {
    /// Returns the places of runs that are sent together, in their order.
    pub(crate) fn place(&mut self, nodes: &[Node<'_>]) -> Vec<Place> {
        let mut members: Vec<(TraceId, usize)> =
            nodes.iter().enumerate().map(|(index, node)| (node.span.trace_id, index)).collect();
        // Those of a trace keep their order.
        members.sort_by_key(|(trace, _)| *trace);
        let mut batch = Batch { nodes, owners: FxHashMap::default() };
        let (mut places, mut path) = (vec![None; nodes.len()], Vec::new());
        for of_trace in members.chunk_by(|a, b| a.0 == b.0) {
            batch.find_owners(of_trace.iter().map(|(_, index)| *index));
            let trace = self.open(of_trace[0].0, of_trace.iter().map(|(_, index)| &nodes[*index]));
            for (_, index) in of_trace {
                path.clear();
                places[*index] = Some(trace.place(&batch, *index, &mut path));
            }
        }
        self.evict();
        places.into_iter().flatten().collect()
    }

    /// Returns the run that a judgement with this parent is about: the root, unless the parent is known not to be it.
    pub(crate) fn subject(&self, trace: TraceId, parent: Option<SpanId>) -> RunId {
        let root = self.by_id.get(&trace).and_then(|trace| trace.root);
        let of_span = parent.filter(|parent| root.is_some_and(|root| root != *parent));
        of_span.map_or(RunId::of_trace(trace), RunId::of_span)
    }

    /// Returns true if LangSmith has the start of a task.
    pub(crate) fn is_posted(&self, span: &EventSpan<'_>) -> bool {
        self.by_id.get(&span.trace_id).is_some_and(|trace| trace.posted.contains(&span.span_id))
    }

    /// Remembers that LangSmith has the start of a task.
    pub(crate) fn posted(&mut self, trace: TraceId, span: SpanId) {
        if let Some(trace) = self.by_id.get_mut(&trace).filter(|trace| trace.posted.len() < MAX_PLACES) {
            trace.posted.insert(span);
        }
    }

    /// Returns a trace, with the root that is found among some of its spans.
    fn open<'a>(&mut self, id: TraceId, nodes: impl Iterator<Item = &'a Node<'a>> + Clone) -> &mut Trace {
        match self.by_id.entry(id) {
            Entry::Occupied(known) => {
                let trace = known.into_mut();
                if trace.root.is_none()
                    && let Some(root) = root_of(nodes)
                {
                    // The time with which runs were sent stays.
                    trace.set_root(root);
                }
                trace
            }
            Entry::Vacant(new) => {
                self.ids.push_back(id);
                let root = root_of(nodes.clone());
                let first = || nodes.map(|node| node.span.start).min().unwrap_or_default();
                let trace = new.insert(Trace::new(id, root.map_or_else(first, |root| root.span.start)));
                root.into_iter().for_each(|root| trace.set_root(root));
                trace
            }
        }
    }

    fn evict(&mut self) {
        while self.ids.len() > MAX_TRACES
            && let Some(oldest) = self.ids.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

fn root_of<'a>(nodes: impl Iterator<Item = &'a Node<'a>>) -> Option<&'a Node<'a>> {
    nodes
        .filter(|node| node.rank == Rank::Task || node.span.parent_span_id.is_none())
        .min_by_key(|Node { span, rank, .. }| (*rank != Rank::Task, span.parent_span_id.is_some(), span.start))
}

impl Batch<'_> {
    /// Finds the owners of the spans of a trace.
    fn find_owners(&mut self, members: impl Iterator<Item = usize>) {
        self.owners.clear();
        for index in members {
            let Node { span, rank, .. } = &self.nodes[index];
            let owner = self.owners.entry(span.span_id).or_insert(index);
            if self.nodes[*owner].rank < *rank {
                *owner = index;
            }
        }
    }
}

impl Trace {
    fn new(id: TraceId, started: Timestamp) -> Self {
        let root_place = Place::alone(RunId::of_trace(id), started).into();
        Self { id, root_place, root: None, places: FxHashMap::default(), posted: FxHashSet::default() }
    }

    fn set_root(&mut self, Node { span, rank, .. }: &Node<'_>) {
        self.root = Some(span.span_id);
        self.places.insert(span.span_id, (*rank, self.root_place.clone()));
    }

    fn place(&mut self, batch: &Batch<'_>, index: usize, path: &mut Vec<SpanId>) -> Place {
        let Node { span, rank, kind } = &batch.nodes[index];
        path.push(span.span_id);
        let stored = self.places.get(&span.span_id);
        let owner = batch.owners.get(&span.span_id).copied().unwrap_or(index);
        // The start and the end of a task are the same run.
        let of_owner = &batch.nodes[owner];
        let is_owner = of_owner.rank == *rank && (*rank == Rank::Task || of_owner.kind == *kind);
        let is_outranked = stored.is_some_and(|(of, _)| of > rank) || !is_owner;
        let parent = match (stored, is_outranked) {
            (Some((_, known)), false) => return known.place.clone(),
            (Some((_, known)), true) => known.clone(),
            (None, true) => self.place(batch, owner, path).into(),
            (None, false) => self.parent_of(span, batch, path),
        };
        // The span of an instant may have a run in a later batch.
        let id = if is_outranked || *rank == Rank::Instant {
            RunId::derived(&["run", kind.as_str(), &self.id.to_string(), &span.span_id.to_string()])
        } else {
            RunId::of_span(span.span_id)
        };
        let parent = if parent.place.depth < MAX_DEPTH { &parent } else { &self.root_place };
        let place = parent.child(id, span.start);
        if *rank >= Rank::Step && !is_outranked && self.places.len() < MAX_PLACES {
            self.places.insert(span.span_id, (*rank, place.clone().into()));
        }
        place
    }

    /// Returns the place of a span's parent: the root if nothing is known of the parent.
    fn parent_of(&mut self, span: &EventSpan<'_>, batch: &Batch<'_>, path: &mut Vec<SpanId>) -> ParentPlace {
        let parent = span.parent_span_id.filter(|id| !path.contains(id) && path.len() < MAX_DEPTH);
        let Some(parent) = parent else { return self.root_place.clone() };
        if let Some((_, known)) = self.places.get(&parent) {
            return known.clone();
        }
        // Nothing is below an instant: a step of the same span comes later.
        match batch.owners.get(&parent).filter(|owner| batch.nodes[**owner].rank > Rank::Instant) {
            Some(owner) => self.place(batch, *owner, path).into(),
            None => self.root_place.clone(),
        }
    }
}

impl ParentPlace {
    /// Returns the place of a child. LangSmith refuses dotted orders in which a child starts before its parent.
    fn child(&self, id: RunId, start: Timestamp) -> Place {
        let Place { id: parent, trace, time, depth, .. } = self.place;
        let above = Some(self.dotted_order.clone());
        Place { id, trace, parent: Some(parent), above, time: start.max(time), depth: depth + 1 }
    }
}

impl From<Place> for ParentPlace {
    fn from(place: Place) -> Self {
        Self { dotted_order: place.dotted_order().into(), place }
    }
}

impl Place {
    /// Returns the place of a run that is the root of its trace.
    pub(crate) fn alone(id: RunId, start: Timestamp) -> Self {
        Self { id, trace: id, parent: None, above: None, time: start, depth: 1 }
    }

    /// Returns the place of a child.
    pub(crate) fn child(&self, id: RunId, start: Timestamp) -> Self {
        ParentPlace::from(self.clone()).child(id, start)
    }

    /// Returns times and ids from the root down, by which LangSmith sorts runs: of each run, its time such as
    /// `20260101T000000000000Z` and its id.
    pub(crate) fn dotted_order(&self) -> String {
        let above = self.above.as_deref().unwrap_or_default();
        let mut order = String::with_capacity(above.len() + 64);
        if !above.is_empty() {
            order.push_str(above);
            order.push('.');
        }
        let time = self.time.to_string();
        let seconds = time.split(['.', 'Z']).next().unwrap_or_default();
        seconds.split(['-', ':']).for_each(|digits| order.push_str(digits));
        let micros = self.time.as_nanos().rem_euclid(1_000_000_000) / 1_000;
        // Writing to a string cannot fail.
        let _ = write!(order, "{micros:06}Z");
        order.push_str(self.id.to_text().as_str());
        order
    }
}

#[cfg(test)]
mod tests {
    use sre_core::AgentEvent;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    /// Returns an event of the trace with these ids, from `start` to `end` in seconds.
    fn node(rank: Rank, id: u8, parent: Option<u8>, start: u32, end: u32) -> Node<'static> {
        let kind = match rank {
            Rank::Instant => r#""event":"handoff","from":"a","to":"b""#,
            Rank::Call => r#""event":"llm_call""#,
            Rank::Step => r#""event":"step_finished","name":"s""#,
            Rank::Task => r#""event":"task_finished","success":true"#,
        };
        let parent = parent.map(|id| format!(r#","parent_span_id":"{id:016x}""#)).unwrap_or_default();
        let json = format!(
            r#"{{{kind},"time":{end},"agent":"a","task":"t","trace_id":"{TRACE}","span_id":"{id:016x}"{parent},"duration_ms":{}}}"#,
            (end - start) * 1_000
        );
        let event = Box::leak(Box::new(AgentEvent::from_json(json.as_bytes()).unwrap()));
        Node { span: EventSpan::of(event).unwrap(), rank, kind: event.event.kind() }
    }

    /// Returns the ids of a dotted order by the last digits of their spans, and its times by their seconds.
    fn levels(place: &Place) -> Vec<(String, String)> {
        let level = |level: &str| {
            let (time, id) = level.split_once('Z').unwrap();
            (time[13..15].to_owned(), id[34..].to_owned())
        };
        place.dotted_order().split('.').map(level).collect()
    }

    fn levels_of(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(time, id)| ((*time).to_owned(), (*id).to_owned())).collect()
    }

    #[test]
    fn a_dotted_order_has_times_and_ids_from_the_root_down() {
        let nodes =
            [node(Rank::Call, 3, Some(2), 6, 8), node(Rank::Step, 2, Some(1), 5, 9), node(Rank::Task, 1, None, 4, 10)];
        let places = Traces::default().place(&nodes);
        let root = "19700101T000004000000Z4bf92f35-77b3-4da6-a3ce-929d0e0e4736";
        let step = "19700101T000005000000Z00000000-0000-0000-0000-000000000002";
        assert_eq!(places[2].dotted_order(), root);
        assert_eq!(places[1].dotted_order(), format!("{root}.{step}"));
        assert!(places[0].dotted_order().starts_with(&format!("{root}.{step}.")), "{places:?}");
        assert_eq!((places[0].parent, places[1].parent), (Some(places[1].id), Some(places[2].id)));
        assert!(places.iter().all(|place| place.trace == places[2].id));
    }

    #[test]
    fn runs_agree_on_the_root_however_they_are_batched() {
        let mut traces = Traces::default();
        let first = traces.place(&[node(Rank::Call, 3, Some(2), 6, 8)]);
        assert_eq!(
            levels(&first[0]),
            levels_of(&[("06", "36"), ("06", "03")]),
            "all that is known is the call's start"
        );
        let again = traces.place(&[node(Rank::Call, 3, Some(2), 6, 8)]);
        assert_eq!(first, again, "sent again, it is the same");
        let step = traces.place(&[node(Rank::Step, 2, Some(1), 5, 9)]);
        assert_eq!(levels(&step[0]), levels_of(&[("06", "36"), ("06", "02")]), "not before the root");
        let task = traces.place(&[node(Rank::Task, 1, None, 4, 10)]);
        assert_eq!(levels(&task[0]), levels_of(&[("06", "36")]), "the root keeps the time that its runs have");
        assert_eq!(traces.subject(TRACE.parse().unwrap(), "0000000000000001".parse().ok()), task[0].id);
    }

    #[test]
    fn the_start_of_a_task_gives_every_run_its_time() {
        let mut traces = Traces::default();
        let start = traces.place(&[node(Rank::Task, 1, Some(9), 4, 4)]);
        let inner = traces.place(&[node(Rank::Task, 5, Some(1), 5, 5)]);
        assert_eq!(levels(&start[0]), levels_of(&[("04", "36")]), "a parent elsewhere is no run");
        let call = traces.place(&[node(Rank::Call, 6, Some(5), 7, 8)]);
        assert_eq!(levels(&call[0]), levels_of(&[("04", "36"), ("05", "05"), ("07", "06")]));
        assert_eq!(traces.place(&[node(Rank::Task, 5, Some(1), 5, 9)]), inner);
        assert_eq!(traces.place(&[node(Rank::Task, 1, Some(9), 4, 9)]), start);
    }

    #[test]
    fn events_of_the_same_span_are_runs_of_their_own() {
        let nodes =
            [node(Rank::Instant, 1, None, 5, 5), node(Rank::Call, 1, None, 4, 9), node(Rank::Task, 1, None, 4, 9)];
        let mut traces = Traces::default();
        let places = traces.place(&nodes);
        assert_eq!((places[0].parent, places[1].parent), (Some(places[2].id), Some(places[2].id)));
        assert!(places[0].id != places[1].id);
        assert_eq!(traces.place(&nodes), places);
        assert_eq!(traces.place(&nodes[..1]), places[..1]);
    }

    #[test]
    fn a_handoff_leaves_the_id_of_its_span_to_a_later_step() {
        let mut traces = Traces::default();
        let handoff = traces.place(&[node(Rank::Task, 1, None, 4, 4), node(Rank::Instant, 2, Some(1), 5, 5)]);
        let step = traces.place(&[node(Rank::Step, 2, Some(1), 5, 9)]);
        assert_ne!(handoff[1].id, step[0].id);
        assert_eq!((handoff[1].parent, step[0].parent), (Some(handoff[0].id), Some(handoff[0].id)));
    }

    #[test]
    fn nothing_is_below_a_handoff() {
        let nodes = [
            node(Rank::Task, 1, None, 4, 4),
            node(Rank::Instant, 2, Some(1), 5, 5),
            node(Rank::Call, 3, Some(2), 6, 7),
        ];
        let places = Traces::default().place(&nodes);
        assert_eq!(places[2].parent, Some(places[0].id), "its step ends in a later batch");
    }

    #[test]
    fn cycles_and_deep_chains_end_at_the_root() {
        let mut nodes = vec![node(Rank::Step, 1, Some(2), 1, 2), node(Rank::Step, 2, Some(1), 1, 2)];
        nodes.push(node(Rank::Step, 3, Some(3), 1, 2));
        nodes.extend((10..250).map(|id| node(Rank::Step, id, Some(id + 1), 1, 2)));
        for place in Traces::default().place(&nodes) {
            let depth = place.dotted_order().split('.').count();
            assert!((2..=MAX_DEPTH + 1).contains(&depth), "{depth}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut traces = Traces::default();
        for number in 1..=MAX_TRACES as u128 + 5 {
            let mut node = node(Rank::Task, 1, None, 1, 2);
            node.span.trace_id = TraceId::from_bytes(number.to_be_bytes()).unwrap();
            traces.place(&[node]);
        }
        assert_eq!((traces.by_id.len(), traces.ids.len()), (MAX_TRACES, MAX_TRACES));
    }
}
