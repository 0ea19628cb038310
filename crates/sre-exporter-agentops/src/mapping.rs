use sre_core::event::{Evaluation, Handoff, LlmCall, Message, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan};
use sre_otlp::{Attributes, Name, SpanKind, SpanWriter};

/// Begins the keys of what AgentOps' conventions do not name.
const METADATA: &str = "trace.metadata.";

/// Writes the span of an event.
pub(crate) fn write_span(event: &AgentEvent, place: &EventSpan<'_>, tags: &[String], span: &mut SpanWriter<'_>) {
    let mut attributes = span.attributes();
    let (operation, kind) = describe(event, tags, &mut attributes);
    attributes.text("agentops.span.kind", kind);
    attributes.texts("operation.name", &operation);
    attributes.text("agent.name", event.agent.as_str());
    if place.outcome == Some(false) {
        attributes.text("error.type", "_OTHER");
        attributes.text("error.message", place.error);
    }
    let mut metadata = attributes.prefixed(METADATA);
    event.attributes.iter().for_each(|(key, value)| metadata.json(key, value));
    span.name(&[operation[0], operation[1], ".", kind]);
    span.kind(SpanKind::Internal);
    span.event_span(place);
}

/// Adds the attributes of an event, and returns the operation's name and kind.
fn describe<'a>(event: &'a AgentEvent, tags: &[String], attributes: &mut Attributes<'_>) -> (Name<'a>, &'static str) {
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
            attributes.prefixed(METADATA).text("task", event.task.as_deref());
            // AgentOps adds up the costs of a trace's spans.
            attributes.prefixed(METADATA).text("cost_usd", cost_usd.map(|cost| cost.to_string()).as_deref());
            ([&event.agent, ""], "session")
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            attributes.prefixed(METADATA).text("step.kind", kind.as_str());
            ([name, ""], if kind == "agent_task" { "task" } else { "operation" })
        }
        Event::LlmCall(call) => {
            describe_call(call, attributes);
            ([call.model.as_deref().unwrap_or("model call"), ""], "llm")
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, success, correct, .. }) => {
            attributes.text("tool.name", tool.as_str());
            attributes.text("tool.status", if *success { "succeeded" } else { "failed" });
            attributes.prefixed(METADATA).text("tool.arguments_hash", arguments_hash.as_deref());
            attributes.prefixed(METADATA).bool("tool.correct", *correct);
            ([tool, ""], "tool")
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            attributes.text("from_agent", from.as_str());
            attributes.text("to_agent", to.as_str());
            attributes.prefixed(METADATA).int("handoff.depth", u64::from(*depth));
            (["handoff to ", to], "agent")
        }
        Event::Message(Message { sender, .. }) => {
            attributes.prefixed(METADATA).text("sender", sender.as_str());
            (["message", ""], "text")
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            attributes.prefixed(METADATA).bool("compliant", *compliant);
            ([policy, ""], "guardrail")
        }
        Event::Evaluation(Evaluation { metric, score, confidence, .. }) => {
            attributes.prefixed(METADATA).double("score", *score);
            attributes.prefixed(METADATA).bool("passed", event.event.outcome());
            attributes.prefixed(METADATA).double("confidence", *confidence);
            ([metric, ""], "operation")
        }
        Event::HttpRequest(request) => {
            attributes.text("http.url", request.url_without_secrets());
            attributes.int("http.status_code", request.status_code.map(u64::from));
            (["request", ""], "http")
        }
        other => ([other.kind().as_str(), ""], "unknown"),
    }
}

fn describe_call(call: &LlmCall, attributes: &mut Attributes<'_>) {
    attributes.text("gen_ai.system", call.provider.as_deref());
    attributes.text("gen_ai.request.model", call.model.as_deref());
    attributes.text("gen_ai.response.model", call.model.as_deref());
    // AgentOps adds up prompt tokens and those from the cache.
    let prompt_tokens = call.input_tokens.saturating_sub(call.cached_input_tokens);
    attributes.int("gen_ai.usage.prompt_tokens", prompt_tokens);
    attributes.int("gen_ai.usage.cache_read_input_tokens", call.cached_input_tokens);
    attributes.int("gen_ai.usage.cache_creation_input_tokens", call.cache_write());
    attributes.int("gen_ai.usage.completion_tokens", call.output_tokens);
    attributes.int("gen_ai.usage.total_tokens", call.input_tokens.saturating_add(call.output_tokens));
    attributes.text("gen_ai.usage.total_cost", call.cost_usd.map(|cost| cost.to_string()).as_deref());
    attributes.double("gen_ai.streaming.time_to_first_token", call.first_token_ms.map(|ms| ms / 1e3));
}
