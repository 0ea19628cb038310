use std::time::Duration;

use serde_json::{Map, Value};
use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, Usd};
use sre_otlp::{Attributes, Span, SpanEvent, SpanKind, unix_nanos};

/// Returns the span of an event, with the attributes of OpenInference. What it does not name is in the span's metadata.
///
/// Source: the specification of OpenInference, `spec/semantic_conventions.md`.
pub(crate) fn span(event: &AgentEvent, place: &EventSpan<'_>) -> Span {
    let mut attributes = Attributes::default();
    let mut metadata: Map<String, Value> =
        event.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let (name, kind) = describe(event, &mut attributes, &mut metadata);
    attributes.text("openinference.span.kind", kind);
    attributes.text("agent.name", event.agent.as_str());
    metadata.extend(event.task.iter().map(|task| ("task".to_owned(), task.as_str().into())));
    if !metadata.is_empty() {
        attributes.json("metadata", &Value::Object(metadata));
    }
    let mut place = place.clone();
    if event.event.is_assessment() {
        // The verdict is that of an annotation.
        place.outcome = None;
    }
    let mut span = sre_otlp::span(&place, name, SpanKind::Internal, attributes);
    sre_otlp::set_ok(&mut span, &place);
    sre_otlp::add_exception(&mut span, &place);
    if let Event::LlmCall(LlmCall { first_token_ms: Some(ms), .. }) = event.event {
        let first = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        span.events.push(SpanEvent {
            name: "First Token Stream Event".to_owned(),
            time_unix_nano: unix_nanos(place.start.saturating_add(first)),
            ..SpanEvent::default()
        });
    }
    span
}

/// Adds what an event says, and returns the span's name and OpenInference kind.
fn describe(
    event: &AgentEvent,
    attributes: &mut Attributes,
    metadata: &mut Map<String, Value>,
) -> (String, &'static str) {
    let mut add = |key: &str, value: Value| {
        metadata.insert(key.to_owned(), value);
    };
    match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            attributes.text("input.value", &*event.task_key());
            // Phoenix adds up the costs of the model calls itself.
            cost_usd.iter().for_each(|cost| add("cost_usd", cost.to_string().into()));
            (event.agent.clone(), "AGENT")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            add("kind", kind.as_str().into());
            (name.clone(), if kind == "agent_task" { "AGENT" } else { "CHAIN" })
        }
        Event::LlmCall(call) => {
            attributes.text("llm.model_name", call.model.as_deref());
            attributes.text("llm.provider", call.provider.as_deref());
            attributes.int("llm.token_count.prompt", call.input_tokens);
            attributes.int("llm.token_count.completion", call.output_tokens);
            attributes.int("llm.token_count.total", call.input_tokens.saturating_add(call.output_tokens));
            attributes.int("llm.token_count.prompt_details.cache_read", call.cached_input_tokens);
            attributes.double("llm.cost.total", call.cost_usd.map(Usd::as_dollars));
            call.attempt.iter().for_each(|attempt| add("attempt", (*attempt).into()));
            (call.model.clone().unwrap_or_else(|| "model call".to_owned()), "LLM")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, .. }) => {
            attributes.text("tool.name", tool.as_str());
            arguments_hash.iter().for_each(|hash| add("arguments_hash", hash.as_str().into()));
            correct.iter().for_each(|correct| add("correct", (*correct).into()));
            (tool.clone(), "TOOL")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            add("from", from.as_str().into());
            add("to", to.as_str().into());
            add("depth", (*depth).into());
            (format!("handoff to {to}"), "CHAIN")
        }
        Event::Message(Message { sender, .. }) => {
            add("sender", sender.as_str().into());
            ("message".to_owned(), "CHAIN")
        }
        Event::HttpRequest(request) => {
            add("url", request.url_without_secrets().into());
            request.status_code.iter().for_each(|code| add("status_code", (*code).into()));
            ("HTTP request".to_owned(), "CHAIN")
        }
        Event::Evaluation(evaluation) => (format!("evaluation {}", evaluation.metric), "EVALUATOR"),
        Event::PolicyCheck(check) => (format!("policy {}", check.policy), "GUARDRAIL"),
        other => (other.kind().to_string(), "CHAIN"),
    }
}
