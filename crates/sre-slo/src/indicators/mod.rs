//! The indicators of this crate. Each observes events or is recorded with its own methods.
mod calls;
mod quality;
mod tasks;

use std::fmt;
use std::sync::Arc;

pub use calls::{RepeatedToolCalls, ResponseLatency, TimeToFirstToken, ToolCallAccuracy};
pub use quality::{CalibrationDelta, DelegationChainDepth, HallucinationRate, PolicyCompliance};
use sre_core::{Clock, Sli, SliReading, SystemClock, Timestamp};
pub use tasks::{CostPerTask, StepsPerTask, TaskSuccessRate};

/// The clock for values recorded without a time.
struct RecordingClock(Arc<dyn Clock>);

impl RecordingClock {
    fn system() -> Self {
        Self(Arc::new(SystemClock))
    }

    fn now(&self) -> Timestamp {
        self.0.coarse_now()
    }
}

/// Implements the methods that every indicator of this crate has besides [`Sli`]: readings at the current time.
macro_rules! by_hand {
    ($($indicator:ident),+) => {$(
        impl $indicator {
            /// Replaces the system clock.
            #[must_use]
            pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
                self.clock = RecordingClock(clock);
                self
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
                self.reading(self.clock.0.now())
            }
        }

        impl fmt::Debug for $indicator {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($indicator)).field("spec", self.spec()).finish_non_exhaustive()
            }
        }
    )+};
}

by_hand!(
    CalibrationDelta,
    CostPerTask,
    DelegationChainDepth,
    HallucinationRate,
    PolicyCompliance,
    RepeatedToolCalls,
    ResponseLatency,
    StepsPerTask,
    TaskSuccessRate,
    TimeToFirstToken,
    ToolCallAccuracy
);

#[cfg(test)]
mod tests;
