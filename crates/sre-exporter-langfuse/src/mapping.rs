use serde_json::{Value, json};
use sre_core::event::{Evaluation, Handoff, LlmCall, Message, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan};
use sre_otlp::{Span, SpanKind};

use crate::observation::{Observation, score, time};

/// An event converted for Langfuse.
pub(crate) enum Mapped {
    Observation(Box<Span>),
    Score(Value),
    Nothing,
}

/// Converts an event for Langfuse.
pub(crate) fn map(event: &AgentEvent, environment: Option<&str>) -> Mapped {
    let Some(span) = EventSpan::of(event) else { return Mapped::Nothing };
    match &event.event {
        Event::Evaluation(Evaluation { metric, passed, score, confidence, .. }) => {
            let numeric = score.filter(|score| score.is_finite());
            let value = numeric.map(Verdict::Number).or(passed.map(Verdict::Yes));
            let Some(value) = value else { return Mapped::Nothing };
            Mapped::Score(score_of(event, &span, metric, &value, *confidence, environment))
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            Mapped::Score(score_of(event, &span, policy, &Verdict::Yes(*compliant), None, environment))
        }
        _ => Mapped::Observation(Box::new(observation(event, &span, environment))),
    }
}

enum Verdict {
    Number(f64),
    Yes(bool),
}

fn score_of(
    event: &AgentEvent,
    span: &EventSpan<'_>,
    name: &str,
    verdict: &Verdict,
    confidence: Option<f64>,
    environment: Option<&str>,
) -> Value {
    let (value, data_type) = match verdict {
        Verdict::Number(value) => (json!(value), "NUMERIC"),
        Verdict::Yes(yes) => (json!(u8::from(*yes)), "BOOLEAN"),
    };
    let mut metadata = event.attributes.clone();
    metadata.insert("agent".to_owned(), event.agent.as_str().into());
    if let Some(confidence) = confidence {
        metadata.insert("confidence".to_owned(), confidence.into());
    }
    let observation = event.parent_span_id.as_ref().and_then(|_| span.parent_span_id.map(|id| id.to_string()));
    score([
        ("id", Some(span.span_id.to_string().into())),
        ("traceId", Some(span.trace_id.to_string().into())),
        ("observationId", observation.map(Value::from)),
        ("name", Some(if name.is_empty() { "unnamed".into() } else { name.into() })),
        ("value", Some(value)),
        ("dataType", Some(data_type.into())),
        ("environment", environment.map(Value::from)),
        ("metadata", serde_json::to_value(metadata).ok()),
        ("timestamp", time(event.time)),
    ])
}

fn observation(event: &AgentEvent, span: &EventSpan<'_>, environment: Option<&str>) -> Span {
    let mut observation = Observation::default();
    environment.into_iter().for_each(|name| observation.set("langfuse.environment", name));
    let (name, kind) = describe(event, span, &mut observation);
    observation.set("langfuse.observation.type", kind);
    observation.set_metadata("agent", event.agent.as_str());
    event.task.iter().for_each(|task| observation.set_metadata("task", task.as_str()));
    event.attributes.iter().for_each(|(key, value)| observation.set_metadata(key, value.clone()));
    if span.outcome == Some(false) {
        observation.fail(span.error.unwrap_or("failed"));
    }
    sre_otlp::span(span, name, SpanKind::Internal, observation.0)
}

/// Adds the attributes of an event, and returns the observation's name and type.
fn describe(event: &AgentEvent, span: &EventSpan<'_>, observation: &mut Observation) -> (String, &'static str) {
    match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            observation.set("langfuse.trace.name", event.agent.as_str());
            observation.set("langfuse.internal.is_app_root", true);
            cost_usd.iter().for_each(|cost| observation.set_metadata("cost_usd", cost.to_string()));
            (event.agent.clone(), "agent")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            observation.set_metadata("kind", kind.as_str());
            (name.clone(), "span")
        }
        Event::LlmCall(LlmCall {
            model,
            provider,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            cost_usd,
            first_token_ms,
            ..
        }) => {
            model.iter().for_each(|model| observation.set("langfuse.observation.model.name", model.as_str()));
            provider.iter().for_each(|provider| observation.set_metadata("provider", provider.as_str()));
            // Langfuse adds up all kinds of input tokens.
            let usage = json!({
                "input": input_tokens.saturating_sub(*cached_input_tokens),
                "input_cached_tokens": cached_input_tokens,
                "output": output_tokens,
            });
            observation.set("langfuse.observation.usage_details", usage);
            if let Some(cost) = cost_usd {
                observation.set("langfuse.observation.cost_details", json!({"total": cost.as_dollars()}));
            }
            if let Some(ms) = first_token_ms {
                let first = std::time::Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
                let at = time(span.start.saturating_add(first)).unwrap_or_default().to_string();
                observation.set("langfuse.observation.completion_start_time", at);
            }
            (model.clone().unwrap_or_else(|| "model call".to_owned()), "generation")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, .. }) => {
            arguments_hash.iter().for_each(|hash| observation.set_metadata("arguments_hash", hash.as_str()));
            correct.iter().for_each(|correct| observation.set_metadata("correct", *correct));
            (tool.clone(), "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            observation.set_metadata("from", from.as_str());
            observation.set_metadata("to", to.as_str());
            observation.set_metadata("depth", *depth);
            (format!("handoff to {to}"), "event")
        }
        Event::Message(Message { sender, .. }) => {
            observation.set_metadata("sender", sender.as_str());
            ("message".to_owned(), "event")
        }
        Event::HttpRequest(request) => {
            observation.set_metadata("url", request.url_without_secrets());
            request.status_code.iter().for_each(|code| observation.set_metadata("status_code", *code));
            ("HTTP request".to_owned(), "span")
        }
        other => (other.kind().to_string(), "span"),
    }
}
