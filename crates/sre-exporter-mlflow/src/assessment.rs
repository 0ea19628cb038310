use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{AgentEvent, Event, EventSpan, stable_id};

/// The maximum length of an assessment's name in MLflow, in characters.
const NAME_CHARS: usize = 250;

/// The assessment of a trace, or of one of its spans.
#[derive(Debug)]
pub(crate) struct Assessment {
    /// The path of the trace's assessments.
    pub(crate) path: String,
    /// The id, which is the same each time an event is exported.
    pub(crate) id: String,
    pub(crate) body: Value,
}

impl Assessment {
    /// Returns the assessment of an evaluation or a policy check; `None` for other events, and without a verdict.
    ///
    /// Source: `Assessment` in `mlflow/protos/assessments.proto`.
    pub(crate) fn of(event: &AgentEvent, place: &EventSpan<'_>) -> Option<Self> {
        let (name, value, source, confidence) = match &event.event {
            Event::Evaluation(Evaluation { metric, passed, score, confidence, .. }) => {
                let score = score.filter(|score| score.is_finite()).map(Value::from);
                // Only evaluations by a model have a confidence.
                let source = if confidence.is_some() { "LLM_JUDGE" } else { "CODE" };
                (metric, score.or(passed.map(Value::from))?, source, *confidence)
            }
            Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => (policy, (*compliant).into(), "CODE", None),
            _ => return None,
        };
        let trace = format!("tr-{}", place.trace_id);
        let id = stable_id(&["assessment", &place.trace_id.to_string(), &place.span_id.to_string()]);
        let id = format!("a-{}", id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let name: String = name.chars().take(NAME_CHARS).collect();
        let time = serde_json::to_value(event.time).ok()?;
        let mut body = Map::from_iter([
            ("assessment_id".to_owned(), id.as_str().into()),
            ("assessment_name".to_owned(), if name.is_empty() { "unnamed".into() } else { name.into() }),
            ("trace_id".to_owned(), trace.as_str().into()),
            ("source".to_owned(), json!({"source_type": source, "source_id": "agent-sre"})),
            ("create_time".to_owned(), time.clone()),
            ("last_update_time".to_owned(), time),
            ("feedback".to_owned(), json!({"value": value})),
            ("metadata".to_owned(), metadata(event, confidence)),
        ]);
        if let Some(span) = event.parent_span_id {
            body.insert("span_id".to_owned(), span.to_string().into());
        }
        let path = format!("/api/3.0/mlflow/traces/{trace}/assessments");
        Some(Self { path, id, body: json!({"assessment": body}) })
    }
}

/// Returns texts by name, which is all that MLflow allows.
fn metadata(event: &AgentEvent, confidence: Option<f64>) -> Value {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut metadata: Map<String, Value> =
        event.attributes.iter().map(|(key, value)| (key.clone(), text(value).into())).collect();
    metadata.insert("agent".to_owned(), event.agent.as_str().into());
    if let Some(passed) = event.event.outcome() {
        metadata.insert("passed".to_owned(), passed.to_string().into());
    }
    if let Some(confidence) = confidence {
        metadata.insert("confidence".to_owned(), confidence.to_string().into());
    }
    Value::Object(metadata)
}
