use std::time::Duration;

use agent_sre::Timestamp;

use crate::service_time::{ServiceTime, whole_second};

/// The time that the writer of the journal gives to batches and to the processor, so that a replay of the journal makes the same ticks.
///
/// Time between two entries follows from their times, except where it jumps or where more ticks are between them than a jump has. The
/// journal then needs entries of the time itself.
#[derive(Debug)]
pub(crate) struct JournalClock {
    /// The time of the last batch or tick, with the fraction of its second.
    now: Timestamp,
    /// The time of the processor, once it has processed what it was given.
    processed: ServiceTime,
    /// The time of a service that has replayed the journal.
    journaled: ServiceTime,
}

impl JournalClock {
    /// Creates the clock of a service that has replayed its journal up to a time.
    pub(crate) fn new(time: ServiceTime) -> Self {
        Self { now: time.now, processed: time, journaled: time }
    }

    /// Returns the time of the last batch or tick.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the last tick.
    pub(crate) fn ticked(&self) -> Timestamp {
        self.processed.ticked
    }

    /// Returns the time that is `elapsed` after the last one when the system's clock shows `clock`. While that is a little behind, time
    /// passes at half its pace, so that traces and tasks still end, and the clock catches up.
    pub(crate) fn next(&self, clock: Timestamp, elapsed: Duration) -> Timestamp {
        let is_set_back = clock < self.now && self.processed.jumps_to(whole_second(clock));
        if clock > self.now || is_set_back { clock } else { self.now.saturating_add(elapsed / 2) }
    }

    /// Returns the times that the journal must have before the next tick at `second`: none, or the last time and that of the tick.
    pub(crate) fn missing_before(&self, second: Timestamp) -> Vec<Timestamp> {
        if self.processed == ServiceTime::default() {
            return vec![second];
        }
        let is_missing = self.processed.jumps_to(second) || self.journaled.jumps_to(second);
        if is_missing { vec![self.processed.now, second] } else { Vec::new() }
    }

    /// Notes that the journal has an entry of the time of the processor.
    pub(crate) fn note_journaled(&mut self) {
        self.journaled = self.processed;
    }

    /// Advances to the tick before `next`, the time of a batch if one follows.
    pub(crate) fn tick(&mut self, next: Timestamp) {
        self.processed.advance_to(whole_second(next));
        self.now = next;
    }

    /// Notes that a batch with the present time is in the journal.
    pub(crate) fn note_batch(&mut self) {
        self.processed.advance_to(self.now);
        self.note_journaled();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_790_000_000;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_unix_seconds(START as f64 + seconds).unwrap()
    }

    fn running(seconds: f64) -> JournalClock {
        let mut time = ServiceTime::default();
        time.advance_to(at(seconds));
        JournalClock::new(time)
    }

    #[test]
    fn time_passes_at_half_its_pace_while_the_clock_is_a_little_behind() {
        let (clock, elapsed) = (running(600.0), Duration::from_secs(2));
        assert_eq!(clock.next(at(500.0), elapsed), at(601.0));
        assert_eq!(clock.next(at(601.5), elapsed), at(601.5));
        assert_eq!(clock.next(at(-1.0), elapsed), at(-1.0));
    }

    #[test]
    fn the_clock_follows_one_that_was_set_back_exactly_when_the_processor_does() {
        let mut clock = running(500.0);
        clock.tick(at(500.9));
        let elapsed = Duration::from_secs(1);
        // The processor is at 500 s, which is not more than ten minutes ahead.
        assert_eq!(clock.next(at(-99.6), elapsed), at(501.4));
        assert_eq!(clock.next(at(-100.1), elapsed), at(-100.1));
    }

    #[test]
    fn jumps_and_ten_minutes_without_a_batch_are_in_the_journal() {
        let mut clock = JournalClock::new(ServiceTime::default());
        let mut times = |seconds: f64| {
            let missing = clock.missing_before(whole_second(at(seconds)));
            clock.tick(at(seconds));
            if !missing.is_empty() {
                clock.note_journaled();
            }
            missing.into_iter().map(|time| time.as_secs() - START).collect::<Vec<_>>()
        };
        assert_eq!(times(0.5), [0], "the first time");
        for second in 1..=600 {
            assert!(times(f64::from(second)).is_empty());
        }
        assert_eq!(times(601.0), [600, 601], "a replay would omit ticks");
        assert!(times(1_000.0).is_empty());
        assert_eq!(times(5_000.0), [1_000, 5_000], "a jump");
        assert_eq!(times(7.0), [5_000, 7], "a clock that was set back");
    }
}
