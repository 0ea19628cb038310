use std::collections::VecDeque;

use crate::record::SpanRecord;

/// Finished spans, bounded by their number and size: the oldest give way.
#[derive(Debug)]
pub(crate) struct SpanBuffer {
    spans: VecDeque<(usize, Box<SpanRecord>)>,
    max_spans: usize,
    max_bytes: usize,
    bytes: usize,
    dropped: u64,
}

impl SpanBuffer {
    pub(crate) fn new(max_spans: usize, max_bytes: usize) -> Self {
        Self { spans: VecDeque::new(), max_spans, max_bytes, bytes: 0, dropped: 0 }
    }

    pub(crate) fn push(&mut self, span: Box<SpanRecord>) {
        let size = span.size();
        self.bytes += size;
        self.spans.push_back((size, span));
        while self.spans.len() > self.max_spans || self.bytes > self.max_bytes {
            let Some((size, _)) = self.spans.pop_front() else { return };
            self.bytes -= size;
            self.dropped += 1;
        }
    }

    pub(crate) fn spans(&self) -> impl Iterator<Item = &SpanRecord> {
        self.spans.iter().map(|(_, span)| &**span)
    }

    /// Returns the number of spans that gave way.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{Span, Timestamp};

    use super::*;
    use crate::{ProtocolType, TraceContext};

    fn span(name: String) -> Box<SpanRecord> {
        let TraceContext { trace_id, span_id, .. } = TraceContext::root();
        let span = Span::new(trace_id, span_id, name, Timestamp::default());
        Box::new(SpanRecord::new(span, ProtocolType::Internal))
    }

    #[test]
    fn the_oldest_spans_give_way_by_count_and_by_size() {
        let mut buffer = SpanBuffer::new(3, 1 << 20);
        (0..5).for_each(|number| buffer.push(span(number.to_string())));
        let names = |buffer: &SpanBuffer| buffer.spans().map(|span| span.span.name.len()).collect::<Vec<_>>();
        assert_eq!((names(&buffer), buffer.dropped()), (vec![1, 1, 1], 2));
        buffer.push(span("x".repeat((1 << 20) - 2_000)));
        buffer.push(span("y".repeat(1_500)));
        assert_eq!((names(&buffer), buffer.dropped()), (vec![1_500], 6));
        buffer.push(span("z".repeat(1 << 20)));
        assert_eq!((names(&buffer), buffer.dropped(), buffer.bytes), (vec![], 8, 0));
    }
}
