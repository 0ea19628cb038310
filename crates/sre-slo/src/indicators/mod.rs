//! The indicators of this crate. Each observes events or is recorded with its own methods.
mod calls;
mod quality;
mod tasks;
mod value;

use std::fmt;
use std::sync::Arc;

pub use calls::{RepeatedToolCalls, ResponseLatency, TimeToFirstToken, ToolCallAccuracy};
pub use quality::{CalibrationDelta, DelegationChainDepth, HallucinationRate, PolicyCompliance};
use serde_json::Value;
use sre_core::{Clock, Sli, SliReading, Usd};
pub use tasks::{CostPerTask, StepsPerTask, TaskSuccessRate};
pub use value::SliValue;
use value::{ByHand, HandRecorded};

/// Implements the methods that every indicator of this crate has besides [`Sli`]: readings at the current time, and samples with
/// metadata. A row has the method that records a sample, its arguments, the method that takes metadata too, and the value that is
/// kept with it.
macro_rules! by_hand {
    ($($indicator:ident: $record:ident($($argument:ident: $kind:ty),+), $record_with:ident, $value:expr;)+) => {$(
        impl $indicator {
            /// Replaces the system clock.
            #[must_use]
            pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
                self.by_hand.clock = clock;
                self
            }

            #[doc = concat!("Records a sample as [`", stringify!($record), "`](Self::", stringify!($record), ")")]
            /// does, and keeps it with its metadata for [`values_in_window`](Self::values_in_window).
            pub fn $record_with<K: Into<String>, V: Into<Value>>(
                &self,
                $($argument: $kind,)+
                metadata: impl IntoIterator<Item = (K, V)>,
            ) {
                self.$record($($argument),+);
                self.by_hand.keep($value.into_number(), metadata);
            }

            /// Returns the samples in the window that were recorded with metadata, oldest first: at most the last 100, and 64 KiB.
            /// They are not saved with the indicator's state.
            pub fn values_in_window(&self) -> Vec<SliValue> {
                self.by_hand.values(self.spec().window)
            }

            /// Returns the current value; `None` without samples.
            pub fn current_value(&self) -> Option<f64> {
                self.current().value
            }

            /// Returns the ratio of samples that met the target; `None` without samples.
            pub fn compliance(&self) -> Option<f64> {
                self.current().compliance
            }

            /// Returns the current reading.
            pub fn current(&self) -> SliReading {
                self.reading(self.by_hand.clock.now())
            }
        }

        impl fmt::Debug for $indicator {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($indicator)).field("spec", self.spec()).finish_non_exhaustive()
            }
        }
    )+};
}

by_hand! {
    CalibrationDelta: record_prediction(confidence: f64, success: bool), record_prediction_with,
        if (0.0..=1.0).contains(&confidence) { (confidence - success.into_number()).abs() } else { f64::NAN };
    CostPerTask: record_cost(cost: Usd), record_cost_with, cost;
    DelegationChainDepth: record_depth(depth: u32), record_depth_with, depth;
    HallucinationRate: record_evaluation(hallucinated: bool, confidence: f64), record_evaluation_with,
        if confidence.is_nan() { f64::NAN } else { hallucinated.into_number() };
    PolicyCompliance: record_check(compliant: bool), record_check_with, compliant;
    RepeatedToolCalls: record_repeats(repeats: u32), record_repeats_with, repeats;
    ResponseLatency: record_latency(latency_ms: f64), record_latency_with, latency_ms;
    StepsPerTask: record_steps(steps: u32), record_steps_with, steps;
    TaskSuccessRate: record_task(success: bool), record_task_with, success;
    TimeToFirstToken: record_first_token(first_token_ms: f64), record_first_token_with, first_token_ms;
    ToolCallAccuracy: record_call(correct: bool), record_call_with, correct;
}

#[cfg(test)]
mod tests;
