use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, SloSnapshot};

/// A score or feedback for a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// A score by name: a whole number, or a boolean.
    Score(String, Value),
    /// Whether a user liked the answer, a boolean.
    Feedback(Value),
}

/// Scores and feedback for one request, from the events of a batch.
pub(crate) struct Rating {
    pub(crate) request_id: String,
    pub(crate) path: &'static str,
    pub(crate) body: Map<String, Value>,
    /// The places of the events in the batch.
    pub(crate) places: Vec<usize>,
    /// Number of earlier events whose value a later one of the same name has replaced by another, since Helicone keeps one.
    pub(crate) replaced: usize,
}

/// Attributes of events with the id of a request: as a name, and as in Helicone's response.
const REQUEST_ID: [&str; 2] = ["helicone_id", "helicone-id"];

/// Evaluations of these metrics are feedback.
const FEEDBACK: [&str; 2] = ["feedback", "user_feedback"];

/// Returns the requests of a batch's events, in the order of their first events.
pub(crate) fn ratings(events: &[Arc<AgentEvent>]) -> Vec<Rating> {
    let mut ratings: Vec<Rating> = Vec::new();
    let mut known = HashMap::new();
    for (place, event) in events.iter().enumerate() {
        let (Some(id), Some(verdict)) = (request_id(event), verdict(event)) else { continue };
        let path = match verdict {
            Verdict::Score(..) => "score",
            Verdict::Feedback(_) => "feedback",
        };
        let at = *known.entry((id, path)).or_insert_with(|| {
            let (body, places) = (Map::new(), Vec::new());
            ratings.push(Rating { request_id: id.to_owned(), path, body, places, replaced: 0 });
            ratings.len() - 1
        });
        let rating = &mut ratings[at];
        rating.places.push(place);
        let value_of = match &verdict {
            Verdict::Score(name, _) => &mut rating.body.entry("scores").or_insert_with(|| json!({}))[name],
            Verdict::Feedback(_) => rating.body.entry("rating").or_insert(Value::Null),
        };
        let (Verdict::Score(_, value) | Verdict::Feedback(value)) = verdict;
        let earlier = std::mem::replace(value_of, value);
        rating.replaced += usize::from(!earlier.is_null() && earlier != *value_of);
    }
    ratings
}

fn request_id(event: &AgentEvent) -> Option<&str> {
    let id = REQUEST_ID.into_iter().find_map(|name| event.attributes.get(name)?.as_str())?;
    Some(id).filter(|id| !id.is_empty())
}

fn verdict(event: &AgentEvent) -> Option<Verdict> {
    let score = |name: &str, value: Value| Some(Verdict::Score(name.to_owned(), value));
    match &event.event {
        Event::Evaluation(Evaluation { metric, score: value, .. }) => {
            let outcome = event.event.outcome();
            if FEEDBACK.contains(&metric.as_str()) {
                return outcome.map(Value::from).map(Verdict::Feedback);
            }
            score(metric, value.and_then(hundredths).or(outcome.map(Value::from))?)
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            score(if policy.is_empty() { "policy" } else { policy }, (*compliant).into())
        }
        Event::TaskFinished(TaskFinished { success, .. }) => score("task_succeeded", (*success).into()),
        Event::ToolCall(ToolCall { correct: Some(correct), .. }) => score("tool_call_correct", (*correct).into()),
        Event::ToolCall(ToolCall { success, .. }) => score("tool_call_succeeded", (*success).into()),
        _ => None,
    }
}

/// Returns the scores of an objective: what remains of its budget, its indicator, and whether it is met.
pub(crate) fn scores_of(slo: &SloSnapshot) -> Map<String, Value> {
    let named = |what: &str| format!("slo.{}.{what}", slo.name);
    let mut scores = Map::new();
    for (what, ratio) in [("budget_remaining", slo.error_budget.remaining), ("sli", slo.sli)] {
        if let Some(value) = ratio.and_then(hundredths) {
            scores.insert(named(what), value);
        }
    }
    scores.insert(named("healthy"), (slo.status == sre_core::Status::Healthy).into());
    scores
}

/// Returns a score as a whole number: 0.756 is 76. Helicone skips fractions.
fn hundredths(score: f64) -> Option<Value> {
    /// The largest number up to which every whole number is exact in JavaScript.
    const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
    score.is_finite().then(|| json!((score * 100.0).round().clamp(-MAX_SAFE, MAX_SAFE) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Arc<AgentEvent> {
        let json = format!(r#"{{"time":1790000000,"agent":"a",{json}}}"#);
        Arc::new(AgentEvent::from_json(json.as_bytes()).unwrap())
    }

    #[test]
    fn verdicts_of_a_request_are_one_rating() {
        let events = [
            event(r#""event":"evaluation","metric":"relevance","score":0.756,"attributes":{"helicone-id":"1"}"#),
            event(r#""event":"evaluation","metric":"relevance","score":0.5"#),
            event(r#""event":"evaluation","metric":"feedback","passed":true,"attributes":{"helicone_id":"1"}"#),
            event(r#""event":"tool_call","tool":"x","success":false,"attributes":{"helicone_id":"2"}"#),
            event(r#""event":"policy_check","policy":"pii","compliant":true,"attributes":{"helicone_id":"1"}"#),
            event(r#""event":"heartbeat","attributes":{"helicone_id":"1"}"#),
            event(r#""event":"evaluation","metric":"tone","passed":false,"attributes":{"helicone_id":"2"}"#),
        ];
        let ratings = ratings(&events);
        let found: Vec<_> = ratings
            .iter()
            .map(|rating| (&*rating.request_id, rating.path, Value::from(rating.body.clone()), &*rating.places))
            .collect();
        let scores = json!({"scores": {"relevance": 76, "pii": true}});
        assert_eq!(found[0], ("1", "score", scores, &[0, 4][..]));
        assert_eq!(found[1], ("1", "feedback", json!({"rating": true}), &[2][..]));
        let scores = json!({"scores": {"tool_call_succeeded": false, "tone": false}});
        assert_eq!(found[2], ("2", "score", scores, &[3, 6][..]));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_later_score_replaces_an_earlier_one_of_its_name() {
        let tool = |success: bool| {
            event(&format!(r#""event":"tool_call","tool":"x","success":{success},"attributes":{{"helicone_id":"1"}}"#))
        };
        let ratings = ratings(&[tool(false), tool(true), tool(true), tool(false)]);
        assert_eq!(Value::from(ratings[0].body.clone()), json!({"scores": {"tool_call_succeeded": false}}));
        assert_eq!((ratings[0].places.len(), ratings[0].replaced), (4, 2), "the same value again replaces nothing");
    }

    #[test]
    fn scores_are_whole_numbers() {
        for (score, expected) in [(0.75, Some(75)), (4.5, Some(450)), (-0.004, Some(0)), (1e300, Some((1 << 53) - 1))] {
            assert_eq!(hundredths(score), expected.map(|value: i64| json!(value)), "{score}");
        }
        assert_eq!(hundredths(f64::NAN), None);
    }
}
