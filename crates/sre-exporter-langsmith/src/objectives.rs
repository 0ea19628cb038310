use std::time::Duration;

use sre_core::{JsonObject, SloSnapshot, Timestamp};

use crate::feedback::{Feedback, Score, Source};
use crate::run::{Operation, Outputs, Run, micros};
use crate::run_id::RunId;
use crate::traces::Place;

const DAY: Duration = Duration::from_secs(86_400);

/// The run of an agent's objective on the day of a snapshot.
pub(crate) struct Objective<'a> {
    slo: &'a SloSnapshot,
    at: Timestamp,
    start: Timestamp,
    place: Place,
}

impl<'a> Objective<'a> {
    /// Finds the run. Its id and start depend only on project, objective, agent and day (UTC), so that a restarted process
    /// continues it. It is not one run for ever, because LangSmith deletes a trace at the end of its retention.
    pub(crate) fn new(slo: &'a SloSnapshot, at: Timestamp, project: &str) -> Self {
        let day = at.as_secs().div_euclid(DAY.as_secs().cast_signed());
        let start = Timestamp::from_secs(day * DAY.as_secs().cast_signed());
        let id = RunId::derived(&["slo", project, &slo.name, &slo.agent, &day.to_string()]);
        Self { slo, at, start, place: Place::alone(id, start) }
    }

    pub(crate) const fn id(&self) -> RunId {
        self.place.id
    }

    /// Returns the run with the state of the objective.
    pub(crate) fn run<'b>(&'b self, operation: Operation, project: &'b str) -> Run<'b> {
        let slo = self.slo;
        let budget = &slo.error_budget;
        let mut outputs = JsonObject::default();
        outputs.put("status", slo.status.as_str());
        outputs.put("sli", slo.sli);
        outputs.put("good", slo.good);
        outputs.put("bad", slo.bad);
        outputs.put("budget_remaining", budget.remaining);
        outputs.put("budget_consumed", budget.consumed);
        let mut metadata = JsonObject::default();
        slo.labels.iter().for_each(|(key, value)| metadata.put(key, value));
        metadata.put("agent", &slo.agent);
        metadata.put("slo", &slo.name);
        metadata.put("target", slo.target);
        metadata.put("window", slo.window.to_string());
        Run {
            operation,
            place: &self.place,
            project,
            name: format!("slo {}", slo.name).into(),
            run_type: "chain",
            tags: &[],
            start: self.start,
            end: Some(micros(self.at.max(self.start))),
            inputs: None,
            outputs: Some(Outputs::Fields(outputs)),
            first_token: None,
            error: None,
            metadata,
        }
    }

    /// Returns the scores of the run.
    pub(crate) fn feedback(&self) -> Vec<Feedback<'a>> {
        feedback(self.slo, &self.place, self.start, self.at)
    }
}

/// Returns the scores of an objective on a run: the budget's remaining share, the share of good events, the burn rate and the
/// status.
pub(crate) fn feedback<'a>(slo: &'a SloSnapshot, run: &Place, start: Timestamp, at: Timestamp) -> Vec<Feedback<'a>> {
    let number = |value: Option<f64>| value.filter(|value| value.is_finite()).map(Score::Number);
    let burn_rate = slo.burn_rates.iter().find(|burn| burn.window.duration() == Duration::from_secs(3_600));
    let status = slo.status.as_str();
    let (run_id, at_nanos) = (run.id.to_string(), at.as_nanos().to_string());
    [
        ("budget_remaining", number(slo.error_budget.remaining), None),
        ("sli", number(slo.sli), None),
        ("burn_rate", number(burn_rate.and_then(|burn| burn.rate)), None),
        ("status", None, Some(status.to_owned())),
    ]
    .into_iter()
    .filter(|(_, score, value)| score.is_some() || value.is_some())
    .map(|(what, score, value)| {
        let key = format!("slo.{}.{what}", slo.name);
        let mut metadata = JsonObject::default();
        metadata.put("agent", &slo.agent);
        Feedback {
            id: RunId::derived(&["feedback", &run_id, &key, &at_nanos]),
            created_at: micros(at),
            modified_at: micros(at),
            run_id: run.id,
            trace_id: run.trace,
            key,
            score,
            value,
            comment: None,
            feedback_source: Source::new(metadata),
            session_id: None,
            start_time: Some(start),
        }
    })
    .collect()
}
