use std::sync::Mutex;

use serde_json::Value;
use sre_core::event::{Evaluation, Handoff, PolicyCheck, TaskFinished};
use sre_core::private::lock;
use sre_core::{
    AgentEvent, Counts, Event, EventKind, InvalidSli, MeanSeries, RatioSeries, Sli, SliReading, SliSpec, StateError,
    StateReader, StateWriter, Timestamp, Unit, WeightedRatioSeries, Window,
};

use super::ByHand;

/// Ratio of hallucinated answers, with each evaluation weighted by the judge's confidence if it is given.
/// Default target at most 0.05 over 24h.
pub struct HallucinationRate {
    series: WeightedRatioSeries,
    pub(super) by_hand: ByHand,
}

impl HallucinationRate {
    /// Creates an indicator with the target `target` (a ratio) over 24 hours.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is from 0 to below 1.
    pub fn new(target: f64) -> Result<Self, InvalidSli> {
        Self::over(target, Window::DAY)
    }

    /// Creates an indicator with the target `target` (a ratio) over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is from 0 to below 1.
    pub fn over(target: f64, window: Window) -> Result<Self, InvalidSli> {
        let series = WeightedRatioSeries::new(SliSpec::ratio_at_most("hallucination_rate", target, window)?);
        Ok(Self { series, by_hand: ByHand::default() })
    }

    /// Records an evaluation. `confidence` is 0 to 1; with NaN it is dropped and counted.
    pub fn record_evaluation(&self, hallucinated: bool, confidence: f64) {
        self.series.record(self.by_hand.now(), hallucinated, confidence);
    }
}

impl Default for HallucinationRate {
    fn default() -> Self {
        Self::new(0.05).expect("a valid target")
    }
}

