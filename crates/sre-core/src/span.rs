use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::RecordedSpan;
use crate::{AgentEvent, Event, EventSpan, SpanId, Timestamp, TraceId, Usd};

/// A finished span of a trace, wherever it was recorded: in an OpenTelemetry export, as an agent event, or by a tracer.
///
/// It has no contents of messages, and no arguments and answers of models and tools.
///
/// ```
/// use sre_core::{AgentEvent, Span};
/// let line = br#"{"event":"llm_call","time":12.5,"agent":"a","task":"t","model":"m","duration_ms":500,"output_tokens":7}"#;
/// let span = Span::of(&AgentEvent::from_json(line)?).unwrap();
/// assert_eq!((&*span.name, span.duration().as_millis(), span.output_tokens), ("chat m", 500, 7));
/// # Ok::<(), sre_core::InvalidEvent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Span {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The span that caused it; `None` for the root of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// The name, such as `chat gpt-4o` or `tools/call search`.
    pub name: String,
    /// Its role in a call between processes.
    #[serde(default)]
    pub role: SpanRole,
    /// The agent, if the source names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub agent: Option<Arc<str>>,
    /// The service that recorded it, if the source names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub service: Option<Arc<str>>,
    /// The task it belongs to, if the source names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub task: Option<Arc<str>>,
    /// The id that both sides of a call know, such as that of an A2A message. It pairs them where the trace context was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The id of the request within its connection, such as that of JSON-RPC. Other connections have the same ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Start time.
    pub start: Timestamp,
    /// End time.
    pub end: Timestamp,
    /// Why it failed; `None` if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of the attempt within its operation, from 1, if the source reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Input tokens, as the span reports them: a wrapper may repeat those of the model calls below.
    #[serde(default)]
    pub input_tokens: u64,
    /// Output tokens, as the span reports them.
    #[serde(default)]
    pub output_tokens: u64,
    /// The cost, if the span reports one: of the call itself and everything below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
}

/// The role of a span in a call between processes: OpenTelemetry's span kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "schema",
    schema(description = "The role of a span in a call between processes: OpenTelemetry's span kind.")
)]
#[non_exhaustive]
pub enum SpanRole {
    /// Work inside a process.
    #[default]
    Internal,
    /// A request to another process, which is waited for.
    Client,
    /// The handling of such a request.
    Server,
    /// A message to another process, which is not waited for.
    Producer,
    /// The handling of such a message.
    Consumer,
}

impl SpanRole {
    /// Returns the name, as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Client => "client",
            Self::Server => "server",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

impl Span {
    /// Creates a root span of no duration.
    pub fn new(trace_id: TraceId, span_id: SpanId, name: impl Into<String>, start: Timestamp) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            name: name.into(),
            role: SpanRole::Internal,
            agent: None,
            service: None,
            task: None,
            call_id: None,
            request_id: None,
            start,
            end: start,
            error: None,
            attempt: None,
            input_tokens: 0,
            output_tokens: 0,
            cost_usd: None,
        }
    }

    /// Returns the span of an event as it was [recorded](RecordedSpan), or else as the event describes it; `None` for starts of tasks
    /// (the end has the whole span), heartbeats and unknown events. Missing ids are derived.
    pub fn of(event: &AgentEvent) -> Option<Self> {
        let place = match &event.event {
            Event::SpanFinished(span) => EventSpan::new(event, false, span.error.as_deref()),
            _ => EventSpan::of(event)?,
        };
        let EventSpan { trace_id, span_id, parent_span_id, start, end, outcome, error, .. } = place;
        let error = error.map(str::to_owned).or_else(|| (outcome == Some(false)).then(|| "failed".to_owned()));
        let task = event.task.as_deref().map(Into::into);
        let mut span = match event.span.as_deref() {
            Some(recorded) => Self {
                task: recorded.task.as_deref().map(Into::into).or(task),
                ..Self::recorded(trace_id, span_id, recorded, recorded.start.unwrap_or(start))
            },
            None => Self {
                parent_span_id,
                agent: Some((*event.agent).into()),
                task,
                ..Self::new(trace_id, span_id, name_of(event), start)
            },
        };
        (span.end, span.error) = (end, error);
        span.set_usage(&event.event);
        if let Some(RecordedSpan { failed, attempt, .. }) = event.span.as_deref() {
            span.error = failed.then(|| span.error.unwrap_or_else(|| "failed".to_owned()));
            span.attempt = *attempt;
        }
        Some(span)
    }

    /// Creates a span of no duration from what its source recorded.
    pub fn recorded(trace_id: TraceId, span_id: SpanId, recorded: &RecordedSpan, start: Timestamp) -> Self {
        let RecordedSpan { name, role, parent_span_id, agent, service, task, call_id, request_id, .. } = recorded;
        let [agent, service, task] = [agent, service, task].map(|text| text.as_deref().map(Into::into));
        let (call_id, request_id) = (call_id.clone(), request_id.clone());
        let span = Self::new(trace_id, span_id, name, start);
        Self { parent_span_id: *parent_span_id, role: *role, agent, service, task, call_id, request_id, ..span }
    }

    /// Sets attempt, tokens and cost to those of the event that was made from the span.
    pub fn set_usage(&mut self, event: &Event) {
        self.cost_usd = event.cost_usd();
        match event {
            Event::LlmCall(call) => {
                (self.input_tokens, self.output_tokens) = (call.input_tokens, call.output_tokens);
                self.attempt = call.attempt;
            }
            Event::ToolCall(call) => self.attempt = call.attempt,
            _ => {}
        }
    }

    /// Returns the agent, or else the service, that recorded it.
    pub fn recorded_by(&self) -> Option<&Arc<str>> {
        self.agent.as_ref().or(self.service.as_ref())
    }

    /// Returns the time from start to end; zero if the clock was set back in between.
    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// Returns the approximate memory that the span takes, in bytes.
    pub fn size(&self) -> usize {
        let shared = [&self.agent, &self.service, &self.task].into_iter().flatten().map(|text| text.len());
        let own = [&self.call_id, &self.request_id, &self.error].into_iter().flatten().map(String::len);
        size_of::<Self>() + self.name.len() + shared.chain(own).sum::<usize>()
    }
}

