use std::sync::Mutex;

use sre_core::event::TaskFinished;
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Counts, Event, EventKind, InvalidSli, MeanSeries, PerTask, RatioSeries, Sli, SliReading, SliSpec,
    StateError, StateReader, StateWriter, TaskCosts, Timestamp, Unit, Usd, Window,
};

use super::ByHand;

/// Ratio of tasks that succeeded. Default target 0.995 over 30d.
///
/// ```
/// let sli = sre_slo::TaskSuccessRate::new(0.95).unwrap();
/// sli.record_task(true);
/// sli.record_task(false);
/// assert_eq!(sli.current_value(), Some(0.5));
/// ```
pub struct TaskSuccessRate {
    series: RatioSeries,
    pub(super) by_hand: ByHand,
}

impl TaskSuccessRate {
    /// Creates an indicator with the target `target` (a ratio) over 30 days.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0 and up to 1.
    pub fn new(target: f64) -> Result<Self, InvalidSli> {
        Self::over(target, Window::MONTH)
    }

    /// Creates an indicator with the target `target` (a ratio) over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0 and up to 1.
    pub fn over(target: f64, window: Window) -> Result<Self, InvalidSli> {
        let series = RatioSeries::new(SliSpec::ratio_at_least("task_success_rate", target, window)?);
        Ok(Self { series, by_hand: ByHand::default() })
    }

    /// Records a finished task.
    pub fn record_task(&self, success: bool) {
        self.series.record(self.by_hand.now(), success);
    }
}

impl Default for TaskSuccessRate {
    fn default() -> Self {
        Self::new(0.995).expect("a valid target")
    }
}

impl Sli for TaskSuccessRate {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    #[inline]
    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        Some(self.series.counts(window, now))
    }

    fn cover(&self, shortest: Window, longest: Window) {
        self.series.cover(shortest, longest);
    }

    fn counts_outcomes_of(&self) -> Option<EventKind> {
        Some(EventKind::TaskFinished)
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::TaskFinished(TaskFinished { success, .. }) = event.event {
            self.series.record(event.time, success);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// Mean cost of a task. Default target $0.50 over 24h.
///
/// The cost of a task is its own `cost_usd`, or else the sum of its model calls; a task with neither is no sample. At most 512
/// tasks are tracked at a time; an evicted task is a sample with its calls so far.
pub struct CostPerTask {
    series: MeanSeries,
    costs: Mutex<TaskCosts>,
    pub(super) by_hand: ByHand,
}

impl CostPerTask {
    /// Creates an indicator with the target `target` in US dollars over 24 hours.
    ///
    /// # Errors
    ///
    /// Returns an error for a negative target.
    pub fn new(target: Usd) -> Result<Self, InvalidSli> {
        Self::over(target, Window::DAY)
    }

    /// Creates an indicator with the target `target` in US dollars over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error for a negative target.
    pub fn over(target: Usd, window: Window) -> Result<Self, InvalidSli> {
        let spec = SliSpec::at_most("cost_per_task", target.as_dollars(), Unit::Usd, window)?;
        Ok(Self { series: MeanSeries::new(spec), costs: Mutex::default(), by_hand: ByHand::default() })
    }

    /// Records the cost of a task. A negative one is dropped and counted.
    pub fn record_cost(&self, cost: Usd) {
        self.series.record(self.by_hand.now(), cost.as_dollars());
    }
}

impl Default for CostPerTask {
    fn default() -> Self {
        Self::new(Usd::from_nanos(500_000_000)).expect("a valid target")
    }
}

impl Sli for CostPerTask {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn observe(&self, event: &AgentEvent) {
        if !matches!(event.event, Event::LlmCall(_) | Event::TaskFinished(_)) {
            return;
        }
        let cost = lock(&self.costs).observe(event);
        if let Some(cost) = cost {
            self.series.record(event.time, cost.as_dollars());
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
        lock(&self.costs).save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)?;
        lock(&self.costs).restore(state)
    }
}

/// Mean number of steps in a task, which is high for a task in a loop. Default target 20 over 24h.
///
/// At most 512 tasks are tracked at a time; an evicted task is a sample with its steps so far.
pub struct StepsPerTask {
    series: MeanSeries,
    steps: Mutex<PerTask<u32>>,
    pub(super) by_hand: ByHand,
}

impl StepsPerTask {
    /// Creates an indicator with the target `max_steps` over 24 hours.
    pub fn new(max_steps: u32) -> Self {
        Self::over(max_steps, Window::DAY)
    }

    /// Creates an indicator with the target `max_steps` over `window`.
    pub fn over(max_steps: u32, window: Window) -> Self {
        let spec = SliSpec::count_at_most("steps_per_task", max_steps, window);
        Self { series: MeanSeries::new(spec), steps: Mutex::new(PerTask::new(512)), by_hand: ByHand::default() }
    }

    /// Records the number of steps in a task.
    pub fn record_steps(&self, steps: u32) {
        self.series.record(self.by_hand.now(), f64::from(steps));
    }
}

impl Default for StepsPerTask {
    fn default() -> Self {
        Self::new(20)
    }
}

impl Sli for StepsPerTask {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn observe(&self, event: &AgentEvent) {
        let sample = match event.event {
            Event::StepFinished(_) => {
                let mut tasks = lock(&self.steps);
                let (steps, evicted) = tasks.entry(event);
                *steps = steps.saturating_add(1);
                evicted
            }
            Event::TaskFinished(_) => {
                let mut tasks = lock(&self.steps);
                Some(tasks.finish(event).unwrap_or(0))
            }
            _ => return,
        };
        if let Some(steps) = sample {
            self.series.record(event.time, f64::from(steps));
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
        lock(&self.steps).save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)?;
        lock(&self.steps).restore(state)
    }
}
