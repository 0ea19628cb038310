use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sre_core::event::StringLimiter;
use sre_core::private::lock;
use sre_core::{Clock, SystemClock, Timestamp, Usd, Window};

/// A sample that was recorded with metadata.
///
/// ```
/// let sli = sre_slo::TaskSuccessRate::new(0.95).unwrap();
/// sli.record_task_with(false, [("ticket", "4711")]);
/// assert_eq!(sli.values_in_window()[0].metadata["ticket"], "4711");
/// assert_eq!(sli.current_value(), Some(0.0));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SliValue {
    /// When it was recorded.
    pub time: Timestamp,
    /// The sample in the unit of its indicator; 1 for true and 0 for false.
    pub value: f64,
    /// The metadata. Long texts are shortened, as in the attributes of an event.
    pub metadata: BTreeMap<String, Value>,
}

/// What an indicator needs for samples that are recorded without an event.
pub(super) struct ByHand {
    pub(super) clock: Arc<dyn Clock>,
    /// Created with the first sample that has metadata.
    kept: OnceLock<Box<Mutex<Kept>>>,
}

/// The last samples with metadata.
#[derive(Default)]
struct Kept {
    /// Each with the size of its metadata in bytes.
    values: VecDeque<(SliValue, usize)>,
    bytes: usize,
}

const MAX_VALUES: usize = 100;
const MAX_BYTES: usize = 64 * 1024;

impl Default for ByHand {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), kept: OnceLock::new() }
    }
}

impl ByHand {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.coarse_now()
    }

    /// Keeps a sample. One that no indicator counts, such as NaN, is left out.
    pub(super) fn keep<K: Into<String>, V: Into<Value>>(&self, value: f64, metadata: impl IntoIterator<Item = (K, V)>) {
        if !(0.0..f64::INFINITY).contains(&value) {
            return;
        }
        let mut metadata = metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let mut limiter = StringLimiter::default();
        limiter.attributes(&mut metadata);
        let value = SliValue { time: self.now(), value, metadata };
        let mut kept = lock(self.kept.get_or_init(Box::default));
        kept.bytes += limiter.bytes;
        kept.values.push_back((value, limiter.bytes));
        while kept.values.len() > MAX_VALUES || kept.bytes > MAX_BYTES {
            let Some((_, bytes)) = kept.values.pop_front() else { break };
            kept.bytes -= bytes;
        }
    }

    pub(super) fn values(&self, window: Window) -> Vec<SliValue> {
        let Some(kept) = self.kept.get() else { return Vec::new() };
        let begin = self.clock.now().saturating_sub(window.duration());
        lock(kept).values.iter().map(|(value, _)| value).filter(|value| value.time > begin).cloned().collect()
    }
}

/// A sample as its indicator's methods take it.
pub(super) trait HandRecorded {
    /// Returns the sample in the unit of the indicator.
    fn into_number(self) -> f64;
}

impl HandRecorded for f64 {
    fn into_number(self) -> f64 {
        self
    }
}

impl HandRecorded for u32 {
    fn into_number(self) -> f64 {
        self.into()
    }
}

impl HandRecorded for bool {
    fn into_number(self) -> f64 {
        u8::from(self).into()
    }
}

impl HandRecorded for Usd {
    fn into_number(self) -> f64 {
        self.as_dollars()
    }
}
