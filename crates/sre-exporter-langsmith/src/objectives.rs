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
            start: self.start,
            end: Some(micros(self.at.max(self.start))),
            outputs: Some(Outputs::Fields(outputs)),
            first_token: None,
            error: None,
            metadata,
        }
    }

    /// Returns the scores of the run: the budget's remaining share, the share of good events, burn rates and the status.
    pub(crate) fn feedback(&self) -> Vec<Feedback<'a>> {
        let slo = self.slo;
        let number = |value: Option<f64>| value.filter(|value| value.is_finite()).map(Score::Number);
        let burn_rate = slo.burn_rates.iter().find(|burn| burn.window.duration() == Duration::from_secs(3_600));
        let status = slo.status.as_str();
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
            let at = self.at.as_nanos().to_string();
            let mut metadata = JsonObject::default();
            metadata.put("agent", &slo.agent);
            Feedback {
                id: RunId::derived(&["feedback", &self.place.id.to_string(), &key, &at]),
                created_at: micros(self.at),
                modified_at: micros(self.at),
                run_id: self.place.id,
                trace_id: self.place.id,
                key,
                score,
                value,
                feedback_source: Source::new(metadata),
                session_id: None,
                start_time: Some(self.start),
            }
        })
        .collect()
    }
}
