use std::cmp::Reverse;

use sre_core::{Span, Timestamp};

use super::SpanNode;

/// Finds the spans that determine the duration of each root, and the time that each of them adds.
///
/// Backwards from the end of a span, the child that ended last is what the span waited for; before the start of that child, the next one
/// that had ended by then; and so on. The time in between is the span's own. This is the critical path of
/// [CRISP](https://www.usenix.org/conference/atc22/presentation/zhang-zhizhou) and of Jaeger. Of a child, the part inside its parent
/// counts.
pub(super) fn compute(nodes: &mut [SpanNode], children: &[Vec<usize>]) {
    let window = |span: &Span| (span.start, span.end.max(span.start));
    let mut visits: Vec<(usize, Timestamp, Timestamp)> = Vec::new();
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.parent.is_none()) {
        let (start, end) = window(&node.span);
        visits.push((index, start, end));
    }
    while let Some((index, start, end)) = visits.pop() {
        let inside = |&child: &usize| {
            let (from, to) = window(&nodes[child].span);
            (from <= end && to >= start).then(|| (child, from.max(start), to.min(end)))
        };
        let mut waited_for: Vec<_> = children[index].iter().filter_map(inside).collect();
        // Of those that ended at the same time, the longest first.
        waited_for.sort_by_key(|&(_, from, to)| (Reverse(to), from));
        let (mut own, mut until) = (std::time::Duration::ZERO, end);
        for (child, from, to) in waited_for {
            if to <= until {
                own += until.since(to);
                visits.push((child, from, to));
                until = from;
            }
        }
        nodes[index].critical_time = Some(own + until.since(start));
    }
}
