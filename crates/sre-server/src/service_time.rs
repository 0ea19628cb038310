use std::sync::Arc;
use std::time::Duration;

use agent_sre::{Clock, ManualClock, Timestamp};

/// The clocks of the service.
#[derive(Clone)]
pub(crate) struct Clocks {
    /// The clock that the service was started with.
    pub(crate) wall: Arc<dyn Clock>,
    /// The time of the engines: that of the last tick or batch, also while the journal is replayed.
    pub(crate) engines: Arc<ManualClock>,
}

/// The time of the service, which the journal determines: a replay of the same entries, from the same snapshot, makes the same
/// ticks between them ([`JournalClock`](crate::journal_clock::JournalClock)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceTime {
    /// The time of the last batch or tick.
    pub(crate) now: Timestamp,
    /// The last tick, in whole seconds.
    pub(crate) ticked: Timestamp,
}

/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// The number of ticks after which time jumps. Of a longer time without batches or ticks, because the service was down or the
/// clock was set, only the beginning and the end count.
const MAX_TICKS: u32 = 600;

impl Clocks {
    /// Creates the clocks of a service whose engines have seen nothing yet.
    pub(crate) fn new(wall: Arc<dyn Clock>) -> Self {
        Self { wall, engines: Arc::new(ManualClock::new(Timestamp::default())) }
    }

    /// Returns the current time of the service.
    pub(crate) fn now(&self) -> Timestamp {
        following(self.engines.now(), self.wall.now())
    }
}

impl ServiceTime {
    /// Returns whether time jumps on the way to the time of a batch or tick: back, or over some of the ticks. The first time of all is
    /// a jump, too.
    pub(crate) fn jumps_to(self, time: Timestamp) -> bool {
        let second = whole_second(following(self.now, time));
        self.ticked == Timestamp::default() || second < self.ticked || second.since(self.ticked) > TICK * MAX_TICKS
    }

    /// Advances to the time of a batch or tick. Returns the ticks on the way.
    pub(crate) fn advance_to(&mut self, time: Timestamp) -> Vec<Timestamp> {
        let is_jump = self.jumps_to(time);
        self.now = following(self.now, time);
        let second = whole_second(self.now);
        let before = std::mem::replace(&mut self.ticked, second);
        if before == Timestamp::default() {
            // The past is unknown: that of a new service, or of one of version 0.1.0, which has not saved its time.
            return Vec::new();
        }
        if second < before {
            return vec![second];
        }
        let next = |tick: &Timestamp| Some(tick.saturating_add(TICK)).filter(|tick| *tick <= second);
        let mut ticks: Vec<Timestamp> = std::iter::successors(next(&before), next).take(MAX_TICKS as usize).collect();
        ticks.extend(is_jump.then_some(second));
        ticks
    }
}

/// Returns the time of the service after `last` for the time `clock` of a journal entry, in a replay as when it was processed:
/// the time stands still while the entry's is a little behind, and follows one that is back by more than [`MAX_TICKS`] seconds.
///
/// The live service writes no times that are a little behind: meanwhile its time runs at half speed
/// ([`JournalClock::next`](crate::journal_clock::JournalClock::next)).
pub(crate) fn following(last: Timestamp, clock: Timestamp) -> Timestamp {
    if last.since(clock) <= TICK * MAX_TICKS { last.max(clock) } else { clock }
}

/// Returns the second in which a time is.
pub(crate) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_790_000_000;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_unix_seconds(START as f64 + seconds).unwrap()
    }

    #[test]
    fn every_whole_second_is_a_tick_and_a_long_gap_a_jump() {
        let mut time = ServiceTime::default();
        let mut advance = |seconds: f64| {
            let is_jump = time.jumps_to(at(seconds));
            let ticks = time.advance_to(at(seconds));
            (ticks.iter().map(|tick| tick.as_secs() - START).collect::<Vec<_>>(), is_jump)
        };
        assert_eq!(advance(0.5), (vec![], true), "the first time");
        assert_eq!(advance(0.9), (vec![], false));
        assert_eq!(advance(3.0), (vec![1, 2, 3], false));
        assert_eq!(advance(2.0), (vec![], false), "a clock that is a little behind");
        assert_eq!(advance(3.7), (vec![], false));
        assert_eq!(advance(603.0), ((4..=603).collect(), false));
        let (ticks, is_jump) = advance(100_000.0);
        assert_eq!((ticks.len(), ticks[599], ticks[600], is_jump), (601, 1_203, 100_000, true));
        assert_eq!(advance(7.0), (vec![7], true), "a clock that was set back");
        assert_eq!(advance(8.0), (vec![8], false));
    }

    #[test]
    fn time_stands_still_while_the_clock_is_a_little_behind() {
        assert_eq!(following(at(600.0), at(0.0)), at(600.0));
        assert_eq!(following(at(600.0), at(600.5)), at(600.5));
        assert_eq!(following(at(600.0), at(-0.1)), at(-0.1));
    }
}
