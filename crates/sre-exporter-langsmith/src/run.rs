use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, Resource, Timestamp, Usd};

use crate::multipart::Multipart;
use crate::run_id::RunId;
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
    pub(crate) outputs: Option<Outputs<'a>>,
    pub(crate) first_token: Option<Timestamp>,
    pub(crate) error: Option<&'a str>,
    pub(crate) metadata: JsonObject<'a>,
}

/// What a run resulted in.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Outputs<'a> {
    /// Tokens and cost of a model call, where LangSmith reads them.
    Usage {
        /// The numbers.
        usage_metadata: Usage,
    },
    /// Anything else.
    Fields(JsonObject<'a>),
}

#[derive(Serialize)]
pub(crate) struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
    input_token_details: InputTokens,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_cost: Option<f64>,
}

#[derive(Serialize)]
struct InputTokens {
    cache_read: u64,
}

/// From this event LangSmith computes the time to the first token.
#[derive(Serialize)]
struct NewToken {
    name: &'static str,
    time: Timestamp,
}

#[derive(Serialize)]
struct Extra<'a> {
    metadata: &'a JsonObject<'a>,
    runtime: Runtime,
}

#[derive(Serialize)]
struct Runtime {
    sdk: &'static str,
    sdk_version: &'static str,
    library: &'static str,
}

const RUNTIME: Runtime = Runtime { sdk: "agent-sre", sdk_version: env!("CARGO_PKG_VERSION"), library: "agent-sre" };

/// The part of a run that is named only by its id.
#[derive(Serialize)]
struct Main<'a> {
    id: RunId,
    trace_id: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_run_id: Option<RunId>,
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
        resource: &'a Resource,
    ) -> Self {
        let is_start = matches!(event.event, Event::TaskStarted(_));
        let mut metadata = JsonObject::with_attributes(&event.attributes);
        metadata.put("agent", &event.agent);
        metadata.put("task", event.task.as_deref());
        metadata.put("otel_trace_id", span.trace_id.to_string());
        metadata.put("otel_span_id", span.span_id.to_string());
        metadata.put("otel_parent_span_id", span.parent_span_id.map(|id| id.to_string()));
        if span.is_task {
            resource.attributes.iter().for_each(|(key, value)| metadata.put(key, value));
        }
        let (name, run_type) = describe(event, &mut metadata);
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
            first_token: first_token(&event.event, span.start),
            error: failed.then(|| span.error.unwrap_or("failed")),
            metadata,
        }
    }

    /// Adds the run's parts.
    pub(crate) fn write(self, form: &mut Multipart) -> Result<(), serde_json::Error> {
        let Place { id, trace, parent, dotted_order, .. } = self.place;
        let main = Main {
            id: *id,
            trace_id: *trace,
            parent_run_id: *parent,
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
        if let Some(outputs) = &self.outputs {
            form.part(format_args!("{operation}.{id}.outputs"), outputs)?;
        }
        if let Some(time) = self.first_token {
            form.part(format_args!("{operation}.{id}.events"), &[NewToken { name: "new_token", time }])?;
        }
        form.part(format_args!("{operation}.{id}.extra"), &Extra { metadata: &self.metadata, runtime: RUNTIME })?;
        if let Some(error) = self.error {
            form.part(format_args!("{operation}.{id}.error"), &error)?;
        }
        Ok(())
    }
}

/// Adds the metadata of an event, and returns the run's name and type.
fn describe<'a>(event: &'a AgentEvent, metadata: &mut JsonObject<'a>) -> (Cow<'a, str>, &'static str) {
    match &event.event {
        Event::TaskStarted(_) => (event.agent.as_str().into(), "chain"),
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            metadata.put("cost_usd", *cost_usd);
            (event.agent.as_str().into(), "chain")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            metadata.put("kind", kind.as_str());
            (name.as_str().into(), "chain")
        }
        Event::LlmCall(LlmCall { model, provider, attempt, operation_id, .. }) => {
            metadata.put("ls_model_name", model.as_deref());
            metadata.put("ls_provider", provider.as_deref());
            metadata.put("attempt", *attempt);
            metadata.put("operation_id", operation_id.as_deref());
            (model.as_deref().unwrap_or("model call").into(), "llm")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, attempt, operation_id, .. }) => {
            metadata.put("arguments_hash", arguments_hash.as_deref());
            metadata.put("correct", *correct);
            metadata.put("attempt", *attempt);
            metadata.put("operation_id", operation_id.as_deref());
            (tool.as_str().into(), "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            metadata.put("from", from.as_str());
            metadata.put("to", to.as_str());
            metadata.put("depth", *depth);
            (format!("handoff to {to}").into(), "chain")
        }
        Event::Message(Message { sender, .. }) => {
            metadata.put("sender", sender.as_str());
            ("message".into(), "chain")
        }
        Event::HttpRequest(request) => {
            metadata.put("url", request.url_without_secrets());
            metadata.put("status_code", request.status_code);
            ("HTTP request".into(), "tool")
        }
        other => (other.kind().to_string().into(), "chain"),
    }
}

fn outputs(event: &Event) -> Option<Outputs<'_>> {
    let Event::LlmCall(call) = event else { return None };
    let usage_metadata = Usage {
        input_tokens: call.input_tokens,
        output_tokens: call.output_tokens,
        total_tokens: call.input_tokens.saturating_add(call.output_tokens),
        input_token_details: InputTokens { cache_read: call.cached_input_tokens },
        total_cost: call.cost_usd.map(Usd::as_dollars),
    };
    Some(Outputs::Usage { usage_metadata })
}

/// Returns the time of a model call's first token.
fn first_token(event: &Event, start: Timestamp) -> Option<Timestamp> {
    let Event::LlmCall(LlmCall { first_token_ms: Some(ms), .. }) = event else { return None };
    let after = Duration::try_from_secs_f64(ms / 1e3).ok()?;
    Some(micros(start.saturating_add(after)))
}

/// Rounds down to LangSmith's precision.
pub(crate) fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().div_euclid(1_000).saturating_mul(1_000))
}
