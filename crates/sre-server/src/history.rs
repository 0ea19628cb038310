use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent_sre::{SloSnapshot, StateError, StateReader, StateWriter, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The history of indicators: samples every 30 s for two hours, every 5 min for a day, and every 2 h for 30 days.
///
/// The history of an error budget is not kept here: objectives keep the counts it is computed from.
#[derive(Debug, Default)]
pub(crate) struct History(BTreeMap<(String, String), TimeSeries>);

/// The samples of one objective.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TimeSeries {
    /// The sampled values: `NAME` for an indicator's value, `NAME p95` for a percentile.
    columns: Vec<String>,
    /// Samples at each resolution of [`LEVELS`].
    levels: [VecDeque<Sample>; 3],
}

/// Values at a time; NaN without data.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sample {
    at: Timestamp,
    values: Box<[f32]>,
}

/// Values of indicators over time. Indicators in milliseconds have values for their percentiles too, such as `NAME p95`.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct IndicatorSeries {
    /// Times of the samples, in Unix seconds.
    at: Vec<i64>,
    /// Values by name, one for each sample; `null` without data.
    values: BTreeMap<String, Vec<Option<f32>>>,
}

/// Interval and maximum number of samples of each resolution.
const LEVELS: [(Duration, usize); 3] =
    [(Duration::from_secs(30), 240), (Duration::from_secs(300), 288), (Duration::from_secs(7_200), 360)];

impl History {
    /// Samples the objectives that are due, and removes those that no longer exist. `objectives` is sorted by name and agent.
    pub(crate) fn sample(&mut self, objectives: &[SloSnapshot], now: Timestamp) {
        let exists = |key: &(String, String)| {
            objectives.binary_search_by(|slo| (&slo.name, &slo.agent).cmp(&(&key.0, &key.1))).is_ok()
        };
        self.0.retain(|key, _| exists(key));
        for slo in objectives {
            self.0.entry((slo.name.clone(), slo.agent.clone())).or_default().sample(slo, now);
        }
    }

    /// Returns the samples of an objective since `from`, at the finest resolution that reaches back so far, and its values `now`.
    pub(crate) fn series(&self, slo: &SloSnapshot, from: Timestamp, now: Timestamp) -> IndicatorSeries {
        let (columns, values) = measured(slo);
        let series = self.0.get(&(slo.name.clone(), slo.agent.clone())).filter(|series| series.columns == columns);
        let reaches = |(interval, max): (Duration, usize)| now.saturating_sub(interval * max as u32) <= from;
        let level = LEVELS.iter().position(|level| reaches(*level)).unwrap_or(LEVELS.len() - 1);
        let kept = series.iter().flat_map(|series| &series.levels[level]).filter(|sample| sample.at >= from);
        let present = Sample { at: now, values };
        let samples: Vec<&Sample> = kept.chain([&present]).collect();
        let column = |number: usize| {
            let value = |sample: &&Sample| sample.values.get(number).copied().filter(|value| value.is_finite());
            samples.iter().map(value).collect()
        };
        IndicatorSeries {
            at: samples.iter().map(|sample| sample.at.as_secs()).collect(),
            values: (0..).zip(&columns).map(|(number, name)| (name.clone(), column(number))).collect(),
        }
    }

    pub(crate) fn save(&self, state: &mut StateWriter) {
        state.put(&self.0);
    }

    pub(crate) fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.0 = state.take()?;
        Ok(())
    }
}

impl TimeSeries {
    fn sample(&mut self, slo: &SloSnapshot, now: Timestamp) {
        let (columns, values) = measured(slo);
        if columns != self.columns {
            // The indicators have changed, and the old samples no longer match the columns.
            *self = Self { columns, ..Self::default() };
        }
        for (samples, (interval, max)) in self.levels.iter_mut().zip(LEVELS) {
            if samples.back().is_none_or(|last| now.since(last.at) >= interval) {
                if samples.len() >= max {
                    samples.pop_front();
                }
                samples.push_back(Sample { at: now, values: values.clone() });
            }
        }
    }
}

fn measured(slo: &SloSnapshot) -> (Vec<String>, Box<[f32]>) {
    let mut columns = Vec::new();
    let mut values = Vec::new();
    let mut add = |column: String, value: Option<f64>| {
        columns.push(column);
        values.push(value.map_or(f32::NAN, |value| value as f32));
    };
    for indicator in &slo.indicators {
        add(indicator.name.clone(), indicator.value);
        if indicator.unit == agent_sre::Unit::Milliseconds {
            let percentile = |name| format!("{} {name}", indicator.name);
            let percentiles = indicator.percentiles;
            add(percentile("p50"), percentiles.map(|percentiles| percentiles.p50));
            add(percentile("p95"), percentiles.map(|percentiles| percentiles.p95));
            add(percentile("p99"), percentiles.map(|percentiles| percentiles.p99));
        }
    }
    (columns, values.into())
}

#[cfg(test)]
mod tests {
    use agent_sre::slo::{ResponseLatency, Slo};

    use super::*;

    #[test]
    fn resolution_depends_on_the_length_of_the_window_and_memory_is_bounded() {
        let slo = Slo::new("x", vec![Box::new(ResponseLatency::default())]).unwrap();
        let mut history = History::default();
        let start = Timestamp::from_secs(1_790_000_000);
        let at = |minutes: u64| start.saturating_add(Duration::from_secs(60 * minutes));
        for minute in 0..40 * 1_440 {
            history.sample(&[slo.snapshot_at(at(minute))], at(minute));
        }
        let now = at(40 * 1_440);
        let present = slo.snapshot_at(now);
        let series = |history: &History, hours: u64| {
            history.series(&present, now.saturating_sub(Duration::from_secs(3_600 * hours)), now)
        };
        let length = |hours: u64| series(&history, hours).at.len();
        assert_eq!((length(1), length(24), length(48), length(9_999)), (61, 289, 25, 361));
        let columns: Vec<_> = series(&history, 1).values.into_keys().collect();
        assert_eq!(
            columns,
            ["response_latency", "response_latency p50", "response_latency p95", "response_latency p99"]
        );
        let mut state = StateWriter::default();
        history.save(&mut state);
        let mut again = History::default();
        again.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        assert_eq!(series(&again, 24), series(&history, 24));
        again.sample(&[], now);
        assert_eq!(series(&again, 24).at.len(), 1, "only the current values");
    }
}
