use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sre_core::{Phase, Signal, Timestamp};

/// Signals that wait for one handler, in order.
///
/// An incident never has more than a few signals here, however often its state changes: a repeat of a waiting state is dropped, and
/// a circle through states is cut short, so that the size is bounded by the number of incidents. An end never replaces a
/// beginning that was not handled. A beginning that is asserted again after it was handled is handled again, so that a handler
/// can recover a signal that it lost. The order is that in which signals are pushed, and not that of their times, because clocks are set
/// back. One-offs are counted; the caller of `push` limits their number.
#[derive(Debug, Default)]
pub(crate) struct SignalQueue {
    next: u64,
    /// All signals of one incident that wait have one depth, so that they stay in order.
    waiting: BTreeMap<QueuePosition, Queued>,
    /// The depth from which signals are taken next.
    turn: u8,
    incidents: HashMap<String, Incident>,
    one_offs: usize,
}

/// The depth and the number of a signal. The depth is 0 for a signal of an engine, 1 for one that a handler raised over it, and
/// so on.
type QueuePosition = (u8, u64);

/// A waiting signal.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) signal: Arc<Signal>,
    /// 0 for a signal of an engine, 1 for one that a handler raised over it, and so on.
    pub(crate) depth: u8,
    /// How often the handler has panicked over it.
    pub(crate) panics: u8,
    /// Whether the spool still holds it.
    pub(crate) is_spooled: bool,
}

/// A signal taken from the queue, with its place there.
pub(crate) type TakenSignal = (QueuePosition, Queued);

#[derive(Debug, Default)]
struct Incident {
    /// The places of its waiting signals, in order.
    waiting: Vec<QueuePosition>,
    /// The time of the end that was handed to the handler last, if nothing was since.
    ended: Option<Timestamp>,
}

/// Maximum number of handled incidents that are remembered, to recognise repeats of their ends.
const MAX_HANDLED: usize = 65_536;

impl SignalQueue {
    /// Adds a signal. Returns false if it repeats a state that waits, or an end that is known to be handled.
    pub(crate) fn push(&mut self, queued: Queued) -> bool {
        let mut place = (queued.depth, self.next);
        let signal = &queued.signal;
        if signal.phase == Phase::OneOff {
            self.one_offs += 1;
        } else {
            if !self.incidents.contains_key(&signal.key) {
                self.incidents.insert(signal.key.clone(), Incident::default());
            }
            let incident = self.incidents.get_mut(&signal.key).expect("inserted above");
            let is_known = |place: &QueuePosition| {
                self.waiting.get(place).is_some_and(|known| is_same_state(&known.signal, signal))
            };
            // A beginning replaces what came since the same beginning; an end replaces nothing but an end.
            let repeated = match signal.phase {
                Phase::Firing => incident.waiting.iter().position(is_known),
                _ => incident.waiting.len().checked_sub(1).filter(|last| is_known(&incident.waiting[*last])),
            };
            if let Some(repeated) = repeated {
                for skipped in incident.waiting.drain(repeated + 1..) {
                    self.waiting.remove(&skipped);
                }
                self.waiting.insert(incident.waiting[repeated], queued);
                return false;
            }
            let is_end = signal.phase == Phase::Resolved && incident.waiting.is_empty();
            if is_end && incident.ended == Some(signal.time) {
                return false;
            }
            place.0 = incident.waiting.first().map_or(place.0, |(depth, _)| *depth);
            incident.waiting.push(place);
        }
        self.waiting.insert(place, queued);
        self.next += 1;
        true
    }

