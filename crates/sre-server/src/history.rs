use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent_sre::{SloSnapshot, StateError, StateReader, StateWriter, Timestamp};
use serde::{Deserialize, Serialize};

/// The course of what indicators measured, sample by sample: every half minute of two hours, every five minutes of a day, and
/// every two hours of a month.
///
/// What the error budget's course is made from are counts, which objectives keep themselves.
#[derive(Debug, Default)]
pub(crate) struct History(BTreeMap<(String, String), TimeSeries>);

/// An objective's.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TimeSeries {
    /// What is sampled: an indicator's value under its name, and its percentiles under that and theirs.
    columns: Vec<String>,
    levels: [VecDeque<Sample>; 3],
}

/// What was measured at a moment; not a number where nothing was.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sample {
    at: Timestamp,
    values: Box<[f32]>,
}

/// A column's course, as the API has it.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct IndicatorSeries {
    /// Unix seconds.
    at: Vec<i64>,
    values: BTreeMap<String, Vec<Option<f32>>>,
}

const LEVELS: [(Duration, usize); 3] =
    [(Duration::from_secs(30), 240), (Duration::from_secs(300), 288), (Duration::from_secs(7_200), 360)];

impl History {
    /// Samples objectives, those for which it is time; forgets those that are no more.
    pub(crate) fn sample(&mut self, objectives: &[SloSnapshot], now: Timestamp) {
        let is_known = |key: &(String, String)| {
            objectives.binary_search_by(|slo| (&slo.name, &slo.agent).cmp(&(&key.0, &key.1))).is_ok()
        };
        self.0.retain(|key, _| is_known(key));
        for slo in objectives {
            self.0.entry((slo.name.clone(), slo.agent.clone())).or_default().sample(slo, now);
        }
    }

    /// What was measured of an objective since `from`, the oldest first, as fine as it is kept that far back, and what is
    /// measured `now`.
    pub(crate) fn of(&self, slo: &SloSnapshot, from: Timestamp, now: Timestamp) -> IndicatorSeries {
        let (columns, values) = measured(slo);
        let own = self.0.get(&(slo.name.clone(), slo.agent.clone())).filter(|course| course.columns == columns);
        let reaches = |(every, most): (Duration, usize)| now.saturating_sub(every * most as u32) <= from;
        let level = LEVELS.iter().position(|level| reaches(*level)).unwrap_or(LEVELS.len() - 1);
        let kept = own.iter().flat_map(|course| &course.levels[level]).filter(|sample| sample.at >= from);
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
            // Indicators have come or gone: what their samples were called is no longer so.
            *self = Self { columns, ..Self::default() };
        }
        for (samples, (every, most)) in self.levels.iter_mut().zip(LEVELS) {
            if samples.back().is_none_or(|last| now.since(last.at) >= every) {
                if samples.len() >= most {
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
            let of = |name| format!("{} {name}", indicator.name);
            let percentiles = indicator.percentiles;
            add(of("p50"), percentiles.map(|percentiles| percentiles.p50));
            add(of("p95"), percentiles.map(|percentiles| percentiles.p95));
            add(of("p99"), percentiles.map(|percentiles| percentiles.p99));
        }
    }
    (columns, values.into())
}

#[cfg(test)]
mod tests {
    use agent_sre::slo::{ResponseLatency, Slo};

    use super::*;

    #[test]
    fn a_course_is_as_fine_as_it_is_kept_and_bounded() {
        let slo = Slo::new("x", vec![Box::new(ResponseLatency::default())]).unwrap();
        let mut history = History::default();
        let start = Timestamp::from_secs(1_790_000_000);
        let at = |minutes: u64| start.saturating_add(Duration::from_secs(60 * minutes));
        for minute in 0..40 * 1_440 {
            history.sample(&[slo.snapshot_at(at(minute))], at(minute));
        }
        let now = at(40 * 1_440);
        let present = slo.snapshot_at(now);
        let course = |history: &History, hours: u64| {
            history.of(&present, now.saturating_sub(Duration::from_secs(3_600 * hours)), now)
        };
        let length = |hours: u64| course(&history, hours).at.len();
        assert_eq!((length(1), length(24), length(48), length(9_999)), (61, 289, 25, 361));
        let columns: Vec<_> = course(&history, 1).values.into_keys().collect();
        assert_eq!(
            columns,
            ["response_latency", "response_latency p50", "response_latency p95", "response_latency p99"]
        );
        let mut state = StateWriter::default();
        history.save(&mut state);
        let mut again = History::default();
        again.restore(&mut StateReader::new(&state.finish().unwrap())).unwrap();
        assert_eq!(course(&again, 24), course(&history, 24));
        again.sample(&[], now);
        assert_eq!(course(&again, 24).at.len(), 1, "only what is measured now");
    }
}
