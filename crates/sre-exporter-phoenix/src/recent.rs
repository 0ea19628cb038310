use std::collections::{HashSet, VecDeque};

use crate::annotation::Target;

/// The spans and traces that were sent last. Phoenix may still be storing them.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    known: HashSet<Target>,
    order: VecDeque<Target>,
}

/// Maximum number of spans and traces that are remembered: more than Phoenix stores in some seconds.
const MAX: usize = 20_000;

impl Recent {
    pub(crate) fn insert(&mut self, target: Target) {
        if !self.known.insert(target) {
            return;
        }
        self.order.push_back(target);
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, target: Target) -> bool {
        self.known.contains(&target)
    }
}

#[cfg(test)]
mod tests {
    use sre_core::SpanId;

    use super::*;

    #[test]
    fn the_oldest_are_evicted() {
        let target = |number: u64| Target::Span(SpanId::from_bytes(number.to_be_bytes()).unwrap());
        let mut recent = Recent::default();
        (1..=MAX as u64 + 1).for_each(|number| recent.insert(target(number)));
        assert!(!recent.contains(target(1)) && recent.contains(target(2)) && recent.contains(target(MAX as u64 + 1)));
        assert_eq!(recent.order.len(), MAX);
    }
}
