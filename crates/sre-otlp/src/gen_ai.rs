use sre_core::event::{Evaluation, Handoff, LlmCall, Message, PolicyCheck, StepFinished, TaskFinished, ToolCall};
use sre_core::{AgentEvent, Event, EventSpan, Usd};

use crate::{Attributes, SpanKind};

/// A span's name in two parts.
pub type Name<'a> = [&'a str; 2];

/// Adds the attributes of an event, and returns the span's name and kind.
///
/// Source: OpenTelemetry's semantic conventions for generative AI, version 0.1.0 of their own repository (autumn 2026,
/// <https://github.com/open-telemetry/semantic-conventions-genai>). The one attribute of a span here that it renamed is also
/// written by its name of 1.41, `gen_ai.usage.cache_creation.input_tokens`, which more backends read. What the conventions do
/// not name begins with `sre.`, except for `gen_ai.usage.cost`.
pub fn gen_ai<'a>(
    event: &'a AgentEvent,
    place: &EventSpan<'_>,
    attributes: &mut Attributes<'_>,
) -> (Name<'a>, SpanKind) {
    attributes.text("gen_ai.agent.name", event.agent.as_str());
    attributes.text("sre.task", event.task.as_deref());
    let described = describe(event, attributes);
    event.attributes.iter().for_each(|(key, value)| attributes.json(key, value));
    if place.outcome == Some(false) {
        // The conventional value for an error of unknown type.
        attributes.text("error.type", "_OTHER");
    }
    described
}

fn describe<'a>(event: &'a AgentEvent, attributes: &mut Attributes<'_>) -> (Name<'a>, SpanKind) {
    match &event.event {
        Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
            attributes.text("gen_ai.operation.name", "invoke_agent");
            attributes.double("gen_ai.usage.cost", cost_usd.map(Usd::as_dollars));
            (["invoke_agent ", &event.agent], SpanKind::Internal)
        }
        Event::StepFinished(StepFinished { name, kind, .. }) => {
            attributes.text("sre.step.kind", kind.as_str());
            ([name, ""], SpanKind::Internal)
        }
        Event::LlmCall(call) => {
            let LlmCall { model, provider, input_tokens, cached_input_tokens, output_tokens, .. } = call;
            let LlmCall { cost_usd, first_token_ms, attempt, .. } = call;
            attributes.text("gen_ai.operation.name", "chat");
            attributes.int("sre.attempt", attempt.map(u64::from));
            attributes.text("gen_ai.request.model", model.as_deref());
            attributes.text("gen_ai.response.model", model.as_deref());
            attributes.text("gen_ai.provider.name", provider.as_deref());
            attributes.int("gen_ai.usage.input_tokens", *input_tokens);
            attributes.int("gen_ai.usage.cache_read.input_tokens", *cached_input_tokens);
            attributes.int("gen_ai.usage.cache_write.input_tokens", call.cache_write());
            attributes.int("gen_ai.usage.cache_creation.input_tokens", call.cache_write());
            attributes.int("gen_ai.usage.output_tokens", *output_tokens);
            attributes.double("gen_ai.usage.cost", cost_usd.map(Usd::as_dollars));
            attributes.double("gen_ai.response.time_to_first_chunk", first_token_ms.map(|ms| ms / 1e3));
            (model.as_deref().map_or(["chat", ""], |model| ["chat ", model]), SpanKind::Client)
        }
        Event::ToolCall(ToolCall { tool, arguments_hash, correct, .. }) => {
            attributes.text("gen_ai.operation.name", "execute_tool");
            attributes.text("gen_ai.tool.name", tool.as_str());
            attributes.text("sre.tool.arguments_hash", arguments_hash.as_deref());
            attributes.bool("sre.tool.correct", *correct);
            (["execute_tool ", tool], SpanKind::Internal)
        }
        Event::Handoff(Handoff { from, to, depth, .. }) => {
            attributes.text("sre.handoff.from", from.as_str());
            attributes.text("sre.handoff.to", to.as_str());
            attributes.int("sre.handoff.depth", u64::from(*depth));
            (["handoff ", to], SpanKind::Internal)
        }
        Event::Message(Message { sender, .. }) => {
            attributes.text("sre.message.sender", sender.as_str());
            (["message", ""], SpanKind::Internal)
        }
        Event::PolicyCheck(PolicyCheck { policy, compliant, .. }) => {
            attributes.text("sre.policy.name", policy.as_str());
            attributes.bool("sre.policy.compliant", *compliant);
            (["policy_check ", policy], SpanKind::Internal)
        }
        Event::Evaluation(Evaluation { metric, score, confidence, .. }) => {
            attributes.text("gen_ai.evaluation.name", metric.as_str());
            attributes.double("gen_ai.evaluation.score.value", *score);
            let label = event.event.outcome().map(|passed| if passed { "pass" } else { "fail" });
            attributes.text("gen_ai.evaluation.score.label", label);
            attributes.double("sre.evaluation.confidence", *confidence);
            (["evaluation ", metric], SpanKind::Internal)
        }
        Event::HttpRequest(request) => {
            attributes.text("url.full", request.url_without_secrets());
            attributes.int("http.response.status_code", request.status_code.map(u64::from));
            (["HTTP", ""], SpanKind::Client)
        }
        other => ([other.kind().as_str(), ""], SpanKind::Internal),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;
    use sre_core::Resource;

    use super::*;
    use crate::{OtlpRequest, Spans};

    #[test]
    fn a_renamed_attribute_has_its_old_name_too() {
        let line =
            br#"{"event":"llm_call","time":12.5,"agent":"a","task":"t","input_tokens":9,"cache_write_input_tokens":7}"#;
        let event = AgentEvent::from_json(line).unwrap();
        let place = EventSpan::of(&event).unwrap();
        let mut spans = Spans::default();
        spans.add(|span| {
            let (name, kind) = gen_ai(&event, &place, &mut span.attributes());
            span.name(&name);
            span.kind(kind);
            span.event_span(&place);
        });
        let resource = Resource::new("tests");
        let bytes = OtlpRequest::new(&resource, spans.as_bytes()).parts().concat();
        let request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        let attributes = &request.resource_spans[0].scope_spans[0].spans[0].attributes;
        for name in ["gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"] {
            let value = attributes.iter().find(|attribute| attribute.key == name).unwrap().value.clone().unwrap().value;
            assert_eq!(format!("{value:?}"), "Some(IntValue(7))", "{name}");
        }
    }
}
