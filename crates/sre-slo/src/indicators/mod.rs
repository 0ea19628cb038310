//! The indicators that come with the crate. Each is recorded by hand or fed by events.
mod calls;
mod quality;
mod tasks;

use std::sync::Arc;

pub use calls::{RepeatedToolCalls, ResponseLatency, TimeToFirstToken, ToolCallAccuracy};
pub use quality::{CalibrationDelta, DelegationChainDepth, HallucinationRate, PolicyCompliance};
use sre_core::{Clock, Sli, SliReading, SystemClock, Timestamp};
pub use tasks::{CostPerTask, StepsPerTask, TaskSuccessRate};

/// The clock of an indicator that is recorded by hand.
struct Hand(Arc<dyn Clock>);

impl Hand {
    fn system() -> Self {
        Self(Arc::new(SystemClock))
    }

    fn now(&self) -> Timestamp {
        self.0.coarse_now()
    }
}

/// What every indicator of this crate has beside [`Sli`]: the reading by its own clock.
macro_rules! by_hand {
    ($($indicator:ident),+) => {$(
        impl $indicator {
            /// The same indicator, recorded by hand with the time of `clock`.
            #[must_use]
            pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
                self.hand = Hand(clock);
                self
            }

            /// The measured value now; `None` without samples.
            pub fn current_value(&self) -> Option<f64> {
                self.current().value
            }

            /// The share of samples that met the target; `None` without samples.
            pub fn compliance(&self) -> Option<f64> {
                self.current().compliance
            }

            /// Everything that was measured, now.
            pub fn current(&self) -> SliReading {
                self.reading(self.hand.0.now())
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
