//! The agent events of protocol spans. They are those that the adapter of OpenTelemetry makes of the same spans, where it reads the spans of
//! one process.

use sre_core::event::{Handoff, HttpRequest, SpanFinished, StepFinished, TaskFinished, TaskStarted, ToolCall};
use sre_core::{AgentEvent, Event, SpanRole, Timestamp};

use crate::attributes::AttributeValue;
use crate::record::{ProtocolType, SpanRecord};
use crate::{a2a, mcp};

/// Returns whether a span is a task of its agent: one of its own, or a message that it received. A request of the Model Context Protocol
/// never is.
pub(crate) fn starts_task(record: &SpanRecord) -> bool {
    match record.protocol {
        ProtocolType::Internal => true,
        ProtocolType::A2a => record.span.role == SpanRole::Server && a2a::is_message(record),
        _ => false,
    }
}

/// Returns the event of the start of a span, if it is a task.
pub(crate) fn started(record: &SpanRecord) -> Option<AgentEvent> {
    let name = record.attribute("sre.task.name").map(str::to_owned);
    starts_task(record).then(|| event(record, record.span.start, TaskStarted::new(name)))
}

/// Emits the events of a span that has ended.
pub(crate) fn ended(
    record: &SpanRecord,
    arguments_hash: Option<&str>,
    is_remote: bool,
    emit: &mut dyn FnMut(AgentEvent),
) {
    let span = &record.span;
    let (duration_ms, error) = (Some(span.end.millis_since(span.start)), span.error.clone());
    let is_client = span.role == SpanRole::Client;
    let payload: Event = match record.protocol {
        _ if starts_task(record) => {
            let mut task = TaskFinished::new(true).with_error(error);
            (task.duration_ms, task.cost_usd) = (duration_ms, span.cost_usd);
            task.into()
        }
        ProtocolType::A2a if is_client => {
            let agent = record.peer().unwrap_or_default();
            if a2a::is_message(record) {
                let from = span.agent.as_deref().unwrap_or_default();
                emit(with_span(record, event(record, span.start, Handoff::new(from, agent))));
            }
            let mut step = StepFinished::new(agent, "a2a").with_error(error);
            step.duration_ms = duration_ms;
            step.into()
        }
        // The client reports it, if the server knows of one.
        ProtocolType::Mcp if mcp::is_tool_call(record) && (is_client || !is_remote) => {
            let mut call = ToolCall::new(record.mcp_tool_name().unwrap_or_default()).with_error(error);
            (call.duration_ms, call.arguments_hash) = (duration_ms, arguments_hash.map(str::to_owned));
            call.into()
        }
        ProtocolType::Http if is_client => {
            let mut request = HttpRequest::new(record.peer_url.as_deref().unwrap_or_default());
            let status = record.attributes.get("http.response.status_code");
            request.status_code = match status {
                Some(AttributeValue::Number(status)) => u16::try_from(status).ok(),
                _ => None,
            };
            request.error = error;
            request.into()
        }
        _ => SpanFinished::new(span.end.millis_since(span.start), error).into(),
    };
    emit(with_span(record, event(record, span.end, payload)));
}

fn with_span(record: &SpanRecord, mut event: AgentEvent) -> AgentEvent {
    event.span = Some(Box::new((&record.span).into()));
    event
}

fn event(record: &SpanRecord, time: Timestamp, payload: impl Into<Event>) -> AgentEvent {
    let span = &record.span;
    let mut event = AgentEvent::new(time, span.agent.as_deref().unwrap_or_default(), payload);
    event.task = span.task.as_deref().map(str::to_owned);
    (event.trace_id, event.span_id, event.parent_span_id) =
        (Some(span.trace_id), Some(span.span_id), span.parent_span_id);
    event
}
