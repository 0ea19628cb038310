use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sre_core::event::{Handoff, LlmCall, Message, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, JsonObject, Resource, Timestamp, Usd};

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
    pub(crate) tags: &'a [String],
    pub(crate) start: Timestamp,
    /// `None` while it runs.
    pub(crate) end: Option<Timestamp>,
    pub(crate) inputs: Option<&'a Map<String, Value>>,
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
    /// The state of an objective.
    Fields(JsonObject<'a>),
    /// What a program logs itself.
    Json(&'a Map<String, Value>),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<u64>,
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
    runtime: &'static RawValue,
}

/// The same for every run, so it is converted to JSON once.
static RUNTIME: LazyLock<Box<RawValue>> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    let runtime = format!(r#"{{"sdk":"agent-sre","sdk_version":"{version}","library":"agent-sre"}}"#);
    RawValue::from_string(runtime).expect("JSON")
});

/// Writes the fields of a JSON object.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    /// Adds a text that needs no escapes, such as an id. Most of a run are such texts, and to look for something to escape in
    /// them would take a fifth of the time.
    fn plain(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Adds any value.
    fn json(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), serde_json::Error> {
        self.begin(name);
        serde_json::to_writer(&mut *self.0, value)
    }

    fn begin(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
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
        metadata.put("otel_trace_id", span.trace_id);
        metadata.put("otel_span_id", span.span_id);
        metadata.put("otel_parent_span_id", span.parent_span_id);
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
            tags: &[],
            start: micros(span.start),
            end: (!is_start).then(|| micros(span.end)),
            inputs: None,
            outputs: outputs(&event.event),
            first_token: first_token(&event.event, span.start),
            error: failed.then(|| span.error.unwrap_or("failed")),
            metadata,
        }
    }

    /// Writes the part that is named only by the run's id.
    fn write_main(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let Place { id, trace, parent, .. } = self.place;
        let mut fields = Fields(json);
        fields.plain("id", id.to_text().as_str());
        fields.plain("trace_id", trace.to_text().as_str());
        if let Some(parent) = parent {
            fields.plain("parent_run_id", parent.to_text().as_str());
        }
        fields.plain("dotted_order", &self.place.dotted_order());
        fields.json("start_time", &self.start)?;
        if let Some(end) = &self.end {
            fields.json("end_time", end)?;
        }
        fields.json("session_name", self.project)?;
        fields.json("name", &self.name)?;
        fields.plain("run_type", self.run_type);
        if !self.tags.is_empty() {
            fields.json("tags", self.tags)?;
        }
        json.push(b'}');
        Ok(())
    }

    /// Adds the run's parts.
    pub(crate) fn write(self, form: &mut Multipart) -> Result<(), serde_json::Error> {
        let operation = match self.operation {
            Operation::Post => "post.",
            Operation::Patch => "patch.",
        };
        let id = self.place.id.to_text();
        let id_text = id.as_str();
        form.part_with(&[operation, id_text], |json| self.write_main(json))?;
        if let Some(inputs) = self.inputs {
            form.part(&[operation, id_text, ".inputs"], inputs)?;
        }
        if let Some(outputs) = &self.outputs {
            form.part(&[operation, id_text, ".outputs"], outputs)?;
        }
        if let Some(time) = self.first_token {
            form.part(&[operation, id_text, ".events"], &[NewToken { name: "new_token", time }])?;
        }
        form.part(&[operation, id_text, ".extra"], &Extra { metadata: &self.metadata, runtime: &RUNTIME })?;
        if let Some(error) = self.error {
            form.part(&[operation, id_text, ".error"], &error)?;
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
        input_token_details: InputTokens { cache_read: call.cached_input_tokens, cache_creation: call.cache_write() },
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
