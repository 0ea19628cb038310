use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sre_core::event::{Evaluation, Handoff, LlmCall, Message, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, Usd};
use sre_otlp::{Attributes, Name, SpanKind, SpanWriter};

use crate::score::{Score, ScoreValue};

/// Begins the keys of an observation's metadata.
pub(crate) const METADATA: &str = "langfuse.observation.metadata.";

/// Tokens by kind. Langfuse adds up all kinds of input tokens.
#[derive(Serialize)]
struct UsageDetails {
    input: u64,
    input_cached_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_cache_creation: Option<u64>,
    output: u64,
}

/// Costs in US dollars.
#[derive(Serialize)]
pub(crate) struct CostDetails {
    pub(crate) total: f64,
}

/// Returns the score of an evaluation or a policy check; `None` for other events, and without a verdict.
pub(crate) fn score<'a>(
    event: &'a AgentEvent,
    span: &EventSpan<'_>,
    environment: Option<&'a str>,
) -> Option<Score<'a>> {
    let verdict = |passed: bool| ScoreValue::Boolean(passed.into());
    let (name, value, confidence) = match &event.event {
        Event::Evaluation(Evaluation { metric, passed, score, confidence, .. }) => {
            (metric, ScoreValue::number(*score).or(passed.map(verdict))?, *confidence)
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => (policy, verdict(*compliant), None),
        _ => return None,
    };
    let mut metadata = JsonObject::with_attributes(&event.attributes);
    metadata.put("agent", &event.agent);
    metadata.put("confidence", confidence);
    Some(Score {
        id: span.span_id.to_string(),
        trace_id: span.trace_id,
        observation_id: event.parent_span_id,
        name: if name.is_empty() { "unnamed" } else { name }.into(),
        value,
        comment: None,
        environment,
        metadata,
        timestamp: event.time,
    })
}

/// Writes the observation of an event.
pub(crate) fn write_observation(
    event: &AgentEvent,
    place: &EventSpan<'_>,
    environment: Option<&str>,
    span: &mut SpanWriter<'_>,
) {
    let mut attributes = span.attributes();
    attributes.text("langfuse.environment", environment);
    let (name, kind) = describe(event, place, &mut attributes);
    attributes.text("langfuse.observation.type", kind);
    if place.outcome == Some(false) {
        attributes.text("langfuse.observation.level", "ERROR");
        attributes.text("langfuse.observation.status_message", place.error.unwrap_or("failed"));
    }
    let mut metadata = attributes.prefixed(METADATA);
    metadata.text("agent", event.agent.as_str());
    metadata.text("task", event.task.as_deref());
    event.attributes.iter().for_each(|(key, value)| match value {
        // Langfuse reads numbers and objects from texts.
        Value::Bool(_) | Value::String(_) => metadata.json(key, value),
        value => metadata.json_text(key, value),
    });
    span.name(&name);
    span.kind(SpanKind::Internal);
    span.event_span(place);
}

/// Adds the attributes of an event, and returns the observation's name and type.
fn describe<'a>(
    event: &'a AgentEvent,
    place: &EventSpan<'_>,
    attributes: &mut Attributes<'_>,
) -> (Name<'a>, &'static str) {
    match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            attributes.text("langfuse.trace.name", event.agent.as_str());
            attributes.bool("langfuse.internal.is_app_root", true);
            let cost = cost_usd.map(|cost| cost.to_string());
            attributes.prefixed(METADATA).text("cost_usd", cost.as_deref());
            ([&event.agent, ""], "agent")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            attributes.prefixed(METADATA).text("kind", kind.as_str());
            ([name, ""], "span")
        }
        Event::LlmCall(call) => {
            let LlmCall { model, provider, input_tokens, cached_input_tokens, output_tokens, .. } = call;
            let LlmCall { cost_usd, first_token_ms, .. } = call;
            attributes.text("langfuse.observation.model.name", model.as_deref());
            attributes.prefixed(METADATA).text("provider", provider.as_deref());
            let usage = UsageDetails {
                input: input_tokens.saturating_sub(*cached_input_tokens).saturating_sub(call.cache_write_input_tokens),
                input_cached_tokens: *cached_input_tokens,
                input_cache_creation: call.cache_write(),
                output: *output_tokens,
            };
            attributes.json_text("langfuse.observation.usage_details", &usage);
            if let Some(total) = cost_usd.map(Usd::as_dollars) {
                attributes.json_text("langfuse.observation.cost_details", &CostDetails { total });
            }
            if let Some(ms) = first_token_ms {
                let first = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
                // As JSON, as Langfuse's client sends it.
                let time = place.start.saturating_add(first);
                attributes.json_text("langfuse.observation.completion_start_time", &time);
            }
            ([model.as_deref().unwrap_or("model call"), ""], "generation")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, .. }) => {
            let mut metadata = attributes.prefixed(METADATA);
            metadata.text("arguments_hash", arguments_hash.as_deref());
            metadata.bool("correct", *correct);
            ([tool, ""], "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            let mut metadata = attributes.prefixed(METADATA);
            metadata.text("from", from.as_str());
            metadata.text("to", to.as_str());
            metadata.json_text("depth", depth);
            (["handoff to ", to], "event")
        }
        Event::Message(Message { sender, .. }) => {
            attributes.prefixed(METADATA).text("sender", sender.as_str());
            (["message", ""], "event")
        }
        Event::HttpRequest(request) => {
            let mut metadata = attributes.prefixed(METADATA);
            metadata.text("url", request.url_without_secrets());
            request.status_code.iter().for_each(|code| metadata.json_text("status_code", code));
            (["HTTP request", ""], "span")
        }
        other => ([other.kind().as_str(), ""], "span"),
    }
}
