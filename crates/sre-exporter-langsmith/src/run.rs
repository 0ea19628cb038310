use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, Resource, Timestamp};

use crate::multipart::Multipart;
use crate::traces::{Place, Rank};

/// How a run is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A run that LangSmith does not have.
    Post,
    /// The end of a run whose start LangSmith has.
    Patch,
}

/// A run, as it is written to a request.
pub(crate) struct Run<'a> {
    pub(crate) operation: Operation,
    pub(crate) place: &'a Place,
    pub(crate) project: &'a str,
    pub(crate) name: Cow<'a, str>,
    pub(crate) run_type: &'static str,
    pub(crate) start: Timestamp,
    /// `None` while it runs.
    pub(crate) end: Option<Timestamp>,
    pub(crate) outputs: Option<Value>,
    pub(crate) events: Option<Value>,
    pub(crate) error: Option<&'a str>,
    pub(crate) metadata: Map<String, Value>,
}

/// The part of a run that is named only by its id.
#[derive(Serialize)]
struct Main<'a> {
    id: String,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_run_id: Option<String>,
    dotted_order: &'a str,
    start_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Timestamp>,
    session_name: &'a str,
    name: &'a str,
    run_type: &'a str,
}

/// Returns the rank of an event among those of its span.
pub(crate) fn rank(event: &Event) -> Rank {
    match event {
        Event::TaskStarted(_) | Event::TaskFinished(_) => Rank::Task,
        Event::StepFinished(_) => Rank::Step,
        Event::Handoff(_) | Event::Message(_) => Rank::Instant,
        _ => Rank::Call,
    }
}

impl<'a> Run<'a> {
    /// Converts an event.
    pub(crate) fn of(
        event: &'a AgentEvent,
        span: &EventSpan<'a>,
        place: &'a Place,
        operation: Operation,
        project: &'a str,
        resource: &Resource,
    ) -> Self {
        let is_start = matches!(event.event, Event::TaskStarted(_));
        let mut metadata: Map<String, Value> =
            event.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut add = |key: &str, value: Value| {
            if !value.is_null() {
                metadata.insert(key.to_owned(), value);
            }
        };
        add("agent", event.agent.as_str().into());
        add("task", event.task.as_deref().into());
        add("otel_trace_id", span.trace_id.to_string().into());
        add("otel_span_id", span.span_id.to_string().into());
        add("otel_parent_span_id", span.parent_span_id.map(|id| id.to_string()).into());
        if span.is_task {
            resource.attributes.iter().for_each(|(key, value)| add(key, value.as_str().into()));
        }
        let (name, run_type) = describe(event, &mut add);
        let failed = span.outcome == Some(false);
        Self {
            operation,
            place,
            project,
            name,
            run_type,
            start: micros(span.start),
            end: (!is_start).then(|| micros(span.end)),
            outputs: outputs(&event.event),
            events: first_token(&event.event, span.start),
            error: failed.then(|| span.error.unwrap_or("failed")),
            metadata,
        }
    }

    /// Adds the run's parts.
    pub(crate) fn write(self, form: &mut Multipart) -> Result<(), serde_json::Error> {
        let Place { id, trace, parent, dotted_order, .. } = self.place;
        let main = Main {
            id: id.to_string(),
            trace_id: trace.to_string(),
            parent_run_id: parent.map(|id| id.to_string()),
            dotted_order,
            start_time: self.start,
            end_time: self.end,
            session_name: self.project,
            name: &self.name,
            run_type: self.run_type,
        };
        let operation = match self.operation {
            Operation::Post => "post",
            Operation::Patch => "patch",
        };
        form.part(format_args!("{operation}.{id}"), &main)?;
        let runtime = json!({"sdk": "agent-sre", "sdk_version": env!("CARGO_PKG_VERSION"), "library": "agent-sre"});
        let extra = json!({"metadata": self.metadata, "runtime": runtime});
        let error = self.error.map(Value::from);
        for (field, content) in
            [("outputs", self.outputs), ("events", self.events), ("extra", Some(extra)), ("error", error)]
        {
            if let Some(content) = content {
                form.part(format_args!("{operation}.{id}.{field}"), &content)?;
            }
        }
        Ok(())
    }
}

/// Adds the metadata of an event, and returns the run's name and type.
fn describe<'a>(event: &'a AgentEvent, add: &mut impl FnMut(&str, Value)) -> (Cow<'a, str>, &'static str) {
    match &event.event {
        Event::TaskStarted(_) => (event.agent.as_str().into(), "chain"),
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            add("cost_usd", cost_usd.map(|cost| cost.to_string()).into());
            (event.agent.as_str().into(), "chain")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            add("kind", kind.as_str().into());
            (name.as_str().into(), "chain")
        }
        Event::LlmCall(LlmCall { model, provider, attempt, operation_id, .. }) => {
            add("ls_model_name", model.as_deref().into());
            add("ls_provider", provider.as_deref().into());
            add("attempt", (*attempt).into());
            add("operation_id", operation_id.as_deref().into());
            (model.as_deref().unwrap_or("model call").into(), "llm")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, attempt, operation_id, .. }) => {
            add("arguments_hash", arguments_hash.as_deref().into());
            add("correct", (*correct).into());
            add("attempt", (*attempt).into());
            add("operation_id", operation_id.as_deref().into());
            (tool.as_str().into(), "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            add("from", from.as_str().into());
            add("to", to.as_str().into());
            add("depth", (*depth).into());
            (format!("handoff to {to}").into(), "chain")
        }
        Event::Message(Message { sender, .. }) => {
            add("sender", sender.as_str().into());
            ("message".into(), "chain")
        }
        Event::HttpRequest(request) => {
            add("url", request.url_without_secrets().into());
            add("status_code", request.status_code.into());
            ("HTTP request".into(), "tool")
        }
        other => (other.kind().to_string().into(), "chain"),
    }
}

/// Returns tokens and cost of a model call, where LangSmith reads them.
fn outputs(event: &Event) -> Option<Value> {
    let Event::LlmCall(LlmCall { input_tokens, cached_input_tokens, output_tokens, cost_usd, .. }) = event else {
        return None;
    };
    let mut usage = json!({
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens.saturating_add(*output_tokens),
        "input_token_details": {"cache_read": cached_input_tokens},
    });
    if let Some(cost) = cost_usd {
        usage["total_cost"] = cost.as_dollars().into();
    }
    Some(json!({"usage_metadata": usage}))
}

/// Returns the event from which LangSmith computes the time to the first token.
fn first_token(event: &Event, start: Timestamp) -> Option<Value> {
    let Event::LlmCall(LlmCall { first_token_ms: Some(ms), .. }) = event else { return None };
    let after = Duration::try_from_secs_f64(ms / 1e3).ok()?;
    Some(json!([{"name": "new_token", "time": micros(start.saturating_add(after))}]))
}

/// Rounds down to LangSmith's precision.
pub(crate) fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().div_euclid(1_000).saturating_mul(1_000))
}
