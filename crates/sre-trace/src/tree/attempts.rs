use super::SpanNode;

/// Numbers the attempts of a call that was repeated after a failure, where the source does not: a span that has the name of the span before
/// it, below the same parent, which failed.
pub(super) fn number(nodes: &mut [SpanNode], children: &[Vec<usize>]) {
    for siblings in children {
        for pair in siblings.windows(2) {
            let (before, after) = (&nodes[pair[0]], &nodes[pair[1]]);
            let is_repeated = (&before.span.name, before.span.role) == (&after.span.name, after.span.role);
            if is_repeated
                && before.span.error.is_some()
                && before.span.end <= after.span.start
                && after.attempt.is_none()
            {
                let attempt = before.attempt.unwrap_or(1).saturating_add(1);
                nodes[pair[0]].attempt.get_or_insert(1);
                nodes[pair[1]].attempt = Some(attempt);
            }
        }
    }
}
