use crate::{
    AgentEvent, Counts, EventKind, ExponentialHistogram, IndicatorSnapshot, SliReading, SliSpec, StateError,
    StateReader, StateWriter, Timestamp, Window,
};

/// A service level indicator: a measurement of an agent, compared with a target.
///
/// Recording takes `&self`, cannot fail, and takes constant time. An indicator is one of the series
/// ([`RatioSeries`](crate::RatioSeries), [`PercentileSeries`](crate::PercentileSeries), [`MeanSeries`](crate::MeanSeries))
/// and the events that it records:
///
/// ```
/// # use sre_core::{AgentEvent, Counts, Event, RatioSeries, Sli, SliReading, SliSpec, StateError, StateReader, StateWriter};
/// # use sre_core::{Timestamp, Window};
/// /// Ratio of tasks that the model refused.
/// struct RefusalRate(RatioSeries);
///
/// impl Sli for RefusalRate {
///     fn spec(&self) -> &SliSpec { self.0.spec() }
///
///     fn reading(&self, now: Timestamp) -> SliReading { self.0.reading(now) }
///
///     fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> { Some(self.0.counts(window, now)) }
///
///     fn observe(&self, event: &AgentEvent) {
///         if let Event::TaskFinished(task) = &event.event {
///             self.0.record(event.time, task.error.as_deref() == Some("refused"));
///         }
///     }
///
///     fn save(&self, state: &mut StateWriter) { self.0.save(state); }
///
///     fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> { self.0.restore(state) }
/// }
/// # let spec = SliSpec::ratio_at_most("refusal_rate", 0.02, Window::DAY).unwrap();
/// # let refusals = RefusalRate(RatioSeries::new(spec));
/// # let line = br#"{"event":"task_finished","time":1790000000,"agent":"support","success":false,"error":"refused"}"#;
/// # let event = AgentEvent::from_json(line).unwrap();
/// # refusals.observe(&event);
/// # assert_eq!(refusals.reading(event.time).value, Some(1.0));
/// ```
pub trait Sli: Send + Sync {
    /// Returns the specification: name, target, unit and window.
    fn spec(&self) -> &SliSpec;

    /// Returns the reading of the window that ends at `now`.
    fn reading(&self, now: Timestamp) -> SliReading;

    /// Records an event. Events that the indicator does not measure are ignored.
    fn observe(&self, event: &AgentEvent);

    /// Returns the numbers of good and bad samples in any window that ends at `now`, or `None` if samples are neither, as those of
    /// a mean. An indicator with counts has an error budget of its own.
    ///
    /// Its objective asks once for the longest window that it will need, before the first sample. The series of this crate then keep
    /// counts for so long.
    fn counts(&self, _window: Window, _now: Timestamp) -> Option<Counts> {
        None
    }

    /// Prepares an indicator with counts for windows from `shortest` to `longest`, besides its own. Called before the first sample.
    /// Without it, windows below 50 s may be inexact.
    fn cover(&self, _shortest: Window, _longest: Window) {}

    /// Returns the kind of events of which each is one sample, which is good if the event succeeded; by default `None`. If the
    /// objective counts the same events, the indicator shares its error budget.
    fn counts_outcomes_of(&self) -> Option<EventKind> {
        None
    }

    /// Returns whether an event is a sample of a latency that takes longer than the target; by default false. Records nothing.
    fn is_slow(&self, _event: &AgentEvent) -> bool {
        false
    }

    /// Returns the distribution of all samples since the indicator began, in base units, or `None` if it keeps none.
    fn histogram(&self) -> Option<ExponentialHistogram> {
        None
    }

    /// Saves the samples, so that they survive a restart. By default nothing is saved.
    fn save(&self, _state: &mut StateWriter) {}

    /// Adds saved samples.
    ///
    /// # Errors
    ///
    /// Returns an error if the saved state is damaged.
    fn restore(&self, _state: &mut StateReader<'_>) -> Result<(), StateError> {
        Ok(())
    }

    /// Returns the reading together with the specification, for reports and exporters.
    fn snapshot(&self, now: Timestamp) -> IndicatorSnapshot {
        IndicatorSnapshot::new(self.spec(), self.reading(now))
    }
}

impl<S: Sli + ?Sized> Sli for std::sync::Arc<S> {
    fn spec(&self) -> &SliSpec {
        (**self).spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        (**self).reading(now)
    }

    fn observe(&self, event: &AgentEvent) {
        (**self).observe(event);
    }

    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        (**self).counts(window, now)
    }

    fn cover(&self, shortest: Window, longest: Window) {
        (**self).cover(shortest, longest);
    }

    fn counts_outcomes_of(&self) -> Option<EventKind> {
        (**self).counts_outcomes_of()
    }

    fn is_slow(&self, event: &AgentEvent) -> bool {
        (**self).is_slow(event)
    }

    fn histogram(&self) -> Option<ExponentialHistogram> {
        (**self).histogram()
    }

    fn save(&self, state: &mut StateWriter) {
        (**self).save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        (**self).restore(state)
    }

    fn snapshot(&self, now: Timestamp) -> IndicatorSnapshot {
        (**self).snapshot(now)
    }
}
