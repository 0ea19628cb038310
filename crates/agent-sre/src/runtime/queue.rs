use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sre_core::{Phase, Signal, Timestamp};

/// Signals that wait for one handler, in order.
///
/// An incident never has more than a few signals here, however often its state changes: a repeat of a state is dropped, and
/// a circle through states is cut short, so that the size is bounded by the number of incidents. What never happens is that
/// an end replaces a beginning that was not handled. One-offs are counted; the caller of `push` limits their number.
#[derive(Debug, Default)]
pub(crate) struct SignalQueue {
    next: u64,
    waiting: BTreeMap<u64, Arc<Signal>>,
    incidents: HashMap<String, Incident>,
    one_offs: usize,
}

#[derive(Debug, Default)]
struct Incident {
    /// The numbers of its waiting signals, in order.
    waiting: Vec<u64>,
    /// The state that the handler was told of last.
    handled: Option<Handled>,
}

#[derive(Debug, PartialEq)]
struct Handled {
    phase: Phase,
    state: String,
    time: Timestamp,
}

/// So many incidents are remembered after their end, to know repeats of it.
const MAX_ENDED: usize = 65_536;

impl SignalQueue {
    /// Adds a signal; false where it repeats a state that waits or is known to be handled.
    pub(crate) fn push(&mut self, signal: Arc<Signal>) -> bool {
        let number = self.next;
        if signal.phase == Phase::OneOff {
            self.one_offs += 1;
        } else {
            if !self.incidents.contains_key(&signal.key) {
                self.incidents.insert(signal.key.clone(), Incident::default());
            }
            let incident = self.incidents.get_mut(&signal.key).expect("it was there, or has just been put there");
            let is_known = |number: &u64| self.waiting.get(number).is_some_and(|known| is_same_state(known, &signal));
            // A beginning replaces what came since the same beginning; an end replaces nothing but an end.
            let place = match signal.phase {
                Phase::Firing => incident.waiting.iter().position(is_known),
                _ => incident.waiting.len().checked_sub(1).filter(|last| is_known(&incident.waiting[*last])),
            };
            if let Some(place) = place {
                for skipped in incident.waiting.drain(place + 1..) {
                    self.waiting.remove(&skipped);
                }
                self.waiting.insert(incident.waiting[place], signal);
                return false;
            }
            let handled = incident.handled.as_ref().filter(|_| incident.waiting.is_empty());
            if handled.is_some_and(|handled| handled.is_repeated_by(&signal)) {
                return false;
            }
            incident.waiting.push(number);
        }
        self.waiting.insert(number, signal);
        self.next += 1;
        true
    }

    /// Takes the oldest signals out.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<Arc<Signal>> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((number, signal)) = self.waiting.pop_first()
        {
            if signal.phase == Phase::OneOff {
                self.one_offs -= 1;
            } else if let Some(incident) = self.incidents.get_mut(&signal.key) {
                incident.waiting.retain(|waiting| *waiting != number);
                incident.handled = Some(Handled::of(&signal));
            }
            taken.push(signal);
        }
        taken
    }

    /// Forgets that a signal was handled: it is taken again when it is asserted again.
    pub(crate) fn forget(&mut self, signal: &Signal) {
        if let Some(incident) = self.incidents.get_mut(&signal.key) {
            incident.handled = None;
        }
    }

    /// Forgets ended incidents where there are too many; their ends, asserted again, are handled once more.
    pub(crate) fn trim(&mut self) {
        if self.incidents.len() > MAX_ENDED {
            let is_ended = |incident: &Incident| {
                let handled = incident.handled.as_ref();
                incident.waiting.is_empty() && handled.is_none_or(|handled| handled.phase == Phase::Resolved)
            };
            self.incidents.retain(|_, incident| !is_ended(incident));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn one_offs(&self) -> usize {
        self.one_offs
    }
}

impl Handled {
    fn of(signal: &Signal) -> Self {
        Self { phase: signal.phase, state: signal.state.clone().into_owned(), time: signal.time }
    }

    fn is_repeated_by(&self, signal: &Signal) -> bool {
        (self.phase, &*self.state, self.time) == (signal.phase, &*signal.state, signal.time)
    }
}

fn is_same_state(a: &Signal, b: &Signal) -> bool {
    (a.phase, &a.state) == (b.phase, &b.state) || (a.phase == Phase::Resolved && b.phase == Phase::Resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sre_core::Severity;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(second)
    }

    fn firing(state: &'static str, second: i64) -> Arc<Signal> {
        Arc::new(Signal::firing("test", "key", Severity::Critical, at(second)).with_state(state))
    }

    fn resolved(second: i64) -> Arc<Signal> {
        Arc::new(Signal::resolved("test", "key", at(second)))
    }

    fn states(queue: &mut SignalQueue) -> Vec<String> {
        queue.take(usize::MAX).iter().map(|signal| signal.state.to_string()).collect()
    }

    #[test]
    fn a_beginning_is_kept_before_its_end() {
        let mut queue = SignalQueue::default();
        assert!(queue.push(firing("open", 1)) && queue.push(resolved(2)) && !queue.push(resolved(3)));
        assert_eq!(states(&mut queue), ["open", "resolved"]);
        assert!(queue.push(firing("open", 4)) && queue.push(resolved(5)));
        assert_eq!(states(&mut queue), ["open", "resolved"]);
    }

    #[test]
    fn what_was_handled_is_not_handled_again_unless_it_is_forgotten() {
        let mut queue = SignalQueue::default();
        queue.push(firing("open", 1));
        let taken = queue.take(1);
        assert!(!queue.push(firing("open", 1)), "asserted again");
        queue.forget(&taken[0]);
        assert!(queue.push(firing("open", 1)), "made good");
    }

    #[test]
    fn one_offs_are_all_kept() {
        let mut queue = SignalQueue::default();
        let one_off = Arc::new(Signal::one_off("test", "key", Severity::Info, at(1)));
        (0..3).for_each(|_| assert!(queue.push(one_off.clone())));
        assert_eq!((queue.one_offs(), queue.take(2).len(), queue.one_offs()), (3, 2, 1));
    }

    proptest! {
        /// A handler that takes at arbitrary moments ends in the incident's last state, sees beginnings and ends in turn, and
        /// the queue stays small.
        #[test]
        fn a_handler_follows_every_incident(steps in prop::collection::vec((0..4_usize, any::<bool>()), 1..200)) {
            let mut queue = SignalQueue::default();
            let (mut seen, mut last, mut began) = (Vec::new(), None, false);
            for (second, (state, takes)) in (1..).zip(steps) {
                // An engine tells transitions only.
                let signal = match state {
                    0 => resolved(second),
                    state => firing(["warning", "critical", "exhausted"][state - 1], second),
                };
                let is_transition = last.as_ref().is_none_or(|last: &Arc<Signal>| last.state != signal.state);
                if is_transition {
                    queue.push(signal.clone());
                    last = Some(signal);
                }
                prop_assert!(queue.len() <= 7, "{queue:?}");
                began |= queue.waiting.values().any(|signal| signal.phase == Phase::Firing);
                if takes {
                    seen.extend(queue.take(1));
                }
            }
            seen.extend(queue.take(usize::MAX));
            prop_assert_eq!(&seen.last().unwrap().state, &last.unwrap().state);
            prop_assert_eq!(began, seen.iter().any(|signal| signal.phase == Phase::Firing));
            for pair in seen.windows(2) {
                prop_assert!(pair[0].state != pair[1].state, "{pair:?}");
            }
        }
    }
}