/// Returns the name of an event's span, as the GenAI conventions form it.
fn name_of(event: &AgentEvent) -> String {
    let named = |operation: &str, name: &str| match name {
        "" => operation.to_owned(),
        name => format!("{operation} {name}"),
    };
    match &event.event {
        Event::TaskStarted(_) | Event::TaskFinished(_) => named("invoke_agent", &event.agent),
        Event::StepFinished(step) => step.name.clone(),
        Event::LlmCall(call) => named("chat", call.model.as_deref().unwrap_or_default()),
        Event::ToolCall(call) => named("execute_tool", &call.tool),
        Event::Handoff(handoff) => named("handoff", &handoff.to),
        Event::Message(message) => named("message", &message.sender),
        Event::PolicyCheck(check) => named("policy_check", &check.policy),
        Event::Evaluation(evaluation) => named("evaluation", &evaluation.metric),
        Event::HttpRequest(request) => named("HTTP", request.url_without_secrets()),
        Event::Heartbeat(_) => "heartbeat".to_owned(),
        Event::SpanFinished(_) => "span".to_owned(),
        Event::Unknown(event) => event.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(json: &str) -> Option<Span> {
        let json = format!(r#"{{"time":100,"agent":"a","task":"t",{json}}}"#);
        Span::of(&AgentEvent::from_json(json.as_bytes()).unwrap())
    }

    #[test]
    fn the_spans_of_events_have_their_names_errors_and_usage() {
        let task = span(r#""event":"task_finished","success":false,"duration_ms":2000,"cost_usd":"0.5""#).unwrap();
        assert_eq!(
            (&*task.name, task.error.as_deref(), task.duration().as_secs()),
            ("invoke_agent a", Some("failed"), 2)
        );
        assert_eq!((task.cost_usd.unwrap().to_string(), task.agent.as_deref()), ("0.5".into(), Some("a")));
        let call = span(r#""event":"llm_call","input_tokens":3,"attempt":2,"error":"timed out""#).unwrap();
        assert_eq!(
            (&*call.name, call.input_tokens, call.attempt, call.error.as_deref()),
            ("chat", 3, Some(2), Some("timed out"))
        );
        assert_eq!(call.parent_span_id, Some(task.span_id));
        assert_eq!(span(r#""event":"tool_call","tool":"search""#).unwrap().name, "execute_tool search");
        assert_eq!(
            span(r#""event":"evaluation","metric":"toxicity","score":0.9"#).unwrap().error.as_deref(),
            Some("failed")
        );
        assert_eq!(span(r#""event":"heartbeat""#), None);
    }

    #[test]
    fn a_span_round_trips_as_json_without_what_it_lacks() {
        let span = span(r#""event":"step_finished","name":"plan","duration_ms":1"#).unwrap();
        let json = serde_json::to_string(&span).unwrap();
        assert!(!json.contains("null") && json.contains(r#""role":"internal""#), "{json}");
        assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
    }
}
