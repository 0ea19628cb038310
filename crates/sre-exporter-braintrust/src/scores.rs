use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{AgentEvent, Event, EventSpan, SpanId};

use crate::row::id_of;
use crate::spans::{place, put, seconds};

/// Converts an evaluation or a policy check to a row's id and fields; `None` if it has neither verdict nor score.
///
/// The scores are merged into the row of `subject`. Without one, they have a row of their own, of type `score`.
pub(crate) fn row(
    event: &AgentEvent,
    span: &EventSpan<'_>,
    subject: Option<SpanId>,
) -> Option<(String, Map<String, Value>)> {
    let (mut scores, mut metrics, mut metadata) = (Map::new(), Map::new(), Map::new());
    let name = match &event.event {
        Event::Evaluation(Evaluation { metric, passed, score, confidence, .. }) => {
            let number = score.filter(|score| score.is_finite());
            let verdict = passed.map(|passed| f64::from(u8::from(passed)));
            put(&mut scores, metric, number.filter(|number| (0.0..=1.0).contains(number)).or(verdict));
            put(&mut metrics, &format!("score.{metric}"), number.filter(|number| !(0.0..=1.0).contains(number)));
            put(&mut metadata, &format!("{metric}.confidence"), *confidence);
            metric
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            put(&mut scores, policy, Some(u8::from(*compliant)));
            policy
        }
        _ => return None,
    };
    if scores.is_empty() && metrics.is_empty() {
        return None;
    }
    let (id, mut row) = match subject {
        // Where the row is, Braintrust knows.
        Some(subject) => (id_of(span.trace_id, subject), Map::new()),
        None => {
            for (key, value) in &event.attributes {
                metadata.insert(key.clone(), value.clone());
            }
            metadata.insert("agent".to_owned(), event.agent.as_str().into());
            metrics.insert("start".to_owned(), seconds(span.start).into());
            metrics.insert("end".to_owned(), seconds(span.end).into());
            // Several evaluations may share a span.
            let time = event.time.as_nanos().to_string();
            let id = [&span.span_id.to_string(), name, &time].map(String::as_str).join(" ");
            let id = SpanId::from_native(&span.trace_id.to_string(), &id);
            let mut row = place(span, id, span.parent_span_id);
            row.insert("span_attributes".to_owned(), json!({"name": name, "type": "score"}));
            row.insert("created".to_owned(), json!(event.time));
            (id_of(span.trace_id, id), row)
        }
    };
    for (field, content) in [("scores", scores), ("metrics", metrics), ("metadata", metadata)] {
        if !content.is_empty() {
            row.insert(field.to_owned(), content.into());
        }
    }
    Some((id, row))
}

#[cfg(test)]
mod tests {
    use sre_core::Timestamp;

    use super::*;

    #[test]
    fn a_score_outside_of_0_to_1_is_a_metric() {
        let row = |fields: &str| {
            let json = format!(r#"{{"event":"evaluation","time":1,"agent":"a","task":"t","metric":"m"{fields}}}"#);
            let event = AgentEvent::from_json(json.as_bytes()).unwrap();
            let row = row(&event, &EventSpan::of(&event).unwrap(), SpanId::from_bytes([1; 8]));
            row.map(|(_, row)| Value::Object(row))
        };
        assert_eq!(row(r#","score":1.0"#), Some(json!({"scores": {"m": 1.0}})));
        assert_eq!(row(r#","score":4"#), Some(json!({"metrics": {"score.m": 4.0}})));
        assert_eq!(
            row(r#","score":-1,"passed":false"#),
            Some(json!({"scores": {"m": 0.0}, "metrics": {"score.m": -1.0}}))
        );
        assert_eq!(
            row(r#","passed":true,"confidence":0.5"#),
            Some(json!({"scores": {"m": 1.0}, "metadata": {"m.confidence": 0.5}}))
        );
    }

    #[test]
    fn an_evaluation_without_a_verdict_is_no_score() {
        let event = AgentEvent::new(Timestamp::from_secs(1), "a", Evaluation::new("m", None, Some(f64::NAN)));
        assert_eq!(row(&event, &EventSpan::of(&event).unwrap(), None), None);
    }
}
