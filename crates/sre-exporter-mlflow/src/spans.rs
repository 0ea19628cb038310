use sre_core::event::{Handoff, LlmCall, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, Usd};
use sre_otlp::{Attributes, Name, SpanWriter, gen_ai};

use crate::names::value;

/// Writes the span of an event: the attributes of OpenTelemetry's conventions for generative AI, and MLflow's own where it
/// reads no others.
///
/// A task is the root of its trace: MLflow takes the state and the name of a trace from the span that has no parent, and
/// a trace whose root never arrives stays in progress.
///
/// Source: `mlflow/tracing/constant.py`, `mlflow/tracing/otel/translation/`.
pub(crate) fn write_span(event: &AgentEvent, place: &EventSpan<'_>, span: &mut SpanWriter<'_>) {
    let mut place = place.clone();
    let mut attributes = span.attributes();
    let (described, kind) = gen_ai(event, &place, &mut attributes);
    let (name, span_type) = name_and_type(event, described);
    attributes.text("mlflow.spanType", span_type);
    match &event.event {
        Event::TaskFinished(task) => {
            let caller = place.parent_span_id.take().map(|id| id.to_string());
            attributes.text("sre.caller_span_id", caller.as_deref());
            describe_task(event, task, &mut attributes);
        }
        Event::LlmCall(call) => describe_call(call, &mut attributes),
        // The verdict is that of an assessment.
        Event::Evaluation(_) | Event::PolicyCheck(_) => place.outcome = None,
        _ => {}
    }
    span.name(&name);
    span.kind(kind);
    span.event_span(&place);
    span.ok(&place);
    span.exception(&place);
}

/// Returns the name of a span as MLflow's own instrumentation gives it, and its type.
fn name_and_type<'a>(event: &'a AgentEvent, described: Name<'a>) -> (Name<'a>, &'static str) {
    match &event.event {
        Event::TaskFinished(_) => ([&event.agent, ""], "AGENT"),
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            ([name, ""], if kind == "agent_task" { "AGENT" } else { "CHAIN" })
        }
        Event::LlmCall(LlmCall { model, .. }) => {
            (model.as_deref().map_or(described, |model| [model, ""]), "CHAT_MODEL")
        }
        Event::ToolCall(ToolCall { tool, .. }) => ([tool, ""], "TOOL"),
        Event::Handoff(Handoff { to, .. }) => (["handoff to ", to], "CHAIN"),
        Event::Evaluation(_) => (described, "EVALUATOR"),
        Event::PolicyCheck(_) => (described, "GUARDRAIL"),
        _ => (described, "UNKNOWN"),
    }
}

fn describe_task(event: &AgentEvent, task: &TaskFinished, attributes: &mut Attributes<'_>) {
    // The columns "Request" and "Response" of the list of traces.
    attributes.map("mlflow.spanInputs", |request| request.text("task", &*event.task_key()));
    attributes.map("mlflow.spanOutputs", |response| {
        response.bool("success", task.success);
        response.text("error", task.error.as_deref());
    });
    let agent = value(&event.agent);
    attributes.text("mlflow.traceTag.mlflow.traceName", agent.as_str());
    attributes.text("mlflow.traceTag.sre.agent", agent.as_str());
    attributes.text("mlflow.traceTag.sre.task", event.task.as_deref());
}

fn describe_call(call: &LlmCall, attributes: &mut Attributes<'_>) {
    attributes.text("mlflow.llm.model", call.model.as_deref());
    attributes.text("mlflow.llm.provider", call.provider.as_deref());
    // MLflow derives this from the conventional attributes only if no number is 0.
    attributes.map("mlflow.chat.tokenUsage", |usage| {
        usage.int("input_tokens", call.input_tokens);
        usage.int("output_tokens", call.output_tokens);
        usage.int("total_tokens", call.input_tokens.saturating_add(call.output_tokens));
        usage.int("cache_read_input_tokens", Some(call.cached_input_tokens).filter(|tokens| *tokens > 0));
        usage.int("cache_creation_input_tokens", call.cache_write());
    });
    if let Some(cost) = call.cost_usd.map(Usd::as_dollars) {
        attributes.map("mlflow.llm.cost", |costs| costs.double("total_cost", cost));
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
    use prost::Message;
    use sre_otlp::Spans;

    use super::*;

    #[test]
    fn a_task_is_the_root_of_its_trace_even_if_another_system_called_it() {
        let line = br#"{"event":"task_finished","time":12,"agent":"a","task":"t","success":true,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","parent_span_id":"00f067aa0ba902b7"}"#;
        let event = AgentEvent::from_json(line).unwrap();
        let mut spans = Spans::default();
        spans.add(|span| write_span(&event, &EventSpan::of(&event).unwrap(), span));
        let span = ScopeSpans::decode(spans.as_bytes()).unwrap().spans.remove(0);
        assert!(span.parent_span_id.is_empty());
        let caller = span.attributes.iter().find(|attribute| attribute.key == "sre.caller_span_id").unwrap();
        assert!(format!("{caller:?}").contains("00f067aa0ba902b7"));
    }
}
