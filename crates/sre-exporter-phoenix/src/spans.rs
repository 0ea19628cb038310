use std::time::Duration;

use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, Usd};
use sre_otlp::{Attributes, Name, SpanKind, SpanWriter};

/// Writes the span of an event, with the attributes of OpenInference. What it does not name is in the span's metadata.
///
/// Source: the specification of OpenInference, `spec/semantic_conventions.md`.
pub(crate) fn write_span(event: &AgentEvent, place: &EventSpan<'_>, span: &mut SpanWriter<'_>) {
    let mut attributes = span.attributes();
    let mut metadata = JsonObject::with_attributes(&event.attributes);
    let (name, kind) = describe(event, &mut attributes, &mut metadata);
    attributes.text("openinference.span.kind", kind);
    attributes.text("agent.name", event.agent.as_str());
    metadata.put("task", event.task.as_deref());
    if !metadata.is_empty() {
        attributes.json_text("metadata", &metadata);
    }
    let mut place = place.clone();
    if event.event.is_assessment() {
        // The verdict is that of an annotation.
        place.outcome = None;
    }
    span.name(&name);
    span.kind(SpanKind::Internal);
    span.event_span(&place);
    span.ok(&place);
    span.exception(&place);
    if let Event::LlmCall(LlmCall { first_token_ms: Some(ms), .. }) = event.event {
        let first = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        span.event("First Token Stream Event", place.start.saturating_add(first), |_| {});
    }
}

/// Adds the fields of an event, and returns the span's name and OpenInference kind.
fn describe<'a>(
    event: &'a AgentEvent,
    attributes: &mut Attributes<'_>,
    metadata: &mut JsonObject<'a>,
) -> (Name<'a>, &'static str) {
    match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            attributes.text("input.value", &*event.task_key());
            // Phoenix adds up the costs of the model calls itself.
            metadata.put("cost_usd", *cost_usd);
            ([&event.agent, ""], "AGENT")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            metadata.put("kind", kind);
            ([name, ""], if kind == "agent_task" { "AGENT" } else { "CHAIN" })
        }
        Event::LlmCall(call) => {
            attributes.text("llm.model_name", call.model.as_deref());
            attributes.text("llm.provider", call.provider.as_deref());
            attributes.int("llm.token_count.prompt", call.input_tokens);
            attributes.int("llm.token_count.completion", call.output_tokens);
            attributes.int("llm.token_count.total", call.input_tokens.saturating_add(call.output_tokens));
            attributes.int("llm.token_count.prompt_details.cache_read", call.cached_input_tokens);
            attributes.int("llm.token_count.prompt_details.cache_write", call.cache_write());
            attributes.double("llm.cost.total", call.cost_usd.map(Usd::as_dollars));
            metadata.put("attempt", call.attempt);
            ([call.model.as_deref().unwrap_or("model call"), ""], "LLM")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, .. }) => {
            attributes.text("tool.name", tool.as_str());
            metadata.put("arguments_hash", arguments_hash.as_deref());
            metadata.put("correct", *correct);
            ([tool, ""], "TOOL")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            metadata.put("from", from);
            metadata.put("to", to);
            metadata.put("depth", *depth);
            (["handoff to ", to], "CHAIN")
        }
        Event::Message(Message { sender, .. }) => {
            metadata.put("sender", sender);
            (["message", ""], "CHAIN")
        }
        Event::HttpRequest(request) => {
            metadata.put("url", request.url_without_secrets());
            metadata.put("status_code", request.status_code);
            (["HTTP request", ""], "CHAIN")
        }
        Event::Evaluation(evaluation) => (["evaluation ", &evaluation.metric], "EVALUATOR"),
        Event::PolicyCheck(check) => (["policy ", &check.policy], "GUARDRAIL"),
        other => ([other.kind().as_str(), ""], "CHAIN"),
    }
}
