use serde::Serialize;
use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, Timestamp};

use crate::multipart::Multipart;
use crate::run::micros;
use crate::run_id::RunId;

/// A judgement about a run.
#[derive(Serialize)]
pub(crate) struct Feedback<'a> {
    pub(crate) id: RunId,
    pub(crate) created_at: Timestamp,
    pub(crate) modified_at: Timestamp,
    pub(crate) run_id: RunId,
    pub(crate) trace_id: RunId,
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<Score>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<&'a str>,
    pub(crate) feedback_source: Source<'a>,
    /// The project's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<Timestamp>,
}

/// A score: a number, or a verdict.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum Score {
    Number(f64),
    Verdict(bool),
}

/// Where a feedback comes from.
#[derive(Serialize)]
pub(crate) struct Source<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    metadata: JsonObject<'a>,
}

impl<'a> Source<'a> {
    pub(crate) const fn new(metadata: JsonObject<'a>) -> Self {
        Self { kind: "api", metadata }
    }
}

impl<'a> Feedback<'a> {
    /// Converts an evaluation or a policy check; `None` if it has neither verdict nor score.
    pub(crate) fn of(event: &'a AgentEvent, run: RunId) -> Option<Self> {
        let span = EventSpan::of(event)?;
        let (key, score, confidence) = match &event.event {
            Event::Evaluation(Evaluation { metric, passed, score, confidence, .. }) => {
                let number = score.filter(|score| score.is_finite()).map(Score::Number);
                (metric, number.or(passed.map(Score::Verdict))?, *confidence)
            }
            Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => (policy, Score::Verdict(*compliant), None),
            _ => return None,
        };
        let mut metadata = JsonObject::with_attributes(&event.attributes);
        metadata.put("agent", &event.agent);
        metadata.put("confidence", confidence);
        // Several evaluations may share a span.
        let (trace, id, time) =
            (span.trace_id.to_string(), span.span_id.to_string(), event.time.as_nanos().to_string());
        Some(Self {
            id: RunId::derived(&["feedback", &trace, &id, key, &time]),
            created_at: micros(event.time),
            modified_at: micros(event.time),
            run_id: run,
            trace_id: RunId::of_trace(span.trace_id),
            key: if key.is_empty() { "unnamed".to_owned() } else { key.clone() },
            score: Some(score),
            value: None,
            comment: None,
            feedback_source: Source::new(metadata),
            session_id: None,
            start_time: None,
        })
    }

    /// Adds the part.
    pub(crate) fn write(&self, form: &mut Multipart) -> Result<(), serde_json::Error> {
        form.part(&["feedback.", self.id.to_text().as_str()], self)
    }
}