    /// Takes the oldest signals of one depth out, of each depth in turn. Returns them with the depth.
    pub(crate) fn take(&mut self, limit: usize) -> (u8, Vec<TakenSignal>) {
        let first = self.waiting.range((self.turn, 0)..).next().or_else(|| self.waiting.first_key_value());
        let depth = first.map_or(0, |((depth, _), _)| *depth);
        self.turn = depth.saturating_add(1);
        let places = self.waiting.range((depth, 0)..=(depth, u64::MAX)).take(limit).map(|(place, _)| *place);
        let places: Vec<QueuePosition> = places.collect();
        let taken = places.into_iter().filter_map(|place| self.waiting.remove_entry(&place));
        let taken: Vec<TakenSignal> = taken.collect();
        for (place, Queued { signal, .. }) in &taken {
            if signal.phase == Phase::OneOff {
                self.one_offs -= 1;
            } else if let Some(incident) = self.incidents.get_mut(&signal.key) {
                incident.waiting.retain(|waiting| waiting != place);
                incident.ended = (signal.phase == Phase::Resolved).then_some(signal.time);
            }
        }
        (depth, taken)
    }

    /// Returns a signal to its place, before what has come since.
    pub(crate) fn put_back(&mut self, ((mut depth, number), queued): TakenSignal) {
        if queued.signal.phase == Phase::OneOff {
            self.one_offs += 1;
        } else {
            let incident = self.incidents.entry(queued.signal.key.clone()).or_default();
            depth = incident.waiting.first().map_or(depth, |(depth, _)| *depth);
            incident.waiting.insert(0, (depth, number));
            incident.ended = None;
        }
        self.waiting.insert((depth, number), queued);
    }

    /// Takes all signals out, oldest first.
    pub(crate) fn drain(&mut self) -> Vec<Queued> {
        let waiting = std::mem::take(&mut self.waiting);
        (self.incidents, self.one_offs) = (HashMap::new(), 0);
        waiting.into_values().collect()
    }

