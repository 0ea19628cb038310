use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use sre_core::{KeptTrace, Span, Timestamp, TraceId, TraceUpdate, Verdict};

use super::calls::{CALL_BYTES, CallKey, Calls};
use super::encoded_spans::EncodedSpans;

/// Spans of a trace that are held.
pub(super) const MAX_SPANS: usize = 1_000;
/// How long a trace is held after its first span, in evaluations, which are a second apart.
const OPEN_FOR: u64 = 900;
/// How long a trace is held once its task has finished, for spans that arrive late. One that is kept is held as long as one that is open,
/// since spans without a root may arrive when their task times out.
const FINISHED_FOR: u64 = 30;
/// The memory of a trace without spans, in bytes.
const TRACE_BYTES: usize = 256;

/// The traces whose spans may still become more, bounded by their size: those that have finished give way first, then those of them that
/// are kept, then the oldest.
#[derive(Debug)]
pub(super) struct OpenTraces {
    max_bytes: usize,
    bytes: usize,
    traces: FxHashMap<TraceId, OpenTrace>,
    /// The traces in the order in which they give way.
    order: BTreeMap<Rank, TraceId>,
    next: u64,
    calls: Calls,
    /// The traces that are kept, and have changed since they were stored.
    changed: BTreeSet<TraceId>,
}

/// The place of a trace in the order in which they give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    phase: Phase,
    /// The evaluation after which its first span arrived, or its task finished.
    since: u64,
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Finished,
    /// Finished, and kept for an objective.
    Kept,
    Open,
}

#[derive(Debug)]
pub(super) struct OpenTrace {
    rank: Rank,
    pub(super) spans: EncodedSpans,
    /// The objectives for which it is kept.
    pub(super) kept: Vec<KeptTrace>,
    /// The calls of which it has a span.
    calls: Vec<CallKey>,
    /// The spans up to this byte are stored.
    stored: usize,
    /// The same of the other traces that have its calls, which are stored with it.
    stored_of_others: FxHashMap<TraceId, usize>,
    bytes: usize,
}

/// A trace gave way.
pub(super) struct Evicted {
    /// Whether its task had not finished.
    pub(super) was_open: bool,
    /// What of it is still to be stored.
    pub(super) update: Option<TraceUpdate>,
}

