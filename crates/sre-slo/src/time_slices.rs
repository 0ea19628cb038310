use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sre_core::{Counts, StateError, StateReader, StateWriter, Timestamp, Window, lock};

use crate::Target;

/// A budget of slices of time instead of events: a slice is good when enough of its events are.
///
/// A slice without events counts for nothing. One is judged when it is over; an event that comes later than that is
/// dropped, and counted as such.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimeSlices {
    /// How long a slice is; they begin at multiples of it since the Unix epoch.
    pub window: Window,
    /// The share of a slice's events that must be good.
    pub target: Target,
}

/// The slice that is going on.
#[derive(Debug)]
pub(crate) struct OpenSlice {
    slices: TimeSlices,
    open: Mutex<Open>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Open {
    start: i64,
    counts: Counts,
    late: u64,
}

impl OpenSlice {
    pub(crate) fn new(slices: TimeSlices) -> Self {
        Self { slices, open: Mutex::default() }
    }

    pub(crate) fn save(&self, state: &mut StateWriter) {
        state.put(&*lock(&self.open));
    }

    pub(crate) fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        *lock(&self.open) = state.take()?;
        Ok(())
    }

    /// Counts an event; the slice before it goes to `judged` once it is over.
    pub(crate) fn record(&self, time: Timestamp, good: bool, judged: &mut dyn FnMut(Timestamp, bool)) {
        let mut open = lock(&self.open);
        self.judge(&mut open, time, judged);
        if time.as_nanos() < open.start {
            open.late += 1;
        } else if good {
            open.counts.good += 1;
        } else {
            open.counts.bad += 1;
        }
    }

    /// Judges what is over at `now`; how many events came too late.
    pub(crate) fn settle(&self, now: Timestamp, judged: &mut dyn FnMut(Timestamp, bool)) -> u64 {
        let mut open = lock(&self.open);
        self.judge(&mut open, now, judged);
        open.late
    }

    fn judge(&self, open: &mut Open, now: Timestamp, judged: &mut dyn FnMut(Timestamp, bool)) {
        let width = i64::try_from(self.slices.window.duration().as_nanos()).unwrap_or(i64::MAX);
        let start = now.as_nanos().div_euclid(width).saturating_mul(width);
        if start > open.start {
            if let Some(ratio) = open.counts.success_ratio() {
                judged(Timestamp::from_nanos(open.start), ratio >= self.slices.target.ratio());
            }
            *open = Open { start, late: open.late, ..Open::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_040;

    proptest! {
        #[test]
        fn slices_are_judged_as_by_hand(mut events in prop::collection::vec((0i64..3600, any::<bool>()), 1..300), target in 1u32..=10) {
            events.sort_unstable();
            let target = Target::try_from(f64::from(target) / 10.0).unwrap();
            let slices = OpenSlice::new(TimeSlices { window: Window::minutes(1), target });
            let mut judged = Vec::new();
            for &(second, good) in &events {
                slices.record(Timestamp::from_secs(START + second), good, &mut |_, good| judged.push(good));
            }
            slices.settle(Timestamp::from_secs(START + 7200), &mut |_, good| judged.push(good));
            let mut expected = Vec::new();
            for minute in 0..60 {
                let of_minute: Vec<bool> = events.iter().filter(|(second, _)| second / 60 == minute).map(|(_, good)| *good).collect();
                if !of_minute.is_empty() {
                    let good = of_minute.iter().filter(|good| **good).count();
                    expected.push(good as f64 / of_minute.len() as f64 >= target.ratio());
                }
            }
            prop_assert_eq!(judged, expected);
        }
    }

    #[test]
    fn a_slice_is_judged_when_it_is_over_and_late_events_are_counted() {
        let slices = OpenSlice::new(TimeSlices { window: Window::minutes(1), target: Target::try_from(0.5).unwrap() });
        let mut judged = Vec::new();
        let mut judge = |start: Timestamp, good: bool| judged.push((start, good));
        slices.record(Timestamp::from_secs(START), false, &mut judge);
        assert_eq!(slices.settle(Timestamp::from_secs(START + 59), &mut judge), 0);
        assert_eq!(slices.settle(Timestamp::from_secs(START + 60), &mut judge), 0);
        slices.record(Timestamp::from_secs(START + 1), true, &mut judge);
        assert_eq!(slices.settle(Timestamp::from_secs(START + 61), &mut judge), 1);
        assert_eq!(judged, [(Timestamp::from_secs(START), false)]);
    }
}
