use std::sync::Mutex;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use sre_core::event::{LlmCall, TaskFinished, ToolCall};
use sre_core::private::{lock, stable_hash};
use sre_core::{
    AgentEvent, Counts, Event, ExponentialHistogram, InvalidSli, MeanSeries, PerTask, PercentileSeries, RatioSeries,
    Sli, SliReading, SliSpec, StateError, StateReader, StateWriter, Timestamp, Unit, Window,
};

use super::ByHand;

/// Ratio of tool calls that chose the right tool, among those where this is known. Default target 0.999 over 7d.
pub struct ToolCallAccuracy {
    series: RatioSeries,
    pub(super) by_hand: ByHand,
}

impl ToolCallAccuracy {
    /// Creates an indicator with the target `target` (a ratio) over 7 days.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0 and up to 1.
    pub fn new(target: f64) -> Result<Self, InvalidSli> {
        Self::over(target, Window::WEEK)
    }

    /// Creates an indicator with the target `target` (a ratio) over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0 and up to 1.
    pub fn over(target: f64, window: Window) -> Result<Self, InvalidSli> {
        let series = RatioSeries::new(SliSpec::ratio_at_least("tool_call_accuracy", target, window)?);
        Ok(Self { series, by_hand: ByHand::default() })
    }

    /// Records a call of the right or of a wrong tool.
    pub fn record_call(&self, correct: bool) {
        self.series.record(self.by_hand.now(), correct);
    }
}

impl Default for ToolCallAccuracy {
    fn default() -> Self {
        Self::new(0.999).expect("a valid target")
    }
}