    /// Returns the waiting signals, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.waiting.values()
    }

    /// Forgets that an end was handled: it is taken again when it is asserted again.
    pub(crate) fn forget(&mut self, signal: &Signal) {
        if let Some(incident) = self.incidents.get_mut(&signal.key) {
            incident.ended = None;
        }
    }

    /// Forgets handled incidents if there are too many; their ends, asserted again, are handled once more.
    pub(crate) fn trim(&mut self) {
        if self.incidents.len() > MAX_HANDLED {
            self.incidents.retain(|_, incident| !incident.waiting.is_empty());
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

impl Queued {
    pub(crate) fn new(signal: Arc<Signal>, depth: u8) -> Self {
        Self { signal, depth, panics: 0, is_spooled: false }
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

    fn queued(signal: Signal) -> Queued {
        Queued::new(Arc::new(signal), 0)
    }

    fn firing(state: &'static str, second: i64) -> Queued {
        queued(Signal::firing("test", "key", Severity::Critical, at(second)).with_state(state))
    }

    fn resolved(second: i64) -> Queued {
        queued(Signal::resolved("test", "key", at(second)))
    }

    fn states(queue: &mut SignalQueue) -> Vec<String> {
        queue.take(usize::MAX).1.iter().map(|(_, queued)| queued.signal.state.to_string()).collect()
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
    fn a_beginning_that_is_asserted_again_is_handled_again_and_an_end_is_not() {
        let mut queue = SignalQueue::default();
        queue.push(firing("open", 1));
        queue.take(1);
        assert!(queue.push(firing("open", 1)), "the handler may have lost it");
        assert!(!queue.push(firing("open", 1)), "it waits");
        queue.take(1);
        queue.push(resolved(2));
        let (_, taken) = queue.take(1);
        assert!(!queue.push(resolved(2)), "asserted again");
        queue.forget(&taken[0].1.signal);
        assert!(queue.push(resolved(2)), "handled again");
    }

    #[test]
    fn an_incident_that_begins_after_the_clock_was_set_back_is_handled() {
        let mut queue = SignalQueue::default();
        for (begun, ended) in [(100, 200), (60, 70), (60, 70)] {
            assert!(queue.push(firing("open", begun)));
            queue.take(1);
            assert!(queue.push(resolved(ended)));
            queue.take(1);
        }
        queue.push(firing("open", 90));
        queue.push(resolved(95));
        queue.push(firing("closing", 20));
        assert_eq!(states(&mut queue), ["open", "resolved", "closing"]);
    }

    #[test]
    fn one_offs_are_all_kept() {
        let mut queue = SignalQueue::default();
        let one_off = queued(Signal::one_off("test", "key", Severity::Info, at(1)));
        (0..3).for_each(|_| assert!(queue.push(one_off.clone())));
        assert_eq!((queue.one_offs(), queue.take(2).1.len(), queue.one_offs()), (3, 2, 1));
    }

    #[test]
    fn a_signal_that_is_put_back_comes_before_what_followed_it() {
        let mut queue = SignalQueue::default();
        queue.push(firing("open", 1));
        let begin = queue.take(1).1.remove(0);
        assert!(queue.push(resolved(2)) && queue.push(queued(Signal::one_off("test", "one", Severity::Info, at(3)))));
        queue.put_back(begin);
        assert_eq!(states(&mut queue), ["open", "resolved", "occurred"]);
        assert!(queue.push(firing("open", 4)), "the incident begins again");
    }

    #[test]
    fn what_handlers_raise_is_in_batches_of_its_own() {
        let mut queue = SignalQueue::default();
        let mut push = |depth, second| {
            let signal = Signal::one_off("test", "one", Severity::Info, at(second));
            queue.push(Queued { depth, ..queued(signal) })
        };
        assert!([(0, 1), (0, 2), (1, 3), (0, 4), (0, 5)].into_iter().all(|(depth, second)| push(depth, second)));
        let batches: Vec<(u8, usize)> =
            (0..3).map(|_| queue.take(3)).map(|(depth, taken)| (depth, taken.len())).collect();
        assert_eq!(batches, [(0, 3), (1, 1), (0, 1)]);
    }

    #[test]
    fn an_incident_stays_in_order_whatever_raises_its_signals() {
        let mut queue = SignalQueue::default();
        queue.push(Queued { depth: 1, ..firing("open", 1) });
        queue.push(resolved(2));
        assert_eq!(states(&mut queue), ["open", "resolved"]);
        queue.push(Queued { depth: 1, ..firing("open", 3) });
        let begin = queue.take(1).1.remove(0);
        queue.push(resolved(4));
        queue.put_back(begin);
        assert_eq!(states(&mut queue), ["open", "resolved"]);
    }

    proptest! {
        /// A handler that takes at arbitrary moments ends in the incident's last state, sees beginnings and ends in turn, and
        /// the queue stays small, whatever the clock shows.
        #[test]
        fn a_handler_follows_every_incident(
            steps in prop::collection::vec((0..4_usize, any::<bool>(), 1..20_i64), 1..200),
        ) {
            let mut queue = SignalQueue::default();
            let (mut seen, mut last, mut began) = (Vec::<TakenSignal>::new(), None, false);
            for (state, takes, second) in steps {
                // An engine tells transitions only.
                let signal = match state {
                    0 => resolved(second),
                    state => firing(["warning", "critical", "exhausted"][state - 1], second),
                };
                let is_transition = last.as_ref().is_none_or(|last: &Arc<Signal>| last.state != signal.signal.state);
                if is_transition {
                    last = Some(signal.signal.clone());
                    queue.push(signal);
                }
                prop_assert!(queue.len() <= 7, "{queue:?}");
                began |= queue.iter().any(|queued| queued.signal.phase == Phase::Firing);
                if takes {
                    seen.extend(queue.take(1).1);
                }
            }
            seen.extend(queue.take(usize::MAX).1);
            let seen: Vec<Arc<Signal>> = seen.into_iter().map(|(_, queued)| queued.signal).collect();
            prop_assert_eq!(&seen.last().unwrap().state, &last.unwrap().state);
            prop_assert_eq!(began, seen.iter().any(|signal| signal.phase == Phase::Firing));
            for pair in seen.windows(2) {
                prop_assert!(pair[0].state != pair[1].state, "{pair:?}");
            }
        }
    }
}