impl Sli for HallucinationRate {
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
        if let Event::Evaluation(Evaluation { metric, confidence, .. }) = &event.event
            && metric == "hallucination"
            && let Some(passed) = event.event.outcome()
        {
            self.series.record(event.time, !passed, confidence.unwrap_or(1.0));
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// Ratio of policy checks that passed. Default target 1.0 over 24h.
pub struct PolicyCompliance {
    series: RatioSeries,
    pub(super) by_hand: ByHand,
}

impl PolicyCompliance {
    /// Creates an indicator with the target `target` (a ratio) over 24 hours.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0 and up to 1.
    pub fn new(target: f64) -> Result<Self, InvalidSli> {
        Self::over(target, Window::DAY)
    }

    /// Creates an indicator with the target `target` (a ratio) over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is above 0 and up to 1.
    pub fn over(target: f64, window: Window) -> Result<Self, InvalidSli> {
        let series = RatioSeries::new(SliSpec::ratio_at_least("policy_compliance", target, window)?);
        Ok(Self { series, by_hand: ByHand::default() })
    }

    /// Records a policy check.
    pub fn record_check(&self, compliant: bool) {
        self.series.record(self.by_hand.now(), compliant);
    }
}

impl Default for PolicyCompliance {
    fn default() -> Self {
        Self::new(1.0).expect("a valid target")
    }
}

impl Sli for PolicyCompliance {
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

    fn counts_outcomes_of(&self) -> Option<EventKind> {
        Some(EventKind::PolicyCheck)
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::PolicyCheck(PolicyCheck { compliant, .. }) = event.event {
            self.series.record(event.time, compliant);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// Mean depth of handoffs from agent to agent, and the maximum. Default target 3 over 24h.
pub struct DelegationChainDepth {
    series: MeanSeries,
    pub(super) by_hand: ByHand,
}

impl DelegationChainDepth {
    /// Creates an indicator with the target `max_depth` over 24 hours.
    pub fn new(max_depth: u32) -> Self {
        Self::over(max_depth, Window::DAY)
    }

    /// Creates an indicator with the target `max_depth` over `window`.
    pub fn over(max_depth: u32, window: Window) -> Self {
        let spec = SliSpec::count_at_most("delegation_chain_depth", max_depth, window);
        Self { series: MeanSeries::new(spec), by_hand: ByHand::default() }
    }

    /// Records the depth of a chain.
    pub fn record_depth(&self, depth: u32) {
        self.series.record(self.by_hand.now(), f64::from(depth));
    }
}

impl Default for DelegationChainDepth {
    fn default() -> Self {
        Self::new(3)
    }
}

impl Sli for DelegationChainDepth {
    fn spec(&self) -> &SliSpec {
        self.series.spec()
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        self.series.reading(now)
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::Handoff(Handoff { depth, .. }) = event.event {
            self.series.record(event.time, f64::from(depth));
        }
    }

    fn save(&self, state: &mut StateWriter) {
        self.series.save(state);
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.series.restore(state)
    }
}

/// Difference between confidence and success: |mean confidence − mean success|. Default target 0.05 over 30d.
///
/// Observes finished tasks that have a `confidence` attribute, 0 to 1. Compliance is the ratio of predictions whose confidence
/// differs from their own outcome (0 or 1) by at most the target.
pub struct CalibrationDelta {
    spec: SliSpec,
    series: Mutex<Predictions>,
    pub(super) by_hand: ByHand,
}

/// Under one lock, so that all series cover the same predictions.
struct Predictions {
    confidence: MeanSeries,
    success: MeanSeries,
    apart: MeanSeries,
}

impl Predictions {
    fn all(&self) -> [&MeanSeries; 3] {
        [&self.confidence, &self.success, &self.apart]
    }
}

impl CalibrationDelta {
    /// Creates an indicator with the target `target` over 30 days.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is from 0 to below 1.
    pub fn new(target: f64) -> Result<Self, InvalidSli> {
        Self::over(target, Window::MONTH)
    }

    /// Creates an indicator with the target `target` over `window`.
    ///
    /// # Errors
    ///
    /// Returns an error unless the target is from 0 to below 1.
    pub fn over(target: f64, window: Window) -> Result<Self, InvalidSli> {
        let spec = SliSpec::at_most("calibration_delta", target, Unit::Difference, window)?;
        let series = || MeanSeries::new(spec.clone());
        let predictions = Predictions { confidence: series(), success: series(), apart: series() };
        Ok(Self { series: Mutex::new(predictions), spec, by_hand: ByHand::default() })
    }

    /// Records a confidence, 0 to 1, and whether the task succeeded. Other confidences are dropped and counted.
    pub fn record_prediction(&self, confidence: f64, success: bool) {
        self.record(self.by_hand.now(), confidence, success);
    }

    fn record(&self, time: Timestamp, confidence: f64, success: bool) {
        let success = f64::from(u8::from(success));
        let predictions = lock(&self.series);
        if !(0.0..=1.0).contains(&confidence) {
            // The series counts it as dropped.
            return predictions.apart.record(time, f64::NAN);
        }
        predictions.confidence.record(time, confidence);
        predictions.success.record(time, success);
        predictions.apart.record(time, (confidence - success).abs());
    }
}

impl Default for CalibrationDelta {
    fn default() -> Self {
        Self::new(0.05).expect("a valid target")
    }
}

impl Sli for CalibrationDelta {
    fn spec(&self) -> &SliSpec {
        &self.spec
    }

    fn reading(&self, now: Timestamp) -> SliReading {
        let predictions = lock(&self.series);
        let confidence = predictions.confidence.reading(now);
        let success = predictions.success.reading(now);
        let mut reading = predictions.apart.reading(now);
        drop(predictions);
        let difference = confidence.value.zip(success.value).map(|(confidence, success)| (confidence - success).abs());
        // The squares of the differences are those of their absolute values.
        let count = reading.samples as f64;
        let square = |mean: Option<f64>| mean.map(|mean| count * mean * mean);
        let shift = square(reading.value).zip(square(difference)).map(|(absolute, signed)| absolute - signed);
        let variance =
            reading.deviation.zip(shift).map(|(deviation, shift)| deviation * deviation + shift / (count - 1.0));
        (reading.value, reading.deviation) = (difference, variance.map(|variance| variance.max(0.0).sqrt()));
        (reading.interval, reading.maximum) = (None, None);
        reading
    }

    fn observe(&self, event: &AgentEvent) {
        if let Event::TaskFinished(TaskFinished { success, .. }) = event.event
            && let Some(confidence) = event.attributes.get("confidence").and_then(Value::as_f64)
        {
            self.record(event.time, confidence, success);
        }
    }

    fn save(&self, state: &mut StateWriter) {
        lock(&self.series).all().into_iter().for_each(|series| series.save(state));
    }

    fn restore(&self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        lock(&self.series).all().into_iter().try_for_each(|series| series.restore(state))
    }
}
