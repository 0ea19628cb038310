use serde_json::{Map, Value, json};
use sre_core::event::{Evaluation, PolicyCheck};
use sre_core::{AgentEvent, Event, EventSpan, SpanId, TraceId};

/// An annotation of a span or of a whole trace. Phoenix keeps one for each target, name and identifier.
#[derive(Clone, Debug)]
pub(crate) struct Annotation {
    pub(crate) target: Target,
    pub(crate) name: String,
    /// Whether a model judged.
    pub(crate) is_by_model: bool,
    pub(crate) score: Option<f64>,
    pub(crate) label: Option<String>,
    pub(crate) explanation: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) identifier: String,
}

/// What is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Span(SpanId),
    Trace(TraceId),
}

impl Annotation {
    /// Returns the annotation of an evaluation or a policy check; `None` for other events, and without a verdict. Its target is the
    /// span that the event names, or else the trace.
    pub(crate) fn of(event: &AgentEvent, place: &EventSpan<'_>) -> Option<Self> {
        let (name, score, confidence) = match &event.event {
            Event::Evaluation(Evaluation { metric, score, confidence, .. }) => {
                (metric, score.filter(|score| score.is_finite()), *confidence)
            }
            Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
                (policy, Some(f64::from(u8::from(*compliant))), None)
            }
            _ => return None,
        };
        let passed = event.event.outcome();
        if score.is_none() && passed.is_none() {
            return None;
        }
        let mut metadata: Map<String, Value> =
            event.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        metadata.insert("agent".to_owned(), event.agent.as_str().into());
        metadata.extend(confidence.map(|confidence| ("confidence".to_owned(), confidence.into())));
        let target = event.parent_span_id.map_or(Target::Trace(place.trace_id), Target::Span);
        Some(Self {
            target,
            name: allowed(name),
            // Only evaluations by a model have a confidence.
            is_by_model: confidence.is_some(),
            score,
            label: passed.map(|passed| if passed { "pass" } else { "fail" }.to_owned()),
            explanation: None,
            metadata,
            identifier: place.span_id.to_string(),
        })
    }

    /// Returns the same annotation for a whole trace. Its metadata names the span.
    pub(crate) fn for_trace(mut self, trace: TraceId) -> Self {
        if let Target::Span(span) = self.target {
            self.metadata.insert("span_id".to_owned(), span.to_string().into());
        }
        self.target = Target::Trace(trace);
        self
    }

    /// Returns an entry of `SpanAnnotationData` or `TraceAnnotationData`.
    pub(crate) fn json(&self) -> Value {
        let (field, id) = match self.target {
            Target::Span(id) => ("span_id", id.to_string()),
            Target::Trace(id) => ("trace_id", id.to_string()),
        };
        let texts = [("label", &self.label), ("explanation", &self.explanation)];
        let mut result: Map<String, Value> =
            texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text.as_deref()?.into()))).collect();
        result.extend(self.score.map(|score| ("score".to_owned(), score.into())));
        json!({
            field: id,
            "name": self.name,
            "annotator_kind": if self.is_by_model { "LLM" } else { "CODE" },
            "result": result,
            "metadata": self.metadata,
            "identifier": self.identifier,
        })
    }
}

/// Returns a name that Phoenix accepts. It reserves `note` for people.
fn allowed(name: &str) -> String {
    match name.trim() {
        "" => "unnamed".to_owned(),
        "note" => "note_".to_owned(),
        name => name.to_owned(),
    }
}

impl Target {
    /// Returns the path to which annotations of such targets are posted.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Span(_) => "/v1/span_annotations",
            Self::Trace(_) => "/v1/trace_annotations",
        }
    }
}
