use std::borrow::Cow;
use std::time::Duration;

use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, TaskStarted, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, Resource, Timestamp, Usd};

use crate::row::{Content, Rank, Row, Span, SpanAttributes, id_of};
use crate::traces::Position;

/// Converts an event to its row.
pub(crate) fn row<'a>(
    event: &'a AgentEvent,
    span: &EventSpan<'a>,
    position: &Position,
    is_experiment: bool,
    resource: &'a Resource,
) -> Row<'a> {
    let Position { id, parent, is_root } = *position;
    let mut metadata = JsonObject::with_attributes(&event.attributes);
    metadata.put("agent", &event.agent);
    metadata.put("task", event.task.as_deref());
    let mut metrics = JsonObject::default();
    metrics.put("start", seconds(span.start));
    if !matches!(event.event, Event::TaskStarted(_)) {
        metrics.put("end", seconds(span.end));
    }
    let (name, kind) = describe(event, &mut metadata, &mut metrics);
    if is_root {
        resource.attributes.iter().for_each(|(key, value)| metadata.put(key, value));
        metadata.put("parent_span_id", span.parent_span_id);
    }
    if id != span.span_id {
        metadata.put("otel_span_id", span.span_id);
    }
    let is_test_case = is_root && is_experiment;
    Row {
        id: id_of(span.trace_id, id),
        span: Some(Span {
            span_id: id,
            root_span_id: span.trace_id,
            span_parents: parent.map(|parent| [parent]),
            created: span.start,
            span_attributes: SpanAttributes { name, kind: if is_test_case { "eval" } else { kind } },
            rank: if span.is_task { Rank::Task } else { Rank::Span },
        }),
        metrics,
        metadata,
        error: (span.outcome == Some(false)).then(|| span.error.unwrap_or("failed")),
        input: is_test_case.then(|| Content::Task { agent: &event.agent, task: event.task.as_deref() }),
        ..Row::default()
    }
}

/// Returns Unix seconds.
pub(crate) fn seconds(time: Timestamp) -> f64 {
    time.as_unix_seconds()
}

/// Adds metadata and metrics of an event, and returns the row's name and type.
fn describe<'a>(
    event: &'a AgentEvent,
    metadata: &mut JsonObject<'a>,
    metrics: &mut JsonObject<'a>,
) -> (Cow<'a, str>, &'static str) {
    match &event.event {
        Event::TaskStarted(TaskStarted { name, .. }) => {
            metadata.put("name", name.as_deref());
            (event.agent.as_str().into(), "task")
        }
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            metadata.put("cost_usd", *cost_usd);
            (event.agent.as_str().into(), "task")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            metadata.put("kind", kind);
            (name.as_str().into(), "task")
        }
        Event::LlmCall(call) => {
            let LlmCall { model, provider, input_tokens, cached_input_tokens, output_tokens, .. } = call;
            metadata.put("model", model.as_deref());
            metadata.put("provider", provider.as_deref());
            metadata.put("attempt", call.attempt);
            metrics.put("prompt_tokens", *input_tokens);
            metrics.put("prompt_cached_tokens", *cached_input_tokens);
            metrics.put("prompt_cache_creation_tokens", call.cache_write());
            metrics.put("completion_tokens", *output_tokens);
            metrics.put("tokens", input_tokens.saturating_add(*output_tokens));
            metrics.put("estimated_cost", call.cost_usd.map(Usd::as_dollars));
            let first_token = call.first_token_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
            metrics.put("time_to_first_token", first_token.map(|after| after.as_secs_f64()));
            (model.as_deref().unwrap_or("model call").into(), "llm")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, attempt, .. }) => {
            metadata.put("arguments_hash", arguments_hash.as_deref());
            metadata.put("correct", *correct);
            metadata.put("attempt", *attempt);
            (tool.as_str().into(), "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            metadata.put("from", from);
            metadata.put("to", to);
            metadata.put("depth", *depth);
            (format!("handoff to {to}").into(), "function")
        }
        Event::Message(Message { sender, .. }) => {
            metadata.put("sender", sender);
            ("message".into(), "function")
        }
        Event::HttpRequest(request) => {
            metadata.put("url", request.url_without_secrets());
            metadata.put("status_code", request.status_code);
            ("HTTP request".into(), "function")
        }
        other => (other.kind().to_string().into(), "function"),
    }
}