impl OpenTraces {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            traces: FxHashMap::default(),
            order: BTreeMap::new(),
            next: 0,
            calls: Calls::default(),
            changed: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.traces.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a span; false if its trace has too many. With `is_root`, the task of the trace has finished.
    pub(super) fn add(&mut self, span: &Span, is_root: bool, now: u64) -> bool {
        let id = span.trace_id;
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.next += 1;
            let rank = Rank { phase: Phase::Open, since: now, number: self.next };
            self.order.insert(rank, id);
            self.bytes += TRACE_BYTES;
            OpenTrace::new(rank, EncodedSpans::default(), Vec::new(), TRACE_BYTES)
        });
        // There is room for the root, which often comes last.
        let has_room = trace.spans.len() + usize::from(!is_root) < MAX_SPANS;
        if has_room {
            let before = trace.spans.bytes().len();
            trace.spans.push(span);
            let size = trace.spans.bytes().len() - before;
            trace.bytes += size;
            self.bytes += size;
            if !trace.kept.is_empty() {
                self.changed.insert(id);
            }
        }
        if is_root && trace.is_open() {
            let phase = if trace.kept.is_empty() { Phase::Finished } else { Phase::Kept };
            self.move_to(phase, now, id);
        }
        if has_room {
            self.add_call(span);
        }
        has_room
    }

    /// Notes the call of a span. Of a trace with a call of another that is kept, the spans are stored with that.
    fn add_call(&mut self, span: &Span) {
        let id = span.trace_id;
        let Some(trace) = self.traces.get_mut(&id) else { return };
        if let Some(call) = CallKey::of(span).filter(|call| self.calls.add(*call, id)) {
            trace.calls.push(call);
            trace.bytes += CALL_BYTES;
            self.bytes += CALL_BYTES;
        }
        if !trace.calls.is_empty() {
            let others = self.calls.others(&trace.calls, id);
            let is_kept = |other: &TraceId| self.traces.get(other).is_some_and(|other| !other.kept.is_empty());
            self.changed.extend(others.into_iter().filter(is_kept));
        }
    }

    /// Counts a bad or slow event of a trace. If the trace is not kept for the objective yet, `admit` decides whether it is.
    pub(super) fn mark(
        &mut self,
        id: TraceId,
        (slo, agent): (&str, &str),
        verdict: Verdict,
        at: Timestamp,
        admit: impl FnOnce() -> bool,
    ) {
        let Some(trace) = self.traces.get_mut(&id) else { return };
        let known = trace.kept.iter().position(|kept| kept.slo == slo && kept.agent == agent);
        let index = match known {
            Some(index) => index,
            None if admit() => {
                let size = size_of::<KeptTrace>() + slo.len() + agent.len();
                trace.bytes += size;
                self.bytes += size;
                trace.kept.push(KeptTrace::new(id, slo, agent, at));
                trace.kept.len() - 1
            }
            None => return,
        };
        let kept = &mut trace.kept[index];
        kept.at = kept.at.max(at);
        *(if verdict == Verdict::Bad { &mut kept.bad } else { &mut kept.slow }) += 1;
        self.changed.insert(id);
        let Rank { phase, since, .. } = trace.rank;
        if phase == Phase::Finished {
            self.move_to(Phase::Kept, since, id);
        }
    }

    fn move_to(&mut self, phase: Phase, since: u64, id: TraceId) {
        let Some(trace) = self.traces.get_mut(&id) else { return };
        self.order.remove(&trace.rank);
        self.next += 1;
        trace.rank = Rank { phase, since, number: self.next };
        self.order.insert(trace.rank, id);
    }

    /// Returns what is to be stored of the traces that are kept.
    pub(super) fn changes(&mut self) -> Vec<TraceUpdate> {
        std::mem::take(&mut self.changed).into_iter().filter_map(|id| self.update(id)).collect()
    }

    /// Returns what is not stored yet of a trace, and of the other traces that have its calls.
    fn update(&mut self, id: TraceId) -> Option<TraceUpdate> {
        let trace = self.traces.get(&id)?;
        let mut spans = trace.spans.decode(id, trace.stored);
        let mut stored_of_others = trace.stored_of_others.clone();
        for other_id in self.calls.others(&trace.calls, id) {
            let Some(other) = self.traces.get(&other_id) else { continue };
            let stored = stored_of_others.entry(other_id).or_default();
            spans.extend(other.spans.decode(other_id, *stored));
            *stored = other.spans.bytes().len();
        }
        let trace = self.traces.get_mut(&id)?;
        (trace.stored, trace.stored_of_others) = (trace.spans.bytes().len(), stored_of_others);
        Some(TraceUpdate { spans, kept: trace.kept.clone() })
    }

    fn remove(&mut self, id: TraceId) {
        if let Some(trace) = self.traces.remove(&id) {
            self.bytes -= trace.bytes;
            self.calls.remove(&trace.calls, id);
        }
    }

    /// The changes of these traces were not stored, and are to be stored again.
    pub(super) fn restore_changes(&mut self, traces: impl IntoIterator<Item = TraceId>) {
        for id in traces {
            if let Some(trace) = self.traces.get_mut(&id) {
                trace.stored = 0;
                trace.stored_of_others.clear();
                self.changed.insert(id);
            }
        }
    }

    /// Removes the next trace beyond the size.
    pub(super) fn evict(&mut self) -> Option<Evicted> {
        if self.bytes <= self.max_bytes {
            return None;
        }
        let (rank, id) = self.order.pop_first()?;
        let update = if self.changed.remove(&id) { self.update(id) } else { None };
        self.remove(id);
        Some(Evicted { was_open: rank.phase == Phase::Open, update })
    }

    /// Removes the traces that are no longer waited for.
    pub(super) fn expire(&mut self, now: u64) {
        for (phase, time) in [(Phase::Finished, FINISHED_FOR), (Phase::Kept, OPEN_FOR), (Phase::Open, OPEN_FOR)] {
            while let Some((rank, id)) = self.order.range(Rank { phase, since: 0, number: 0 }..).next() {
                let (rank, id) = (*rank, *id);
                if rank.phase != phase || now.saturating_sub(rank.since) < time {
                    break;
                }
                self.order.remove(&rank);
                self.changed.remove(&id);
                self.remove(id);
            }
        }
    }

    /// Returns the traces in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TraceId, &OpenTrace)> {
        self.order.values().filter_map(|id| Some((*id, self.traces.get(id)?)))
    }

    /// Adds a trace that was saved. What is kept of it is stored again.
    pub(super) fn restore(
        &mut self,
        id: TraceId,
        is_open: bool,
        since: u64,
        spans: EncodedSpans,
        kept: Vec<KeptTrace>,
    ) {
        let sizes = kept.iter().map(|kept| size_of::<KeptTrace>() + kept.slo.len() + kept.agent.len());
        let sizes = spans.bytes().len() + sizes.sum::<usize>();
        if self.traces.contains_key(&id) {
            return;
        }
        let bytes = TRACE_BYTES + sizes;
        self.bytes += bytes;
        self.next += 1;
        let phase = match is_open {
            true => Phase::Open,
            false if kept.is_empty() => Phase::Finished,
            false => Phase::Kept,
        };
        let rank = Rank { phase, since, number: self.next };
        self.order.insert(rank, id);
        if !kept.is_empty() {
            self.changed.insert(id);
        }
        let held = spans.decode(id, 0);
        self.traces.insert(id, OpenTrace::new(rank, spans, kept, bytes));
        held.iter().for_each(|span| self.add_call(span));
    }
}

impl OpenTrace {
    fn new(rank: Rank, spans: EncodedSpans, kept: Vec<KeptTrace>, bytes: usize) -> Self {
        let (calls, stored_of_others) = Default::default();
        Self { rank, spans, kept, calls, stored: 0, stored_of_others, bytes }
    }

    pub(super) fn is_open(&self) -> bool {
        self.rank.phase == Phase::Open
    }

    pub(super) fn since(&self) -> u64 {
        self.rank.since
    }
}
