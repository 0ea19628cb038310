use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sre_core::private::lock;
use sre_core::{Counts, StateError, StateReader, StateWriter, Timestamp, Window};

use crate::SloTarget;

/// Counts time slices instead of events: a slice is good if enough of its events are (OpenSLO's `Timeslices` method).
///
/// A slice without events does not count. A slice is closed when it ends; later events for it are dropped and counted as
/// dropped.
///
/// Exhaustive: these are the fields of OpenSLO's `Timeslices` method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeSlices {
    /// Length of a slice. Slices begin at multiples of it since the Unix epoch.
    pub window: Window,
    /// Ratio of a slice's events that must be good.
    pub target: SloTarget,
}

/// The slice that has not ended yet.
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

    /// Counts an event. Calls `on_closed` with the start and outcome of a slice that has ended.
    pub(crate) fn record(&self, time: Timestamp, good: bool, on_closed: &mut dyn FnMut(Timestamp, bool)) {
        let mut open = lock(&self.open);
        self.close(&mut open, time, on_closed);
        if time.as_nanos() < open.start {
            open.late += 1;
        } else if good {
            open.counts.good += 1;
        } else {
            open.counts.bad += 1;
        }
    }

    /// Closes the slice if it has ended by `now`. Returns the number of events that came too late.
    pub(crate) fn close_until(&self, now: Timestamp, on_closed: &mut dyn FnMut(Timestamp, bool)) -> u64 {
        let mut open = lock(&self.open);
        self.close(&mut open, now, on_closed);
        open.late
    }

    fn close(&self, open: &mut Open, now: Timestamp, on_closed: &mut dyn FnMut(Timestamp, bool)) {
        let width = i64::try_from(self.slices.window.duration().as_nanos()).unwrap_or(i64::MAX);
        let start = now.as_nanos().div_euclid(width).saturating_mul(width);
        if start > open.start {
            if let Some(ratio) = open.counts.success_ratio() {
                on_closed(Timestamp::from_nanos(open.start), ratio >= self.slices.target.ratio());
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
        fn slices_agree_with_a_simple_count(mut events in prop::collection::vec((0i64..3600, any::<bool>()), 1..300), target in 1u32..=10) {
            events.sort_unstable();
            let target = SloTarget::try_from(f64::from(target) / 10.0).unwrap();
            let slices = OpenSlice::new(TimeSlices { window: Window::minutes(1), target });
            let mut judged = Vec::new();
            for &(second, good) in &events {
                slices.record(Timestamp::from_secs(START + second), good, &mut |_, good| judged.push(good));
            }
            slices.close_until(Timestamp::from_secs(START + 7200), &mut |_, good| judged.push(good));
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
    fn a_slice_closes_when_it_ends_and_late_events_are_counted() {
        let slices =
            OpenSlice::new(TimeSlices { window: Window::minutes(1), target: SloTarget::try_from(0.5).unwrap() });
        let mut judged = Vec::new();
        let mut judge = |start: Timestamp, good: bool| judged.push((start, good));
        slices.record(Timestamp::from_secs(START), false, &mut judge);
        assert_eq!(slices.close_until(Timestamp::from_secs(START + 59), &mut judge), 0);
        assert_eq!(slices.close_until(Timestamp::from_secs(START + 60), &mut judge), 0);
        slices.record(Timestamp::from_secs(START + 1), true, &mut judge);
        assert_eq!(slices.close_until(Timestamp::from_secs(START + 61), &mut judge), 1);
        assert_eq!(judged, [(Timestamp::from_secs(START), false)]);
    }
}
