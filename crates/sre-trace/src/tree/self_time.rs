use std::time::Duration;

use sre_core::Timestamp;

use super::SpanNode;

/// Subtracts from the duration of each node the time in which nodes directly below it ran.
pub(super) fn compute(nodes: &mut [SpanNode], children: &[Vec<usize>]) {
    for (index, children) in children.iter().enumerate() {
        let (start, end) = (nodes[index].span.start, nodes[index].span.end);
        let below = children.iter().map(|&child| (nodes[child].span.start, nodes[child].span.end));
        nodes[index].self_time = nodes[index].span.duration() - covered(start, end, below);
    }
}

/// Returns how much of the time from `start` to `end` is covered by intervals, which are in order of their start.
fn covered(start: Timestamp, end: Timestamp, intervals: impl Iterator<Item = (Timestamp, Timestamp)>) -> Duration {
    let (mut sum, mut until) = (Duration::ZERO, start);
    for (from, to) in intervals {
        let (from, to) = (from.max(until), to.min(end));
        sum += to.since(from);
        until = until.max(to);
    }
    sum
}
