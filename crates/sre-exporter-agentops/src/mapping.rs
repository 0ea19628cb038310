use sre_core::event::{Evaluation, Handoff, LlmCall, Message, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan};
use sre_otlp::{Attributes, Span, SpanKind};

/// Converts an event to a span; `None` for events that are not spans.
pub(crate) fn map(event: &AgentEvent, tags: &[String]) -> Option<Span> {
    let place = EventSpan::of(event)?;
    let mut attributes = Attributes::default();
    let (operation, kind) = describe(event, tags, &mut attributes);
    attributes.text("agentops.span.kind", kind);
    attributes.text("operation.name", operation.as_str());
    attributes.text("agent.name", event.agent.as_str());
    if place.outcome == Some(false) {
        attributes.text("error.type", "_OTHER");
        attributes.text("error.message", place.error);
    }
    event.attributes.iter().for_each(|(key, value)| attributes.json(&format!("trace.metadata.{key}"), value));
    Some(sre_otlp::span(&place, format!("{operation}.{kind}"), SpanKind::Internal, attributes))
}

/// Adds the attributes of an event, and returns the operation's name and kind.
fn describe(event: &AgentEvent, tags: &[String], attributes: &mut Attributes) -> (String, &'static str) {
    match &event.event {
        Event::TaskFinished(TaskFinished { success, cost_usd, .. }) => {
            let end_state = match success {
                _ if event.is_incomplete() => "Indeterminate",
                true => "Success",
                false => "Fail",
            };
            attributes.text("agentops.session.end_state", end_state);
            if !tags.is_empty() {
                attributes.json("agentops.tags", &tags.into());
            }
            attributes.text("trace.metadata.task", event.task.as_deref());
            // AgentOps adds up the costs of a trace's spans.
            attributes.text("trace.metadata.cost_usd", cost_usd.map(|cost| cost.to_string()).as_deref());
            (event.agent.clone(), "session")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            attributes.text("trace.metadata.step.kind", kind.as_str());
            (name.clone(), if kind == "agent_task" { "task" } else { "operation" })
        }
        Event::LlmCall(call) => {
            describe_call(call, attributes);
            (call.model.clone().unwrap_or_else(|| "model call".to_owned()), "llm")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, success, correct, .. }) => {
            attributes.text("tool.name", tool.as_str());
            attributes.text("tool.status", if *success { "succeeded" } else { "failed" });
            attributes.text("trace.metadata.tool.arguments_hash", arguments_hash.as_deref());
            attributes.bool("trace.metadata.tool.correct", *correct);
            (tool.clone(), "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            attributes.text("from_agent", from.as_str());
            attributes.text("to_agent", to.as_str());
            attributes.int("trace.metadata.handoff.depth", u64::from(*depth));
            (format!("handoff to {to}"), "agent")
        }
        Event::Message(Message { sender, .. }) => {
            attributes.text("trace.metadata.sender", sender.as_str());
            ("message".to_owned(), "text")
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            attributes.bool("trace.metadata.compliant", *compliant);
            (policy.clone(), "guardrail")
        }
        Event::Evaluation(Evaluation { metric, score, confidence, .. }) => {
            attributes.double("trace.metadata.score", *score);
            attributes.bool("trace.metadata.passed", event.event.outcome());
            attributes.double("trace.metadata.confidence", *confidence);
            (metric.clone(), "operation")
        }
        Event::HttpRequest(request) => {
            attributes.text("http.url", request.url_without_secrets());
            attributes.int("http.status_code", request.status_code.map(u64::from));
            ("request".to_owned(), "http")
        }
        other => (other.kind().to_string(), "unknown"),
    }
}

fn describe_call(call: &LlmCall, attributes: &mut Attributes) {
    attributes.text("gen_ai.system", call.provider.as_deref());
    attributes.text("gen_ai.request.model", call.model.as_deref());
    attributes.text("gen_ai.response.model", call.model.as_deref());
    // AgentOps adds up prompt tokens and those from the cache.
    let prompt_tokens = call.input_tokens.saturating_sub(call.cached_input_tokens);
    attributes.int("gen_ai.usage.prompt_tokens", prompt_tokens);
    attributes.int("gen_ai.usage.cache_read_input_tokens", call.cached_input_tokens);
    attributes.int("gen_ai.usage.completion_tokens", call.output_tokens);
    attributes.int("gen_ai.usage.total_tokens", call.input_tokens.saturating_add(call.output_tokens));
    attributes.text("gen_ai.usage.total_cost", call.cost_usd.map(|cost| cost.to_string()).as_deref());
    attributes.double("gen_ai.streaming.time_to_first_token", call.first_token_ms.map(|ms| ms / 1e3));
}