impl Sli for ToolCallAccuracy {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        Some(self.series.counts(window, now))
    }

    fn cover(&self, shortest: Window, longest: Window) {
        self.series.cover(shortest, longest);
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::ToolCall(ToolCall { correct: Some(correct), .. }) = event.event {
            self.series.record(event.time, correct);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// A percentile of the duration of tasks. Default target p95 of 5000 ms over 1h.
pub struct ResponseLatency {
    series: PercentileSeries,
    pub(super) by_hand: ByHand,
}

impl ResponseLatency {
    /// Creates an indicator with the target `target_ms` for the `percentile` (0.95 for p95) over one hour.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0, and the percentile above 0 and up to 1.
    pub fn new(target_ms: f64, percentile: f64) -> Result<Self, InvalidSli> {
        Self::over(target_ms, percentile, Window::HOUR)
    }

    /// Creates an indicator with the target `target_ms` for the `percentile` over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0, and the percentile above 0 and up to 1.
    pub fn over(target_ms: f64, percentile: f64, window: Window) -> Result<Self, InvalidSli> {
        let spec = SliSpec::at_most("response_latency", target_ms, Unit::Milliseconds, window)?;
        Ok(Self { series: PercentileSeries::new(spec, percentile)?, by_hand: ByHand::default() })
    }

    /// Records a duration in milliseconds. Negative and infinite ones and NaN are dropped and counted.
    pub fn record_latency(&self, latency_ms: f64) {
        self.series.record(self.by_hand.now(), latency_ms);
    }

    /// Returns any percentile over any window up to the indicator's own.
    pub fn percentile(&self, percentile: f64, window: Window) -> Option<f64> {
        self.series.percentile(percentile, window, self.by_hand.clock.now())
    }
}

impl Default for ResponseLatency {
    fn default() -> Self {
        Self::new(5000.0, 0.95).expect("a valid target")
    }
}

impl Sli for ResponseLatency {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn histogram(&self) -> Option<ExponentialHistogram> {
        Some(self.series.histogram())
    }

    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        Some(self.series.counts(window, now))
    }

    fn cover(&self, shortest: Window, longest: Window) {
        self.series.cover(shortest, longest);
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::TaskFinished(TaskFinished { duration_ms: Some(duration_ms), .. }) = event.event {
            self.series.record(event.time, duration_ms);
        }
    }

    fn is_slow(&self, event: &AgentEvent) -> bool {
        matches!(event.event, Event::TaskFinished(TaskFinished { duration_ms: Some(ms), .. }) if ms > self.spec().target)
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// A percentile of the time to the first token of streamed model calls. Default target p95 of 2000 ms over 1h.
///
/// Calls that are not streamed, or whose framework does not report the time, are no samples.
pub struct TimeToFirstToken {
    series: PercentileSeries,
    pub(super) by_hand: ByHand,
}

impl TimeToFirstToken {
    /// Creates an indicator with the target `target_ms` for the `percentile` (0.95 for p95) over one hour.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0, and the percentile above 0 and up to 1.
    pub fn new(target_ms: f64, percentile: f64) -> Result<Self, InvalidSli> {
        Self::over(target_ms, percentile, Window::HOUR)
    }

    /// Creates an indicator with the target `target_ms` for the `percentile` over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0, and the percentile above 0 and up to 1.
    pub fn over(target_ms: f64, percentile: f64, window: Window) -> Result<Self, InvalidSli> {
        let spec = SliSpec::at_most("time_to_first_token", target_ms, Unit::Milliseconds, window)?;
        Ok(Self { series: PercentileSeries::new(spec, percentile)?, by_hand: ByHand::default() })
    }

    /// Records a time to first token in milliseconds.
    pub fn record_first_token(&self, first_token_ms: f64) {
        self.series.record(self.by_hand.now(), first_token_ms);
    }
}

impl Default for TimeToFirstToken {
    fn default() -> Self {
        Self::new(2000.0, 0.95).expect("a valid target")
    }
}

impl Sli for TimeToFirstToken {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn histogram(&self) -> Option<ExponentialHistogram> {
        Some(self.series.histogram())
    }

    fn counts(&self, window: Window, now: Timestamp) -> Option<Counts> {
        Some(self.series.counts(window, now))
    }

    fn cover(&self, shortest: Window, longest: Window) {
        self.series.cover(shortest, longest);
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::LlmCall(LlmCall { first_token_ms: Some(first_token_ms), .. }) = event.event {
            self.series.record(event.time, first_token_ms);
        }
    }

    fn is_slow(&self, event: &AgentEvent) -> bool {
        matches!(event.event, Event::LlmCall(LlmCall { first_token_ms: Some(ms), .. }) if ms > self.spec().target)
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// Mean number of tool calls in a task that repeat an earlier call with the same tool and arguments, which indicates a loop.
/// Default target 3 over 24h.
///
/// At most 256 tasks and 2,048 distinct calls are tracked; an evicted task is a sample with its repeats so far. Calls with
/// unknown arguments are ignored.
pub struct RepeatedToolCalls {
    series: MeanSeries,
    calls: Mutex<Calls>,
    pub(super) by_hand: ByHand,
}

const MAX_TASKS: usize = 256;
const MAX_CALLS: usize = 2_048;

struct Calls {
    tasks: PerTask<TaskCalls>,
    tracked: usize,
}

#[derive(Default, Serialize, Deserialize)]
struct TaskCalls {
    seen: FxHashSet<u128>,
    repeats: u32,
}

impl RepeatedToolCalls {
    /// Creates an indicator with the target `max_repeats` over 24 hours.
    pub fn new(max_repeats: u32) -> Self {
        Self::over(max_repeats, Window::DAY)
    }

    /// Creates an indicator with the target `max_repeats` over `window`.
    pub fn over(max_repeats: u32, window: Window) -> Self {
        let spec = SliSpec::count_at_most("repeated_tool_calls", max_repeats, window);
        let calls = Mutex::new(Calls { tasks: PerTask::new(MAX_TASKS), tracked: 0 });
        Self { series: MeanSeries::new(spec), calls, by_hand: ByHand::default() }
    }

    /// Records the number of repeats in a task.
    pub fn record_repeats(&self, repeats: u32) {
        self.series.record(self.by_hand.now(), f64::from(repeats));
    }
}

impl Default for RepeatedToolCalls {
    fn default() -> Self {
        Self::new(3)
    }
}

impl Sli for RepeatedToolCalls {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn observe(&self, event: &AgentEvent) {
        let mut record = |task: &TaskCalls| self.series.record(event.time, f64::from(task.repeats));
        match &event.event {
            Event::ToolCall(ToolCall { tool, arguments_hash: Some(arguments), .. }) => {
                let call = u128::from_be_bytes(stable_hash(&[tool.as_bytes(), arguments.as_bytes()]));
                lock(&self.calls).add(event, call, &mut record);
            }
            Event::TaskFinished(_) => {
                let ended = lock(&self.calls).end(event);
                record(&ended);
            }
            _ => {}
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
        lock(&self.calls).tasks.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)?;
        let mut calls = lock(&self.calls);
        calls.tasks.restore(state)?;
        calls.tracked = calls.tasks.iter().map(|task| task.seen.len()).sum();
        Ok(())
    }
}

impl Calls {
    fn add(&mut self, event: &AgentEvent, call: u128, on_evicted: &mut dyn FnMut(&TaskCalls)) {
        let (task, evicted) = self.tasks.entry(event);
        if task.seen.insert(call) {
            self.tracked += 1;
        } else {
            task.repeats = task.repeats.saturating_add(1);
        }
        if let Some(evicted) = evicted {
            self.tracked -= evicted.seen.len();
            on_evicted(&evicted);
        }
        while self.tracked > MAX_CALLS {
            let Some(oldest) = self.tasks.evict_oldest() else { break };
            self.tracked -= oldest.seen.len();
            on_evicted(&oldest);
        }
    }

    fn end(&mut self, event: &AgentEvent) -> TaskCalls {
        let ended = self.tasks.finish(event).unwrap_or_default();
        self.tracked -= ended.seen.len();
        ended
    }
}
