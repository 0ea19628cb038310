use std::time::Duration;

use serde_json::{Map, Value, json};
use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, TaskStarted, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, Resource, SpanId, Timestamp, Usd};

use crate::row::Rank;
use crate::traces::Position;

/// Converts an event to the fields of its row.
pub(crate) fn row(
    event: &AgentEvent,
    span: &EventSpan<'_>,
    position: &Position,
    is_experiment: bool,
    resource: &Resource,
) -> (Rank, Map<String, Value>) {
    let is_root = position.is_root;
    let mut metadata: Map<String, Value> = event.attributes.clone().into_iter().collect();
    metadata.insert("agent".to_owned(), event.agent.as_str().into());
    put(&mut metadata, "task", event.task.as_deref());
    let mut metrics = Map::new();
    put(&mut metrics, "start", Some(seconds(span.start)));
    if !matches!(event.event, Event::TaskStarted(_)) {
        put(&mut metrics, "end", Some(seconds(span.end)));
    }
    let (rank, name, kind) = describe(event, &mut metadata, &mut metrics);
    if is_root {
        resource.attributes.iter().for_each(|(key, value)| put(&mut metadata, key, Some(value.as_str())));
        put(&mut metadata, "parent_span_id", span.parent_span_id.map(|id| id.to_string()));
    }
    if position.id != span.span_id {
        metadata.insert("otel_span_id".to_owned(), span.span_id.to_string().into());
    }
    let kind = if is_root && is_experiment { "eval" } else { kind };
    let mut row = place(span, position.id, position.parent);
    row.insert("created".to_owned(), json!(span.start));
    row.insert("span_attributes".to_owned(), json!({"name": name, "type": kind}));
    row.insert("metadata".to_owned(), metadata.into());
    row.insert("metrics".to_owned(), metrics.into());
    if is_root && is_experiment {
        // Braintrust compares test cases of experiments by their input.
        row.insert("input".to_owned(), json!({"agent": event.agent, "task": event.task}));
    }
    if span.outcome == Some(false) {
        row.insert("error".to_owned(), span.error.unwrap_or("failed").into());
    }
    (rank, row)
}

/// Returns the fields that give a row its place in its trace.
pub(crate) fn place(of: &EventSpan<'_>, span: SpanId, parent: Option<SpanId>) -> Map<String, Value> {
    let parents = parent.map(|parent| vec![parent.to_string()]);
    let mut row = Map::new();
    row.insert("span_id".to_owned(), span.to_string().into());
    row.insert("root_span_id".to_owned(), of.trace_id.to_string().into());
    row.insert("span_parents".to_owned(), json!(parents));
    row
}

/// Adds an entry, unless it is `None` or not finite.
pub(crate) fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    // JSON has no NaN and no infinity: they become null.
    if let Some(value) = value.map(Into::into).filter(|value| !value.is_null()) {
        map.insert(key.to_owned(), value);
    }
}

/// Returns Unix seconds.
pub(crate) fn seconds(time: Timestamp) -> f64 {
    time.as_unix_seconds()
}

/// Adds metadata and metrics of an event, and returns the row's rank, name and type.
fn describe(
    event: &AgentEvent,
    metadata: &mut Map<String, Value>,
    metrics: &mut Map<String, Value>,
) -> (Rank, String, &'static str) {
    match &event.event {
        Event::TaskStarted(TaskStarted { name, .. }) => {
            put(metadata, "name", name.as_deref());
            (Rank::Task, event.agent.clone(), "task")
        }
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            put(metadata, "cost_usd", cost_usd.map(|cost| cost.to_string()));
            (Rank::Task, event.agent.clone(), "task")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            put(metadata, "kind", Some(kind.as_str()));
            (Rank::Span, name.clone(), "task")
        }
        Event::LlmCall(call) => {
            let LlmCall { model, provider, input_tokens, cached_input_tokens, output_tokens, .. } = call;
            put(metadata, "model", model.as_deref());
            put(metadata, "provider", provider.as_deref());
            put(metadata, "attempt", call.attempt);
            put(metrics, "prompt_tokens", Some(*input_tokens));
            put(metrics, "prompt_cached_tokens", Some(*cached_input_tokens));
            put(metrics, "completion_tokens", Some(*output_tokens));
            put(metrics, "tokens", Some(input_tokens.saturating_add(*output_tokens)));
            put(metrics, "estimated_cost", call.cost_usd.map(Usd::as_dollars));
            let first_token = call.first_token_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
            put(metrics, "time_to_first_token", first_token.map(|after| after.as_secs_f64()));
            (Rank::Span, model.clone().unwrap_or_else(|| "model call".to_owned()), "llm")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, attempt, .. }) => {
            put(metadata, "arguments_hash", arguments_hash.as_deref());
            put(metadata, "correct", *correct);
            put(metadata, "attempt", *attempt);
            (Rank::Span, tool.clone(), "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            put(metadata, "from", Some(from.as_str()));
            put(metadata, "to", Some(to.as_str()));
            put(metadata, "depth", Some(*depth));
            (Rank::Instant, format!("handoff to {to}"), "function")
        }
        Event::Message(Message { sender, .. }) => {
            put(metadata, "sender", Some(sender.as_str()));
            (Rank::Instant, "message".to_owned(), "function")
        }
        Event::HttpRequest(request) => {
            put(metadata, "url", Some(request.url_without_secrets()));
            put(metadata, "status_code", request.status_code);
            (Rank::Span, "HTTP request".to_owned(), "function")
        }
        other => (Rank::Span, other.kind().to_string(), "function"),
    }
}
