use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, SpanId};

use crate::row::{Rank, Row, Span, SpanAttributes, id_of};
use crate::spans::seconds;

/// Converts an evaluation or a policy check to a row; `None` if it has neither verdict nor score.
///
/// The scores are merged into the row of `subject`. Without one, they have a row of their own, of type `score`.
pub(crate) fn row<'a>(event: &'a AgentEvent, span: &EventSpan<'a>, subject: Option<SpanId>) -> Option<Row<'a>> {
    let mut row = Row::default();
    let name = match &event.event {
        Event::Evaluation(Evaluation { metric, passed, score, confidence, .. }) => {
            let number = score.filter(|score| score.is_finite());
            let verdict = passed.map(|passed| f64::from(u8::from(passed)));
            row.scores.put(metric, number.filter(|number| (0.0..=1.0).contains(number)).or(verdict));
            row.metrics.put(format!("score.{metric}"), number.filter(|number| !(0.0..=1.0).contains(number)));
            row.metadata.put(format!("{metric}.confidence"), *confidence);
            metric
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            row.scores.put(policy, f64::from(u8::from(*compliant)));
            policy
        }
        _ => return None,
    };
    if row.scores.is_empty() && row.metrics.is_empty() {
        return None;
    }
    if let Some(subject) = subject {
        // Braintrust finds the place of that row.
        row.id = id_of(span.trace_id, subject);
        return Some(row);
    }
    row.metadata.merge(JsonObject::with_attributes(&event.attributes));
    row.metadata.put("agent", &event.agent);
    row.metrics.put("start", seconds(span.start));
    row.metrics.put("end", seconds(span.end));
    // Several evaluations may share a span.
    let id = format!("{} {name} {}", span.span_id, event.time.as_nanos());
    let id = SpanId::from_native(&span.trace_id.to_string(), &id);
    row.id = id_of(span.trace_id, id);
    row.span = Some(Span {
        span_id: id,
        root_span_id: span.trace_id,
        span_parents: span.parent_span_id.map(|parent| [parent]),
        created: event.time,
        span_attributes: SpanAttributes { name: name.into(), kind: "score" },
        rank: Rank::Span,
    });
    Some(row)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sre_core::Timestamp;

    use super::*;

    /// Returns what is merged into the row of a span.
    fn merged(fields: &str) -> Value {
        let json = format!(r#"{{"event":"evaluation","time":1,"agent":"a","task":"t","metric":"m"{fields}}}"#);
        let event = AgentEvent::from_json(json.as_bytes()).unwrap();
        let row = row(&event, &EventSpan::of(&event).unwrap(), SpanId::from_bytes([1; 8])).unwrap();
        let mut row = serde_json::to_value(row).unwrap();
        row.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "id" | "_is_merge"));
        row
    }

    #[test]
    fn a_score_outside_of_0_to_1_is_a_metric() {
        assert_eq!(merged(r#","score":1.0"#), json!({"scores": {"m": 1.0}}));
        assert_eq!(merged(r#","score":4"#), json!({"metrics": {"score.m": 4.0}}));
        assert_eq!(
            merged(r#","score":-1,"passed":false"#),
            json!({"scores": {"m": 0.0}, "metrics": {"score.m": -1.0}})
        );
        assert_eq!(
            merged(r#","passed":true,"confidence":0.5"#),
            json!({"scores": {"m": 1.0}, "metadata": {"m.confidence": 0.5}})
        );
    }

    #[test]
    fn an_evaluation_without_a_verdict_is_no_score() {
        let event = AgentEvent::new(Timestamp::from_secs(1), "a", Evaluation::new("m", None, Some(f64::NAN)));
        assert!(row(&event, &EventSpan::of(&event).unwrap(), None).is_none());
    }
}
