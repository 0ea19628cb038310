use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use sre_core::{SpanId, StateError, StateReader, StateWriter, TraceId};

/// The spans of the latest traces that were converted to events. One that is sent again, in another request, does not count
/// twice.
#[derive(Debug)]
pub(crate) struct ConvertedSpans {
    /// Sorted, for a binary search.
    by_trace: FxHashMap<TraceId, Vec<SpanId>>,
    /// The traces, oldest first.
    order: VecDeque<TraceId>,
    /// The number of spans of all traces.
    spans: usize,
    max_spans: usize,
}

impl Default for ConvertedSpans {
    /// Returns an empty table for 200,000 spans.
    fn default() -> Self {
        Self::new(200_000)
    }
}

impl ConvertedSpans {
    fn new(max_spans: usize) -> Self {
        Self { by_trace: FxHashMap::default(), order: VecDeque::new(), spans: 0, max_spans }
    }

    pub(crate) fn contains(&self, trace: TraceId, span: SpanId) -> bool {
        self.by_trace.get(&trace).is_some_and(|spans| spans.binary_search(&span).is_ok())
    }

    /// Adds spans of a trace. The oldest traces are evicted to make room.
    pub(crate) fn add(&mut self, trace: TraceId, spans: Vec<SpanId>) {
        self.spans += spans.len();
        match self.by_trace.get_mut(&trace) {
            Some(known) => {
                known.extend(spans);
                known.sort_unstable();
            }
            None => {
                let mut spans = spans;
                spans.sort_unstable();
                self.by_trace.insert(trace, spans);
                self.order.push_back(trace);
            }
        }
        while self.spans > self.max_spans
            && let Some(oldest) = self.order.pop_front()
        {
            self.spans -= self.by_trace.remove(&oldest).map_or(0, |spans| spans.len());
        }
    }

    pub(crate) fn save(&self, state: &mut StateWriter) {
        state.put(&self.order.iter().map(|trace| (trace, &self.by_trace[trace])).collect::<Vec<_>>());
    }

    pub(crate) fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        for (trace, spans) in state.take::<Vec<(TraceId, Vec<SpanId>)>>()? {
            self.add(trace, spans);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u8) -> TraceId {
        TraceId::from_native(&number.to_string())
    }

    fn span(number: u8) -> SpanId {
        SpanId::from_native("", &number.to_string())
    }

    #[test]
    fn the_spans_of_the_oldest_traces_are_evicted() {
        let mut converted = ConvertedSpans::new(4);
        converted.add(trace(1), vec![span(2), span(1)]);
        converted.add(trace(2), vec![span(1)]);
        converted.add(trace(1), vec![span(3)]);
        assert!((1..=3).all(|number| converted.contains(trace(1), span(number))));
        assert!(!converted.contains(trace(2), span(2)));
        converted.add(trace(3), vec![span(1)]);
        assert!(!converted.contains(trace(1), span(1)) && converted.contains(trace(2), span(1)));
        assert_eq!((converted.spans, converted.order.len()), (2, 2));
        converted.add(trace(4), vec![span(1); 5]);
        assert_eq!((converted.spans, converted.by_trace.len()), (0, 0));
    }
}
