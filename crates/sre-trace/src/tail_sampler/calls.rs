use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};
use sre_core::{Span, TraceId};

/// The calls that both sides name by an id, with the traces that have a span of them: more than one if a receiver has lost the trace
/// context, and began a trace of its own.
#[derive(Debug, Default)]
pub(super) struct Calls {
    traces: FxHashMap<CallKey, Vec<TraceId>>,
}

/// The hash of a call's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallKey(u64);

/// The memory of a call in a trace, in bytes.
pub(super) const CALL_BYTES: usize = 64;
/// Traces that are known of a call, and of all calls of a trace.
const MAX_TRACES: usize = 4;

impl CallKey {
    /// Returns the key of a span's call, if it has an id.
    pub(super) fn of(span: &Span) -> Option<Self> {
        let mut hasher = FxHasher::default();
        span.call_id.as_ref()?.hash(&mut hasher);
        Some(Self(hasher.finish()))
    }
}

impl Calls {
    /// Adds a trace with a span of a call; false if it is known, or there are too many.
    pub(super) fn add(&mut self, call: CallKey, trace: TraceId) -> bool {
        let traces = self.traces.entry(call).or_default();
        let is_new = traces.len() < MAX_TRACES && !traces.contains(&trace);
        if is_new {
            traces.push(trace);
        }
        is_new
    }

    /// Removes a trace with these calls.
    pub(super) fn remove(&mut self, calls: &[CallKey], trace: TraceId) {
        for call in calls {
            if let Some(traces) = self.traces.get_mut(call) {
                traces.retain(|other| *other != trace);
                if traces.is_empty() {
                    self.traces.remove(call);
                }
            }
        }
    }

    /// Returns the other traces with spans of these calls of a trace.
    pub(super) fn others(&self, calls: &[CallKey], trace: TraceId) -> Vec<TraceId> {
        let mut others = Vec::new();
        for other in calls.iter().filter_map(|call| self.traces.get(call)).flatten() {
            if *other != trace && !others.contains(other) && others.len() < MAX_TRACES {
                others.push(*other);
            }
        }
        others
    }
}
